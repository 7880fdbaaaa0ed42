"""Rows that are found by the chunks of their texts, each with its best passages.

Each vector is searched for by itself, and chunks of a row count as one, at the best one's place,
before rankings are fused: a row whose one chunk has the meaning and whose other one the words is
found by both. Chunks are fetched until there are as many rows as are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from dagster_qdrant.destination.tables.chunks import ChunkNames
from dagster_qdrant.destination.tables.table_plan import DELETED
from dagster_qdrant.errors import QdrantTerminalError
from dagster_qdrant.qdrant.connection import Connection
from dagster_qdrant.qdrant.points import matches
from dagster_qdrant.qdrant.queries import Fused, Rescored, Wanted, fused_scores, query_request

if TYPE_CHECKING:
    from qdrant_client import models

# How many chunks of each way are fetched for a row that is wanted, and at least.
_CHUNKS_A_ROW, _LEAST_CHUNKS = 4, 200
# How much further is looked where these are of too few rows.
_FURTHER = 4
# How many rows are read at once.
_PAGE = 512


@dataclass(frozen=True)
class Passage:
    """A part of a row's text that fits what was searched for.

    Args:
        text: It.
        score: How well it fits, as the score of a row.
        start: Where it begins in the text of the columns that are embedded, joined by line breaks,
            in characters; None if it is no part of that.
        end: The place of the first character after it.
    """

    text: str
    score: float
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True)
class FoundRow:
    """A row that was found by its chunks.

    Args:
        id: Its point's id.
        score: How well it fits.
        payload: The row.
        passages: Its best passages, the best first.
    """

    id: str
    score: float
    payload: dict[str, Any]
    passages: tuple[Passage, ...]


@dataclass(frozen=True)
class Chunked:
    """A collection of rows whose texts are in chunks.

    Args:
        rows: The collection.
        chunks: The collection of the chunks.
        not_there: The columns of rows that do not stand beside chunks.
        names: How the columns that all chunks have are called.
    """

    rows: str
    chunks: str
    not_there: frozenset[str]
    names: ChunkNames = field(default_factory=ChunkNames)

    def search(
        self,
        connection: Connection,
        vectors: Sequence[Mapping[str, Any]],
        wanted: Wanted,
        fused: Fused,
        passages: int,
    ) -> list[list[FoundRow]]:
        """Find rows by their chunks.

        Args:
            connection: The way to Qdrant.
            vectors: For each text, what is compared with which vector.
            wanted: Which rows.
            fused: How the rows that several vectors find become one ranking.
            passages: How many passages of each row.

        Returns:
            The rows for each text, the best first.

        Raises:
            QdrantTerminalError: If chunks cannot be filtered by what is asked for.
        """
        self._refuse_filter(wanted.query_filter)
        rankings = self._rankings(connection, vectors, wanted, fused)
        rows: dict[str, Any] = {}
        while True:
            # A row that is not there is being loaded, or deleted. The next one takes its place.
            gone = {row for row, record in rows.items() if record is None}
            best = [ranking.best(wanted, passages, gone) for ranking in rankings]
            new = {row for each in best for row, *_ in each} - rows.keys()
            if not new:
                break
            rows |= dict.fromkeys(new) | self._rows(connection, new)
        shown = [each[wanted.offset :] for each in best]
        ids = [chunk for each in shown for *_, chunks in each for chunk, _ in chunks]
        texts = self._texts(connection, ids)
        return [
            [
                FoundRow(
                    str(rows[row].id),
                    score,
                    dict(rows[row].payload or {}),
                    tuple(
                        self._passage(texts[chunk], of) for chunk, of in chunks if chunk in texts
                    ),
                )
                for row, score, chunks in each
            ]
            for each in shown
        ]

    def rescored(
        self,
        connection: Connection,
        found: Sequence[Sequence[FoundRow]],
        by: Sequence[Rescored],
        wanted: Wanted,
    ) -> list[list[FoundRow]]:
        """Put rows that were found into the order of a vector that they have themselves.

        Args:
            connection: The way to Qdrant.
            found: The rows for each text. Those without such a vector are left out.
            by: The vector, and what is compared with it for each text.
            wanted: Which rows, by the new order and its scores.

        Returns:
            The rows for each text, the best first.
        """
        from qdrant_client import models

        by_id = [{row.id: row for row in rows} for rows in found]
        requests = []
        for rows, rescored in zip(by_id, by, strict=True):
            among = models.Filter(must=[models.HasIdCondition(has_id=list(rows))])
            of_rows = replace(wanted, query_filter=among, payload=False)
            if rows:
                question = {rescored.name: rescored.question}
                requests.append(query_request(question, of_rows, Fused()))
        responses = iter(
            connection.request(connection.client.query_batch_points, self.rows, requests=requests)
            if requests
            else []
        )
        return [
            [replace(rows[str(hit.id)], score=hit.score) for hit in next(responses).points]
            if rows
            else []
            for rows in by_id
        ]

    def _refuse_filter(self, query_filter: models.Filter | None) -> None:
        """A condition that no chunk can meet would find nothing, and say nothing."""
        asked = query_filter.model_dump(mode="json", exclude_none=True) if query_filter else {}
        for name, value in _conditions(asked):
            if name == "has_id":
                raise QdrantTerminalError(
                    f"`query_filter` names points of `{self.rows}`, whose rows are found by their "
                    f"chunks, points of `{self.chunks}`. Filter by a column."
                )
            column = str(value).split(".", 1)[0].split("[", 1)[0]
            if column in self.not_there:
                raise QdrantTerminalError(
                    f"`query_filter` asks for `{column}`, whose text is in the chunks of "
                    f"`{self.chunks}` and not beside them. Declare it with "
                    f"`qdrant_adapter(..., index=[{column!r}])`, and load all rows again."
                )

    def _rankings(
        self,
        connection: Connection,
        vectors: Sequence[Mapping[str, Any]],
        wanted: Wanted,
        fused: Fused,
    ) -> list[_Ranking]:
        """The ranking of rows for each text, with as many as are wanted if there are so many."""
        rows = wanted.limit + wanted.offset
        depth = max(_LEAST_CHUNKS, _CHUNKS_A_ROW * rows)
        rankings = [_Ranking({}, fused, self.names.parent_id) for _ in vectors]
        open_ = [number for number, each in enumerate(vectors) if each]
        while open_:
            ways = [(number, way) for number in open_ for way in vectors[number]]
            requests = []
            for number, way in ways:
                # Scores of one way alone are those that are asked for.
                least = wanted.score_threshold if len(vectors[number]) == 1 else None
                of_chunks = replace(
                    wanted,
                    limit=depth,
                    offset=0,
                    score_threshold=least,
                    payload=[self.names.parent_id],
                )
                query = {way: vectors[number][way]}
                requests.append(query_request(query, of_chunks, fused))
            responses = connection.request(
                connection.client.query_batch_points, self.chunks, requests=requests
            )
            more = set()
            for (number, way), response in zip(ways, responses, strict=True):
                rankings[number].ways[way] = response.points
                if len(response.points) == depth:
                    more.add(number)
            open_ = [number for number in open_ if number in more and len(rankings[number]) < rows]
            depth *= _FURTHER
        return rankings

    def _rows(self, connection: Connection, row_ids: Iterable[str]) -> dict[str, Any]:
        """Rows by the ids that dlt gave them."""
        found: dict[str, Any] = {}
        ids = sorted(row_ids)
        for start in range(0, len(ids), _PAGE):
            page = ids[start : start + _PAGE]
            records, _ = connection.request(
                connection.client.scroll,
                self.rows,
                scroll_filter=matches({self.names.row_id: page}),
                limit=2 * len(page),  # a row that is deleted leaves a mark for a while
                with_payload=True,
            )
            for record in records:
                row = record.payload or {}
                if not row.get(DELETED):
                    found[str(row[self.names.row_id])] = record
        return found

    def _texts(self, connection: Connection, ids: Sequence[Any]) -> dict[Any, Any]:
        """The texts of chunks, and their places."""
        found: dict[Any, Any] = {}
        unique = list(dict.fromkeys(ids))
        for start in range(0, len(unique), _PAGE):
            records = connection.request(
                connection.client.retrieve,
                self.chunks,
                ids=unique[start : start + _PAGE],
                with_payload=[self.names.text, self.names.start, self.names.end],
            )
            found |= {record.id: record.payload or {} for record in records}
        return found

    def _passage(self, payload: Mapping[str, Any], score: float) -> Passage:
        names = self.names
        text = str(payload.get(names.text, ""))
        return Passage(text, score, payload.get(names.start), payload.get(names.end))


@dataclass
class _Ranking:
    """What was found for a text.

    Args:
        ways: By vector, the chunks that it found, the best first.
        fused: How the rankings of several vectors become one.
        link: The column that leads from a chunk to its row.
    """

    ways: dict[str, list[Any]]
    fused: Fused
    link: str

    def __len__(self) -> int:
        return len({self._row_of(point) for points in self.ways.values() for point in points})

    def best(
        self, wanted: Wanted, passages: int, gone: Set[str]
    ) -> list[tuple[str, float, list[tuple[Any, float]]]]:
        """The rows that are wanted, with their scores, and their best chunks with theirs.

        Those before them are among them.

        Args:
            wanted: Which rows.
            passages: How many chunks of each.
            gone: Rows that are left out.
        """
        by_row = {way: _first(points, self._row_of) for way, points in self.ways.items()}
        by_chunk = {way: {point.id: point.score for point in p} for way, p in self.ways.items()}
        row_of = {point.id: self._row_of(point) for p in self.ways.values() for point in p}
        scores = fused_scores(by_row, self.fused)
        least = wanted.score_threshold if len(self.ways) > 1 else None
        there = [(row, score) for row, score in scores if row not in gone]
        good = [(row, score) for row, score in there if least is None or score >= least]
        shown = dict(good[: wanted.offset + wanted.limit])
        chunks: dict[str, list[tuple[Any, float]]] = {row: [] for row in shown}
        for chunk, score in fused_scores(by_chunk, self.fused):
            of_row = chunks.get(row_of[chunk])
            if of_row is not None and len(of_row) < passages:
                of_row.append((chunk, score))
        return [(row, score, chunks[row]) for row, score in shown.items()]

    def _row_of(self, point: Any) -> str:
        return str((point.payload or {}).get(self.link))


def _first(points: Iterable[Any], of: Any) -> dict[Any, float]:
    """The scores of the first point of each, in their order."""
    scores: dict[Any, float] = {}
    for point in points:
        scores.setdefault(of(point), point.score)
    return scores


def _conditions(asked: Any) -> Iterable[tuple[str, Any]]:
    """The columns that a filter asks for, and the ids of points."""
    if isinstance(asked, Mapping):
        for name, value in asked.items():
            if name == "has_id" or (name == "key" and isinstance(value, str)):
                yield name, value
            yield from _conditions(value)
    elif isinstance(asked, list):
        for each in asked:
            yield from _conditions(each)
