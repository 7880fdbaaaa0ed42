"""By what a collection can be searched: what it was loaded with, whatever is configured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dagster_qdrant.destination.passages import Chunked
from dagster_qdrant.destination.reranking import Rerank
from dagster_qdrant.destination.tables.chunks import ChunkNames
from dagster_qdrant.destination.tables.hints import TableHint
from dagster_qdrant.destination.tables.keywords import Keywords
from dagster_qdrant.destination.tables.named_vectors import NamedVector
from dagster_qdrant.embedding.embedder import load_embedder
from dagster_qdrant.embedding.options import VECTOR_NAME_PREFIX, EmbeddingOptions, models_for_vector
from dagster_qdrant.embedding.prefixes import prefixes_of_makers
from dagster_qdrant.embedding.sparse import KEYWORD_VECTOR
from dagster_qdrant.errors import (
    EmbeddingError,
    QdrantConfigurationError,
    QdrantNotFoundError,
    QdrantTerminalError,
)
from dagster_qdrant.qdrant.collections import CHUNKS_IN, Collections, about, vector_params
from dagster_qdrant.qdrant.connection import Connection

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from qdrant_client import models

    Vectors = NDArray[np.float32]


_T = TypeVar("_T", Keywords, NamedVector)


@dataclass(frozen=True)
class SearchedVector:
    """A vector of a collection that a model makes.

    Args:
        collection: The collection.
        name: Its name.
        options: The model.
        size: Its number of dimensions.
        columns: The columns whose text it is of; empty if that is not known.
    """

    collection: str
    name: str
    options: EmbeddingOptions
    size: int
    columns: tuple[str, ...] = ()

    def of_questions(self, texts: Sequence[str], configured: EmbeddingOptions) -> list[list[Any]]:
        """What is compared with it, for each text that is searched for.

        Args:
            texts: The texts.
            configured: The model that is configured.

        Raises:
            QdrantTerminalError: If the model cannot be had, or makes other vectors than it did.
        """
        try:
            embedder = load_embedder(self.options)
            return [self._fit(embedder.embed_query(text)).tolist() for text in texts]
        except EmbeddingError as error:
            is_main = self.name.startswith(VECTOR_NAME_PREFIX)  # that of the configured model
            why = _why_not_here(self.options, configured) if is_main else ""
            raise QdrantTerminalError(f"Collection `{self.collection}`: {error}{why}") from error

    def _fit(self, vector: Vectors) -> Vectors:
        """A vector, if it has the dimensions of the collection's."""
        size = vector.shape[-1]
        if size == self.size:
            return vector
        raise QdrantTerminalError(
            f"Collection `{self.collection}` holds vectors of {self.size} dimensions, but the "
            f"model '{self.options.model}' makes vectors of {size} now. Set `model` to the "
            "one it was loaded with, or load it again."
        )


@dataclass(frozen=True)
class SearchWays:
    """By what a collection can be searched.

    Args:
        collection: The collection.
        dense: Its vector of meaning that is searched; None if it has none.
        keywords: How its keywords are made; None if it has none.
        configured: The model that is configured.
        columns: The columns whose text it is searched by; empty if that is not known.
        named: Its further vectors, by name.
        using: The vector that somebody named.
        chunked: The collection of rows, where these are found by their chunks. Then the further
            vectors are those of the rows, and all else is said of the chunks' collection.
    """

    collection: str
    dense: SearchedVector | None
    keywords: Keywords | None
    configured: EmbeddingOptions
    columns: tuple[str, ...] = ()
    named: Mapping[str, SearchedVector] = field(default_factory=dict)
    using: str | None = None
    chunked: Chunked | None = None

    @classmethod
    def of(
        cls,
        connection: Connection,
        collection: str,
        embedding: EmbeddingOptions,
        using: str | None = None,
    ) -> SearchWays:
        """Read them off a collection.

        Args:
            connection: The way to Qdrant.
            collection: The collection.
            embedding: The model that is configured.
            using: The vector that is searched. Default: the main one, or the only one.

        Raises:
            QdrantTerminalError: If it has no vectors, or none of that name.
        """
        info = Collections(connection, None, "").describe(collection)
        if info is None:
            raise QdrantNotFoundError(
                f"Qdrant at {connection.options} has no collection `{collection}`. Was it loaded, "
                "and under this dataset name?"
            )
        hint, there = TableHint.read(about(info)), vector_params(info)
        chunks = about(info).get(CHUNKS_IN)
        if chunks and using not in hint.vectors:
            try:
                ways = cls.of(connection, chunks, embedding, using)
            except QdrantNotFoundError:  # no row had a text so far
                ways = cls(chunks, None, None, embedding)
            not_there = frozenset(hint.chunked) - hint.index.keys()
            chunked = Chunked(collection, chunks, not_there, ChunkNames.read(about(info)))
            named = _named_vectors(collection, hint, there, embedding)
            return replace(ways, chunked=chunked, named=named)
        main = [name for name in there if name.startswith(VECTOR_NAME_PREFIX)]
        has_keywords = KEYWORD_VECTOR in (info.config.params.sparse_vectors or {})
        named = _named_vectors(collection, hint, there, embedding)
        if not main and not has_keywords and not named:
            raise QdrantTerminalError(
                f"Collection `{collection}` has no vectors to search. Wrap the resource with "
                "`qdrant_adapter(resource, embed=[...])` and load it again."
            )
        said = hint.keywords
        keywords = _here(said or Keywords()) if has_keywords else None
        dense = named.get(using) if using else None
        if dense is None and main:
            name, options = _model_of(collection, about(info), main, embedding)
            dense = SearchedVector(collection, name, options, there[name].size, hint.embed)
        elif dense is None and len(named) == 1:
            [dense] = named.values()
        known = [*main, *named, *([KEYWORD_VECTOR] if has_keywords else ())]
        if using is not None and using not in known:
            raise QdrantTerminalError(
                f"Collection `{collection}` has no vector `{using}` that can be searched. It has "
                f"{', '.join(f'`{name}`' for name in known)}."
            )
        columns = dense.columns if dense else ()
        if not columns or using == KEYWORD_VECTOR:
            columns = tuple(said.columns if said else ()) or columns
        return cls(collection, dense, keywords, embedding, columns, named, using)

    @property
    def rows(self) -> str:
        """The collection of the rows."""
        return self.chunked.rows if self.chunked else self.collection

    def chosen(self, mode: str) -> list[str]:
        """The ways that a mode means here. A vector that somebody named is searched alone.

        Raises:
            QdrantTerminalError: If the collection has none of them.
        """
        there = {"dense": self.dense is not None, "keywords": self.keywords is not None}
        if self.chunked and not any(there.values()):  # no row had a text so far
            return []
        asked = {"auto": [way for way in there if there[way]], "hybrid": list(there)}
        if self.using is not None:
            asked["auto"] = ["keywords" if self.using == KEYWORD_VECTOR else "dense"]
        ways = asked.get(mode, [mode])
        unsaid = self.dense is None and self.named and self.using is None
        if unsaid and not self.chunked and (mode == "auto" or "dense" in ways):
            raise QdrantTerminalError(
                f"Collection `{self.collection}` has the vectors "
                f"{', '.join(f'`{name}`' for name in self.named)}. Say which one is searched, "
                f"`using={next(iter(self.named))!r}`."
            )
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

    def reranked_by(self, rerank: Rerank) -> SearchedVector | None:
        """The vector by which rows are reranked; None if a cross-encoder does it.

        Raises:
            QdrantTerminalError: If it is neither a vector nor a cross-encoder.
            QdrantConfigurationError: If something is said that only cross-encoders have.
        """
        name = rerank.model
        vector = self.named.get(name)
        if vector and (rerank.columns or rerank.model_path):
            raise QdrantConfigurationError(
                f"`rerank` names the vector `{name}` of the collection, so `columns` and "
                "`model_path` have no effect. Leave them out."
            )
        if vector is None and self.named:
            try:
                _ = rerank.options(self.configured).description
            except EmbeddingError as error:
                raise QdrantTerminalError(
                    f"{error} Of its vectors, `{self.rows}` can be reranked by "
                    f"{' or '.join(f'`{each}`' for each in self.named)}."
                ) from error
        return vector

    def weights(self, by_way: Mapping[str, float] | None) -> dict[str, float] | None:
        """Weights of ways, by the names of their vectors."""
        names = {"dense": self.dense.name if self.dense else "", "keywords": KEYWORD_VECTOR}
        return {names[way]: weight for way, weight in (by_way or {}).items()} or None

    def vectors(self, texts: Sequence[str], ways: Sequence[str]) -> list[dict[str, Any]]:
        """For each text, what is compared with which vector."""
        found: list[dict[str, Any]] = [{} for _ in texts]
        if "dense" in ways and self.dense:
            questions = self.dense.of_questions(texts, self.configured)
            for question, vectors in zip(questions, found, strict=True):
                vectors[self.dense.name] = question
        if "keywords" in ways and self.keywords:
            for text, vectors in zip(texts, found, strict=True):
                try:
                    of_keywords = self.keywords.query(text, self.configured)
                except EmbeddingError as error:
                    raise QdrantTerminalError(f"Collection `{self.collection}`: {error}") from error
                if of_keywords.indices:  # a question of stopwords alone has none
                    vectors[KEYWORD_VECTOR] = of_keywords
        return found


def _named_vectors(
    collection: str,
    hint: TableHint,
    there: Mapping[str, models.VectorParams],
    embedding: EmbeddingOptions,
) -> dict[str, SearchedVector]:
    """The further vectors that a collection has."""
    return {
        name: SearchedVector(
            collection,
            name,
            _here(vector).options(embedding),
            there[name].size,
            tuple(vector.columns),
        )
        for name, vector in hint.vectors.items()
        if name in there
    }


def _here(made_by: _T) -> _T:
    """What makes vectors, without the folder of its model if that is one of another machine."""
    if made_by.model_path and not Path(made_by.model_path).is_dir():
        return replace(made_by, model_path=None)
    return made_by


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
