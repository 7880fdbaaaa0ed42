"""Text -> points, with the model that a collection was embedded with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dagster_qdrant.embedding.embedder import load_embedder
from dagster_qdrant.embedding.options import VECTOR_NAME_PREFIX, EmbeddingOptions, models_for_vector
from dagster_qdrant.embedding.prefixes import prefixes_of_makers
from dagster_qdrant.errors import EmbeddingError, QdrantNotFoundError, QdrantTerminalError
from dagster_qdrant.qdrant.collections import Collections, about, vector_params
from dagster_qdrant.qdrant.connection import Connection

if TYPE_CHECKING:
    from qdrant_client import models


def search(
    connection: Connection,
    collection: str,
    text: str,
    *,
    embedding: EmbeddingOptions,
    limit: int = 10,
    query_filter: models.Filter | None = None,
) -> list[models.ScoredPoint]:
    """Find the points whose texts are nearest in meaning.

    Args:
        connection: The way to Qdrant.
        collection: The collection.
        text: What to look for.
        embedding: How to load a model. Its `model` gives way to the collection's, and so does its
            prefix of questions, unless it is set.
        limit: The most points to return.
        query_filter: A condition on the payload.

    Returns:
        Points with score (cosine similarity, the nearest first) and payload.

    Raises:
        QdrantTerminalError: If the text is blank, there is no such collection, it has no vectors,
            or its model cannot be told or loaded.
    """
    if not text.strip():
        raise QdrantTerminalError("There is no text to search for. Give `text` at least one word.")
    info = Collections(connection, None, "").describe(collection)
    if info is None:
        raise QdrantNotFoundError(
            f"Qdrant at {connection.options} has no collection `{collection}`. Was it loaded, and "
            "under this dataset name?"
        )
    vector_name, options = _model_of(collection, info, embedding)
    try:
        vector = load_embedder(options).embed_query(text)
    except EmbeddingError as error:
        raise QdrantTerminalError(
            f"Collection `{collection}`: {error}{_why_not_here(options, embedding)}"
        ) from error
    held = vector_params(info)[vector_name].size
    if len(vector) != held:
        raise QdrantTerminalError(
            f"Collection `{collection}` holds vectors of {held} dimensions, but the model "
            f"'{options.model}' makes vectors of {len(vector)} now. Set `model` to the one it was "
            "loaded with, or load it again."
        )
    return connection.request(
        connection.client.query_points,
        collection,
        query=vector.tolist(),
        using=vector_name,
        limit=limit,
        query_filter=query_filter,
        with_payload=True,
    ).points


def _model_of(
    collection: str, info: models.CollectionInfo, embedding: EmbeddingOptions
) -> tuple[str, EmbeddingOptions]:
    """The vector to search in, and how what makes such vectors is loaded."""
    if embedding.service:  # its model may give vectors of several sizes
        dimensions = about(info).get("dimensions")
        service = replace(embedding.service, dimensions=dimensions)
        embedding = replace(embedding, service=service)
    names = [name for name in vector_params(info) if name.startswith(VECTOR_NAME_PREFIX)]
    if not names:
        raise QdrantTerminalError(
            f"Collection `{collection}` has no vectors to search. Wrap the resource with "
            "`qdrant_adapter(resource, embed=[...])` and load it again."
        )
    made = about(info)
    model = made.get("model") or _model_of_vector(collection, names, embedding)
    options = replace(embedding, model=model)
    if model.lower() != embedding.model.lower():
        # The files that are configured are those of the configured model.
        options = replace(options, model_path=None)
    if embedding.query_prefix is None:
        options = replace(options, query_prefix=_query_prefix(made, model))
    name = options.vector_name if options.vector_name in names else names[0]
    return name, options


def _model_of_vector(collection: str, names: list[str], embedding: EmbeddingOptions) -> str:
    """The model of a collection that does not say it, by the names of its vectors."""
    if embedding.vector_name in names:
        return embedding.model
    if models := models_for_vector(names[0]):
        return models[0]
    raise QdrantTerminalError(
        f"Collection `{collection}` was embedded with a model that fastembed does not know "
        f"(its vector is named `{names[0]}`). Set `model` to the one it was loaded with."
    )


def _query_prefix(made: Mapping[str, Any], model: str) -> str:
    """What stands before questions in a collection."""
    if "query_prefix" in made:
        return str(made["query_prefix"])
    # It was loaded before there were prefixes, or by another program: passages have none.
    query, passage = prefixes_of_makers(model)
    return "" if passage else query


def _why_not_here(options: EmbeddingOptions, configured: EmbeddingOptions) -> str:
    if options.model == configured.model:
        return ""
    files = f" (`model_path` holds {configured.model!r})" if configured.model_path else ""
    return (
        f" The collection was embedded with {options.model!r}, whatever is configured{files}. To "
        "search it, set `model` to that, and `model_path` where no hub can be reached."
    )
