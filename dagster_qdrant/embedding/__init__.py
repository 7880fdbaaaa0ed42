"""Texts -> vectors. Its rooms know of models and of the machine, and nothing of Qdrant or dlt."""
