"""A few points of a collection, read for people to look at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dagster import MetadataValue

from dagster_qdrant.destination.passages import Chunked
from dagster_qdrant.destination.tables.names import is_of_dlt
from dagster_qdrant.pages.markdown import shorten, table, windowed
from dagster_qdrant.pages.vector_map import VectorMap
from dagster_qdrant.qdrant.connection import Connection
from dagster_qdrant.qdrant.queries import Fused, Wanted

if TYPE_CHECKING:
    import numpy as np
    from qdrant_client import models

_ROWS = 5
_SAMPLE = 300
_COLUMNS = 8
_CELL = 100
_LABEL = 28

# What fits into a column of the page.
_INLINE_WIDTH = 60


@dataclass(frozen=True)
class Preview:
    """What to show of a collection.

    Args:
        connection: The way to Qdrant.
        collection: The collection.
        key: The columns that identify a row.
        embed: The columns whose text is embedded.
        vector_name: The vector of these, or None if the collection has none.
        distance: How near two of these vectors are, in Qdrant's words.
        total: How many points the collection has.
        with_rows: Whether what stands in rows may be shown.
        with_map: Whether to draw the vectors.
        chunked: The rows that are found by these points, if they are chunks.
    """

    connection: Connection
    collection: str
    key: Sequence[str]
    embed: Sequence[str]
    vector_name: str | None
    distance: str
    total: int
    with_rows: bool
    with_map: bool
    chunked: Chunked | None = None

    def entries(self) -> Iterator[tuple[str, MetadataValue[Any]]]:
        """Read and yield `preview`, `nearest` and `vector_map`, as far as there is something.

        Three requests that read so many points, however large the collection is.

        Raises:
            QdrantError: If Qdrant does not answer.
        """
        if not (self.with_rows or self.with_map):
            return
        ids, vectors = self._sample()
        vector_map = VectorMap.of(vectors[1]) if self.with_map and vectors[0] else None
        landmarks = [vectors[0][index] for index in vector_map.landmarks] if vector_map else []
        rows: dict[Any, Mapping[str, Any]] = {}
        if self.with_rows and ids:
            rows = self._rows(dict.fromkeys([*ids[:_ROWS], *vectors[0][:1], *landmarks]))
            yield "preview", self._table([rows[id_] for id_ in ids[:_ROWS] if id_ in rows])
            if len(vectors[0]) > 1:
                yield "nearest", self._nearest(vectors[0][0], vectors[1][0], rows)
        if vector_map:
            labels = {
                index: label
                for index, id_ in zip(vector_map.landmarks, landmarks, strict=True)
                if (label := self._label(rows.get(id_, {})))
            }
            yield "vector_map", MetadataValue.md(vector_map.markdown(labels, self.total))

    def _sample(self) -> tuple[list[Any], tuple[list[Any], np.ndarray]]:
        """The first ids (which are hashes, so it is a random sample), and those with a vector."""
        import numpy as np

        name = self.vector_name
        records, _ = self.connection.request(
            self.connection.client.scroll,
            self.collection,
            limit=_ROWS if name is None else _SAMPLE,
            with_payload=False,
            with_vectors=False if name is None else [name],
        )
        found = {
            record.id: np.asarray(record.vector[name], dtype=np.float32)
            for record in records
            if name is not None and isinstance(record.vector, dict) and record.vector.get(name)
        }
        found = {id_: vector for id_, vector in found.items() if np.isfinite(vector).all()}
        return [record.id for record in records], (list(found), np.array(list(found.values())))

    def _rows(self, ids: Iterable[Any]) -> dict[Any, Mapping[str, Any]]:
        records = self.connection.request(
            self.connection.client.retrieve, self.collection, ids=list(ids), with_payload=True
        )
        return {record.id: record.payload or {} for record in records}

    def _nearest(
        self, id_: Any, vector: np.ndarray, rows: Mapping[Any, Mapping[str, Any]]
    ) -> MetadataValue[Any]:
        """A row, and the rows that a search for its vector finds."""
        columns = [*self.key, *self.embed]
        row = rows.get(id_, {})
        scores = {"Cosine": 1.0, "Dot": round(float(vector @ vector), 3)}  # else it is a distance
        itself = {name: value for name, value in row.items() if name in columns}
        itself["score"] = scores.get(self.distance, 0.0)
        others = (
            self._other_rows(vector, row, self.chunked)
            if self.chunked
            else self._other_points(id_, columns)
        )
        found = [other | {"score": round(score, 3)} for other, score in others]
        return self._table([itself, *found], "score")

    def _other_points(self, id_: Any, columns: list[str]) -> list[tuple[dict[str, Any], float]]:
        """The points that are nearest to a point."""
        hits: list[models.ScoredPoint] = self.connection.request(
            self.connection.client.query_points,
            self.collection,
            query=id_,
            using=self.vector_name,
            limit=_ROWS,
            with_payload=columns,
        ).points
        return [(hit.payload or {}, hit.score) for hit in hits]

    def _other_rows(
        self, vector: np.ndarray, chunk: Mapping[str, Any], chunked: Chunked
    ) -> list[tuple[dict[str, Any], float]]:
        """The rows beside its own that a search for a chunk finds, each with its best passage."""
        question = {str(self.vector_name): vector.tolist()}
        [rows] = chunked.search(self.connection, [question], Wanted(_ROWS + 1), Fused(), 1)
        own = chunk.get(chunked.names.parent_id)
        found = []
        for row in rows:
            if row.payload.get(chunked.names.row_id) != own:
                shown = {name: row.payload[name] for name in self.key if name in row.payload}
                shown[chunked.names.text] = next((each.text for each in row.passages), "")
                found.append((shown, row.score))
        return found[:_ROWS]

    def _table(self, rows: Iterable[Mapping[str, Any]], *first: str) -> MetadataValue[Any]:
        # Not as `MetadataValue.table`: the UI squeezes that into a column of the page.
        shown = [
            {name: value for name, value in row.items() if not is_of_dlt(name)} for row in rows
        ]
        columns = [*first, *self.key, *self.embed]
        text = table(shown, first=columns, most=_COLUMNS, width=_CELL)
        is_wide = max(map(len, text.splitlines())) > _INLINE_WIDTH
        return MetadataValue.md(windowed(text) if is_wide else text)

    def _label(self, row: Mapping[str, Any]) -> str:
        """What a point is called: the first of its texts that has words."""
        return next((text for name in self.embed if (text := shorten(row.get(name), _LABEL))), "")
