"""A few points of a collection, read for people to look at."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

from dagster import MetadataValue, TableColumn, TableRecord, TableSchema

from dagster_qdrant.client import Connection
from dagster_qdrant.vector_map import VectorMap

if TYPE_CHECKING:
    import numpy as np
    from qdrant_client import models

    Cell = Union[str, int, float, bool]

_ROWS = 5
_SAMPLE = 300
_COLUMNS = 8
_CELL = 100
_LABEL = 28

# Numbers beyond this lose digits in a browser.
_EXACT_IN_A_BROWSER = 2**53


@dataclass(frozen=True)
class Preview:
    """What to show of a collection.

    Args:
        connection: The way to Qdrant.
        collection: The collection.
        key: The columns that identify a row.
        embed: The columns whose text is embedded.
        vector_name: The vector of these, or None if the collection has none.
        with_rows: Whether what stands in rows may be shown.
        with_map: Whether to draw the vectors.
    """

    connection: Connection
    collection: str
    key: Sequence[str]
    embed: Sequence[str]
    vector_name: str | None
    with_rows: bool
    with_map: bool

    def entries(self) -> Iterator[tuple[str, MetadataValue[Any]]]:
        """Read and yield `preview`, `nearest` and `vector_map`, as far as there is something.

        Three requests that read so many points, however large the collection is.

        Raises:
            QdrantError: If Qdrant does not answer.
        """
        ids, vectors = self._sample()
        vector_map = VectorMap.of(vectors[1]) if self.with_map and vectors[0] else None
        landmarks = [vectors[0][index] for index in vector_map.landmarks] if vector_map else []
        rows: dict[Any, Mapping[str, Any]] = {}
        if self.with_rows and ids:
            rows = self._rows(dict.fromkeys([*ids[:_ROWS], *vectors[0][:1], *landmarks]))
            yield "preview", _table([rows[id_] for id_ in ids[:_ROWS] if id_ in rows], self._first)
            if len(vectors[0]) > 1:
                yield "nearest", self._nearest(vectors[0][0], rows)
        if vector_map:
            labels = {
                index: label
                for index, id_ in zip(vector_map.landmarks, landmarks, strict=True)
                if (label := self._label(rows.get(id_, {})))
            }
            yield "vector_map", MetadataValue.md(vector_map.markdown(labels))

    @property
    def _first(self) -> list[str]:
        return [*self.key, *self.embed]

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

    def _nearest(self, id_: Any, rows: Mapping[Any, Mapping[str, Any]]) -> MetadataValue[Any]:
        """A row, and the rows that a search for its vector finds."""
        hits: list[models.ScoredPoint] = self.connection.request(
            self.connection.client.query_points,
            self.collection,
            query=id_,
            using=self.vector_name,
            limit=_ROWS,
            with_payload=self._first,
        ).points
        itself = {name: value for name, value in rows[id_].items() if name in self._first}
        found = [(hit.payload or {}) | {"score": round(hit.score, 3)} for hit in hits]
        return _table([itself | {"score": 1.0}, *found], ["score", *self._first])

    def _label(self, row: Mapping[str, Any]) -> str:
        """What a point is called: the first of its texts that has words."""
        return next((text for name in self.embed if (text := shorten(row.get(name), _LABEL))), "")


def _table(rows: Sequence[Mapping[str, Any]], first: Sequence[str]) -> MetadataValue[Any]:
    """Rows as a table, which the UI shows as text and never as Markdown or HTML."""
    there = dict.fromkeys(name for row in rows for name in row if not name.startswith("_dlt_"))
    names = [*(name for name in dict.fromkeys(first) if name in there)]
    names += [name for name in there if name not in names]
    shown, left_out = names[:_COLUMNS], len(names) - _COLUMNS
    columns = [TableColumn(name=name) for name in shown]
    if left_out > 0:
        columns.append(TableColumn(name=f"… {left_out} more"))
    return MetadataValue.table(
        [
            TableRecord({column.name: _cell(row.get(column.name)) for column in columns})
            for row in rows
        ],
        TableSchema(columns=columns),
    )


def _cell(value: Any) -> Cell:
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)) and abs(value) < _EXACT_IN_A_BROWSER:
        return value
    return shorten(value, _CELL)


def shorten(value: Any, limit: int) -> str:
    r"""A value as one line of so many characters at most, without any that control a screen.

    Args:
        value: Anything that a payload holds.
        limit: The most characters.

    Example:
        >>> shorten("Blade\nRunner, directed by Ridley Scott", 16)
        'Blade Runner, d…'
    """
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    start = text[: 4 * limit]  # enough, unless it is nearly all white space
    line = " ".join("".join(c if c.isprintable() else " " for c in start).split())
    if len(line) <= limit and len(start) == len(text):
        return line
    return line[: limit - 1].rstrip() + "…"
