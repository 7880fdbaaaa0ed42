"""By what a collection can be searched: what it was loaded with, whatever is configured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dagster_qdrant.destination.passages import Chunked
from dagster_qdrant.destination.tables.hints import TableHint
from dagster_qdrant.embedding.embedder import load_embedder
from dagster_qdrant.embedding.options import VECTOR_NAME_PREFIX, EmbeddingOptions, models_for_vector
from dagster_qdrant.embedding.prefixes import prefixes_of_makers
from dagster_qdrant.embedding.sparse import KEYWORD_VECTOR, KeywordModel
from dagster_qdrant.errors import EmbeddingError, QdrantNotFoundError, QdrantTerminalError
from dagster_qdrant.qdrant.collections import CHUNKS_IN, Collections, about, vector_params
from dagster_qdrant.qdrant.connection import Connection

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class SearchWays:
    """By what a collection can be searched.

    Args:
        collection: The collection.
        vector_name: Its dense vector; None if it has none.
        options: The model of that.
        keywords: The model of its keywords; None if it has none.
        configured: The model that is configured.
        size: The dense vector's number of dimensions.
        columns: The columns whose text it is searched by; empty if that is not known.
        chunked: The collection of rows, where these are found by their chunks. Then all else is
            said of the chunks' collection.
    """

    collection: str
    vector_name: str | None
    options: EmbeddingOptions
    keywords: KeywordModel | None
    configured: EmbeddingOptions
    size: int = 0
    columns: tuple[str, ...] = ()
    chunked: Chunked | None = None

    @classmethod
    def of(cls, connection: Connection, collection: str, embedding: EmbeddingOptions) -> SearchWays:
        """Read them off a collection."""
        info = Collections(connection, None, "").describe(collection)
        if info is None:
            raise QdrantNotFoundError(
                f"Qdrant at {connection.options} has no collection `{collection}`. Was it loaded, "
                "and under this dataset name?"
            )
        if chunks := about(info).get(CHUNKS_IN):
            try:
                ways = cls.of(connection, chunks, embedding)
            except QdrantNotFoundError:  # no row had a text so far
                ways = cls(chunks, None, embedding, None, embedding)
            rows = TableHint.read(about(info))
            not_there = frozenset(rows.chunked) - rows.index.keys()
            return replace(ways, chunked=Chunked(collection, chunks, not_there))
        dense = [name for name in vector_params(info) if name.startswith(VECTOR_NAME_PREFIX)]
        has_keywords = KEYWORD_VECTOR in (info.config.params.sparse_vectors or {})
        if not dense and not has_keywords:
            raise QdrantTerminalError(
                f"Collection `{collection}` has no vectors to search. Wrap the resource with "
                "`qdrant_adapter(resource, embed=[...])` and load it again."
            )
        hint = TableHint.read(about(info))
        said = hint.keywords
        keywords = (said.model if said else KeywordModel()) if has_keywords else None
        columns = hint.embed or tuple(said.columns if said else ())
        if not dense:
            return cls(collection, None, embedding, keywords, embedding, columns=columns)
        name, options = _model_of(collection, about(info), dense, embedding)
        size = vector_params(info)[name].size
        return cls(collection, name, options, keywords, embedding, size, columns)

    def chosen(self, mode: str) -> list[str]:
        """The ways that a mode means here.

        Raises:
            QdrantTerminalError: If the collection has none of them.
        """
        there = {"dense": self.vector_name is not None, "keywords": self.keywords is not None}
        asked = {"auto": [way for way in there if there[way]], "hybrid": list(there)}
        ways = asked.get(mode, [mode])
        if missing := [way for way in ways if not there[way]]:
            lacks, remedy = {
                "dense": ("vectors of meaning", "embed=[...]"),
                "keywords": ("keywords", "keywords=True"),
            }[missing[0]]
            raise QdrantTerminalError(
                f"Collection `{self.collection}` has no {lacks}, which `mode` {mode!r} asks for. "
                f"Wrap the resource with `qdrant_adapter(resource, {remedy})` and load it again, "
                "or leave `mode` out."
            )
        return ways

    def weights(self, by_way: Mapping[str, float] | None) -> dict[str, float] | None:
        """Weights of ways, by the names of their vectors."""
        names = {"dense": str(self.vector_name), "keywords": KEYWORD_VECTOR}
        return {names[way]: weight for way, weight in (by_way or {}).items()} or None

    def vectors(self, texts: Sequence[str], ways: Sequence[str]) -> list[dict[str, Any]]:
        """For each text, what is compared with which vector."""
        found: list[dict[str, Any]] = [{} for _ in texts]
        if "dense" in ways:
            try:
                embedder = load_embedder(self.options)
                for text, vectors in zip(texts, found, strict=True):
                    vectors[str(self.vector_name)] = self._fit(embedder.embed_query(text)).tolist()
            except EmbeddingError as error:
                why = _why_not_here(self.options, self.configured)
                raise QdrantTerminalError(
                    f"Collection `{self.collection}`: {error}{why}"
                ) from error
        if "keywords" in ways and self.keywords:
            for text, vectors in zip(texts, found, strict=True):
                of_keywords = self.keywords.query(text)
                if of_keywords.indices:  # a question of stopwords alone has none
                    vectors[KEYWORD_VECTOR] = of_keywords
        return found

    def _fit(self, vector: Vectors) -> Vectors:
        """A vector, if it has the dimensions of the collection's."""
        if len(vector) == self.size:
            return vector
        raise QdrantTerminalError(
            f"Collection `{self.collection}` holds vectors of {self.size} dimensions, but the "
            f"model '{self.options.model}' makes vectors of {len(vector)} now. Set `model` to the "
            "one it was loaded with, or load it again."
        )


def _model_of(
    collection: str, made: Mapping[str, Any], names: list[str], embedding: EmbeddingOptions
) -> tuple[str, EmbeddingOptions]:
    """The dense vector, and how what makes such vectors is loaded."""
    if embedding.service:  # its model may give vectors of several sizes
        service = replace(embedding.service, dimensions=made.get("dimensions"))
        embedding = replace(embedding, service=service)
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
