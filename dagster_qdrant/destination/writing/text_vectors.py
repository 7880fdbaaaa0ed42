"""Rows -> vectors: only of texts that no point has, and of no text twice."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dagster_qdrant.destination.configuration import QdrantDestinationConfiguration
from dagster_qdrant.destination.tables.rows import Row
from dagster_qdrant.destination.tables.table_plan import EMBEDDING_HASH, TablePlan
from dagster_qdrant.destination.writing.load_counts import CutText, LoadCounts
from dagster_qdrant.destination.writing.point_writer import Window
from dagster_qdrant.embedding.embedder import TextsInWork, load_embedder, vector_size
from dagster_qdrant.embedding.sparse import KEYWORD_VECTOR
from dagster_qdrant.errors import EmbeddingError, QdrantTerminalError
from dagster_qdrant.qdrant.collections import Collections, vector_params


@dataclass
class EmbeddedWindow:
    """A window whose texts are being embedded.

    Args:
        window: The window.
        rows_read: How many rows it was made of.
        vectors: Vectors that were there already, by their texts' hash.
        new: The hashes of the texts in the model.
        texts: These texts.
        started: When they were given to it.
        keywords: The vectors of the rows' keywords, by point id.
    """

    window: Window
    rows_read: int
    vectors: dict[str, Any] = field(default_factory=dict)
    new: list[str] = field(default_factory=list)
    texts: TextsInWork | None = None
    started: float = 0.0
    keywords: dict[str, Any] = field(default_factory=dict)


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
        self._collections = collections
        self._plan = plan
        self._config = config
        self._counts = counts
        # Where vectors may be that this load needs.
        self._sources = [plan.target]
        if plan.former and plan.embed:
            former = collections.describe(plan.former)
            held = vector_params(former).get(config.embedding.vector_name) if former else None
            # One of another distance or datatype holds them otherwise than they were made.
            kinds = (
                {"distance": held.distance, "datatype": held.datatype or "float32"} if held else {}
            )
            is_alike = all(plan.settings.get(name, kind) == kind for name, kind in kinds.items())
            if held and is_alike and held.size == vector_size(config.embedding):
                self._sources.append(plan.former)
        # The vectors that were made last, which may not be in the collection yet.
        self._made: dict[str, Any] = {}
        self._made_at = 0.0

    def start(
        self, window: Window, rows_read: int, before: EmbeddedWindow | None
    ) -> EmbeddedWindow:
        """Begin to embed those texts of a window that no point has; keywords are done meanwhile."""
        embedding = self._start_texts(window, rows_read, before)
        if self._plan.keywords:
            rows = {row.point_id: row.keywords for row in window.upsert if row.keywords}
            vectors = self._plan.keywords.model.embed(rows.values())
            embedding.keywords = {
                id_: vector for id_, vector in zip(rows, vectors, strict=True) if vector.indices
            }
        return embedding

    def _start_texts(
        self, window: Window, rows_read: int, before: EmbeddedWindow | None
    ) -> EmbeddedWindow:
        embedding = EmbeddedWindow(window, rows_read)
        texts = {str(row.embedding_hash): row.text for row in window.upsert if row.text is not None}
        if not texts:
            return embedding
        underway = set(before.new if before else ())
        embedding.vectors = {name: self._made[name] for name in texts if name in self._made}
        found = self._vectors_there_already(set(texts) - set(embedding.vectors) - underway)
        self._counts.reused += sum(row.embedding_hash in found for row in window.upsert)
        self._counts.embedded += sum(
            row.text is not None and row.embedding_hash not in found for row in window.upsert
        )
        embedding.vectors |= found
        embedding.new = [
            name for name in texts if name not in embedding.vectors and name not in underway
        ]
        if embedding.new:
            try:
                embedder = load_embedder(self._config.embedding)
            except EmbeddingError as error:
                raise QdrantTerminalError(f"Table `{self._plan.table_name}`: {error}") from error
            embedding.started = time.monotonic()
            embedding.texts = embedder.start([str(texts[name]) for name in embedding.new])
        return embedding

    def give(self, embedding: EmbeddedWindow) -> None:
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
            self._count_cut(embedding, embedding.texts.cut)
        vectors |= self._made
        for row in embedding.window.upsert:
            row.vector = {}
            if row.text is not None:
                row.vector[self._config.embedding.vector_name] = vectors[str(row.embedding_hash)]
            if row.point_id in embedding.keywords:
                row.vector[KEYWORD_VECTOR] = embedding.keywords[row.point_id]
        self._counts.keywords += len(embedding.keywords)

    def _count_cut(self, embedding: EmbeddedWindow, cut: Mapping[int, int]) -> None:
        """Count the texts that the model did not take as a whole."""
        if not cut:
            return
        self._counts.texts_cut += len(cut)
        self._counts.tokens_cut += sum(cut.values())
        position = max(cut, key=lambda each: cut[each])
        text_hash = embedding.new[position]
        row = next(row for row in embedding.window.upsert if row.embedding_hash == text_hash)
        window = load_embedder(self._config.embedding).max_tokens or 0
        self._counts.note_cut(CutText(window + cut[position], window, _name(row, self._plan)))

    def _vectors_there_already(self, embedding_hashes: set[str]) -> dict[str, Any]:
        vector_name = self._config.embedding.vector_name
        found: dict[str, Any] = {}
        for collection in self._sources:
            missing = embedding_hashes - set(found)
            found |= self._collections.vectors(collection, vector_name, EMBEDDING_HASH, missing)
        return found


def _name(row: Row, plan: TablePlan) -> str:
    """What a reader knows a row by."""
    key = [f"`{name}` {str(row.payload.get(name))[:100]}" for name in plan.key]
    return " and ".join(key) or f"point {row.point_id}"
