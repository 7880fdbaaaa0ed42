"""The names of the hints that a resource's columns carry into dlt's schema."""

# dlt's own adapter writes the same hint, so resources that it wrapped load alike.
EMBED_HINT = "x-qdrant-embed"
