"""A dlt destination for Qdrant. Works in a plain dlt script; knows nothing of Dagster."""

from dagster_qdrant.destination.factory import qdrant

__all__ = ["qdrant"]
