"""The way to Qdrant. Its rooms know nothing of models, of dlt's loads or of Dagster."""
