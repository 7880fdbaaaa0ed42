"""Rows -> vectors: only of texts that no point has, and of no text twice."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dagster_qdrant.destination.configuration import QdrantDestinationConfiguration
from dagster_qdrant.destination.tables.rows import Row
from dagster_qdrant.destination.tables.table_plan import (
    EMBEDDING_HASH,
    KEYWORDS_HASH,
    TablePlan,
    hash_field,
)
from dagster_qdrant.destination.writing.load_counts import CutText, LoadCounts
from dagster_qdrant.destination.writing.point_writer import Window
from dagster_qdrant.embedding.embedder import TextsInWork, load_embedder, vector_size
from dagster_qdrant.embedding.sparse import KEYWORD_VECTOR, KeywordModel
from dagster_qdrant.errors import EmbeddingError, QdrantTerminalError
from dagster_qdrant.qdrant.collections import Collections, vector_params
from dagster_qdrant.qdrant.local_places import LocalPlaces

if TYPE_CHECKING:
    from dagster_qdrant.embedding.options import EmbeddingOptions


# How many vectors of all tokens of a text are asked for at once, so that an answer stays small.
_LATE_AT_ONCE = 16
# How many texts of a file are measured, of those whose keywords are made into vectors.
_MEASURED = 256


@dataclass
class _TextsOfVector:
    """The texts of a window that are being embedded for one of its rows' vectors.

    Args:
        vectors: Vectors that were made before, by their texts' hash.
        found: The hashes of those among them that a point has.
        new: The hashes of the texts in the model.
        texts: These texts.
        started: When they were given to it.
    """

    vectors: dict[str, Any] = field(default_factory=dict)
    found: frozenset[str] = frozenset()
    new: list[str] = field(default_factory=list)
    texts: TextsInWork | None = None
    started: float = 0.0


@dataclass
class EmbeddedWindow:
    """A window whose texts are being embedded.

    Args:
        window: The window.
        rows_read: How many rows it was made of.
        texts: The texts of each vector.
        keywords: The vectors of the rows' keywords, by point id.
    """

    window: Window
    rows_read: int
    texts: list[_TextsOfVector] = field(default_factory=list)
    keywords: dict[str, Any] = field(default_factory=dict)

    def cancel(self) -> None:
        """Embed no more than what models are at."""
        for each in self.texts:
            if each.texts:
                each.texts.cancel()


class TextVectors:
    """Gives the rows of windows their vectors.

    Args:
        collections: The dataset's collections.
        plan: How the rows become points.
        config: The destination's options.
        counts: Where it is counted what was done.
    """

    def __init__(
        self,
        collections: Collections,
        plan: TablePlan,
        config: QdrantDestinationConfiguration,
        counts: LoadCounts,
    ) -> None:
        self._plan = plan
        self._counts = counts
        self._made_by = [
            _MadeByModel(each, collections, plan, counts) for each in _vectors_of(plan, config)
        ]

    def start(
        self, window: Window, rows_read: int, before: EmbeddedWindow | None
    ) -> EmbeddedWindow:
        """Begin to embed those texts of a window that no point has; keywords are done meanwhile."""
        embedding = EmbeddedWindow(window, rows_read)
        former = before.texts if before else [_TextsOfVector()] * len(self._made_by)
        for made_by, texts in zip(self._made_by, former, strict=True):
            embedding.texts.append(made_by.start(window, texts))
        self._count_rows(embedding)
        if self._plan.keywords and not self._plan.keywords.model:
            rows = {row.point_id: row.keywords for row in window.upsert if row.keywords}
            vectors = self._plan.keywords.bm25.embed(rows.values())
            self._measure(list(rows.values()), self._plan.keywords.bm25)
            embedding.keywords = {
                id_: vector for id_, vector in zip(rows, vectors, strict=True) if vector.indices
            }
        return embedding

    def _measure(self, texts: Sequence[str], model: KeywordModel) -> None:
        """Measure some texts, to see whether they are much longer or shorter than others."""
        lengths = model.lengths(texts[: _MEASURED - self._counts.texts_measured])
        self._counts.texts_measured += len(lengths)
        self._counts.words_measured += sum(lengths)

    def _count_rows(self, embedding: EmbeddedWindow) -> None:
        """Count the rows that get a vector which no point had."""
        for row in embedding.window.upsert if self._made_by else ():
            hashes = (made_by.hash_of(row) for made_by in self._made_by)
            wanted = [
                each in texts.found
                for each, texts in zip(hashes, embedding.texts, strict=True)
                if each is not None
            ]
            self._counts.reused += bool(wanted) and all(wanted)
            self._counts.embedded += not all(wanted)

    def give(self, embedding: EmbeddedWindow) -> None:
        """Wait for the texts of a window, and give each row that is written its vectors."""
        for row in embedding.window.upsert:
            row.vector = {}
        for made_by, texts in zip(self._made_by, embedding.texts, strict=True):
            made_by.give(embedding.window, texts)
        for row in embedding.window.upsert:
            if row.point_id in embedding.keywords:
                row.vector[KEYWORD_VECTOR] = embedding.keywords[row.point_id]
        self._counts.keywords += len(embedding.keywords)


@dataclass(frozen=True)
class _Vector:
    """A vector of rows that a model makes.

    Args:
        name: Its name; empty for the main one, which is named after its model.
        options: The model.
        settings: How the vector is asked to be stored.
    """

    name: str
    options: EmbeddingOptions
    settings: Mapping[str, Any]


def _vectors_of(plan: TablePlan, config: QdrantDestinationConfiguration) -> Iterator[_Vector]:
    if plan.embed:
        yield _Vector("", config.embedding, plan.settings)
    for name, each in plan.vectors.items():
        yield _Vector(name, each.options(config.embedding), each.settings)
    if plan.keywords and plan.keywords.model:
        yield _Vector(KEYWORD_VECTOR, plan.keywords.options(config.embedding), {})


class _MadeByModel:
    """Makes one of the vectors of rows.

    Args:
        vector: The vector.
        collections: The dataset's collections.
        plan: How the rows become points.
        counts: Where it is counted what was done.
    """

    def __init__(
        self, vector: _Vector, collections: Collections, plan: TablePlan, counts: LoadCounts
    ) -> None:
        name, options, settings = vector.name, vector.options, vector.settings
        self._collections = collections
        self._plan = plan
        self._counts = counts
        self._name = name
        self._options = options
        self._vector_name = name or options.vector_name
        self._is_sparse = options.kind == "sparse"
        self._at_once = _LATE_AT_ONCE if options.kind == "late_interaction" else None
        self._hash_field = hash_field(name) if name else EMBEDDING_HASH
        if self._is_sparse:
            self._hash_field = KEYWORDS_HASH
        # Where vectors may be that this load needs.
        self._sources = [plan.target]
        if plan.former and self._are_alike(plan.former, settings):
            self._sources.append(plan.former)
        is_local = collections.connection.is_local  # it compares all points with all values
        self._places = {
            name: LocalPlaces(collections, name, self._hash_field)
            for name in (self._sources if is_local else ())
        }
        # The vectors that were made last, which may not be in the collection yet.
        self._made: dict[str, Any] = {}
        self._made_at = 0.0

    def _are_alike(self, former: str, settings: Mapping[str, Any]) -> bool:
        """Whether a collection holds its vectors as they are made.

        One of another distance or datatype holds them otherwise.
        """
        info = self._collections.describe(former)
        if self._is_sparse:
            return bool(info and self._vector_name in (info.config.params.sparse_vectors or {}))
        held = vector_params(info).get(self._vector_name) if info else None
        if held is None or held.size != vector_size(self._options):
            return False
        kinds: dict[str, Any] = {
            "distance": held.distance,
            "datatype": held.datatype or "float32",
        }
        if self._name:  # what is not asked for of these is as Qdrant has it by default
            settings = {"distance": "Cosine", "datatype": "float32", **settings}
        return all(settings.get(name, kind) == kind for name, kind in kinds.items())

    def hash_of(self, row: Row) -> str | None:
        """The fingerprint of a row's text for it; None if it has none."""
        return row.hashes.get(self._hash_field)

    def _text_of(self, row: Row) -> str | None:
        if self._is_sparse:
            return row.keywords
        return row.texts.get(self._name) if self._name else row.text

    def start(self, window: Window, before: _TextsOfVector) -> _TextsOfVector:
        """Begin to embed those texts of a window that no point has."""
        embedding = _TextsOfVector()
        texts = {
            str(self.hash_of(row)): text
            for row in window.upsert
            if (text := self._text_of(row)) is not None
        }
        if not texts:
            return embedding
        underway = set(before.new)
        embedding.vectors = {name: self._made[name] for name in texts if name in self._made}
        found = self._vectors_there_already(set(texts) - set(embedding.vectors) - underway)
        embedding.found = frozenset(found)
        embedding.vectors |= found
        embedding.new = [
            name for name in texts if name not in embedding.vectors and name not in underway
        ]
        if embedding.new:
            try:
                embedder = load_embedder(self._options)
            except EmbeddingError as error:
                raise QdrantTerminalError(f"Table `{self._plan.table_name}`: {error}") from error
            embedding.started = time.monotonic()
            embedding.texts = embedder.start([texts[name] for name in embedding.new])
        return embedding

    def give(self, window: Window, embedding: _TextsOfVector) -> None:
        """Wait for the texts of a window, and give each row that is written its vector."""
        vectors = self._made | embedding.vectors
        self._made = {}
        if embedding.texts:
            try:
                made = embedding.texts.result()
            except EmbeddingError as error:  # of a service
                raise QdrantTerminalError(f"Table `{self._plan.table_name}`: {error}") from error
            self._made = dict(zip(embedding.new, made, strict=True))
            now = time.monotonic()
            self._counts.seconds_embedding += now - max(embedding.started, self._made_at)
            self._made_at = now
            self._counts.texts += len(embedding.new)
            self._counts.tokens += embedding.texts.tokens
            if self._name and not self._is_sparse:
                self._counts.texts_of_vectors[self._name] += len(embedding.new)
            self._count_cut(window, embedding, embedding.texts.cut)
        vectors |= self._made
        places = self._places.get(self._plan.target)
        for row in window.upsert:
            if (hash_ := self.hash_of(row)) is not None and self._text_of(row) is not None:
                if self._is_sparse and not vectors[hash_].indices:
                    continue
                row.vector[self._vector_name] = vectors[hash_]
                if places is not None:
                    places.add(hash_, row.point_id)
                self._counts.keywords += self._is_sparse and hash_ not in embedding.found

    def _count_cut(self, window: Window, embedding: _TextsOfVector, cut: Mapping[int, int]) -> None:
        """Count the texts that the model did not take as a whole."""
        if not cut:
            return
        self._counts.texts_cut += len(cut)
        self._counts.tokens_cut += sum(cut.values())
        position = max(cut, key=lambda each: cut[each])
        text_hash = embedding.new[position]
        row = next(row for row in window.upsert if self.hash_of(row) == text_hash)
        max_tokens = load_embedder(self._options).max_tokens or 0
        self._counts.note_cut(
            CutText(max_tokens + cut[position], max_tokens, _name(row, self._plan))
        )

    def _vectors_there_already(self, hashes: set[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for collection in self._sources:
            missing = hashes - set(found)
            if collection in self._places:
                found |= self._places[collection].vectors(self._vector_name, missing)
                continue
            found |= self._collections.vectors(
                collection, self._vector_name, self._hash_field, missing, self._at_once
            )
        return found


def _name(row: Row, plan: TablePlan) -> str:
    """What a reader knows a row by."""
    key = [f"`{name}` {str(row.payload.get(name))[:100]}" for name in plan.key]
    return " and ".join(key) or f"point {row.point_id}"
