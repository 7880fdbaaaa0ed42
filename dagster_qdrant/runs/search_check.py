"""The check that rows are found by their texts, as a user's search finds them.

It makes a search for each vector, reads a bounded part of the collection and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dagster_qdrant.destination.passages import Chunked
from dagster_qdrant.destination.search_ways import SearchWays
from dagster_qdrant.destination.tables.rows import embedding_text
from dagster_qdrant.errors import EmbeddingError, QdrantNotFoundError
from dagster_qdrant.qdrant.collections import vector_params
from dagster_qdrant.qdrant.queries import Fused, Rescored, Wanted, query_request
from dagster_qdrant.runs.checked_table import CheckedTable, Finding, SampledText
from dagster_qdrant.runs.checked_vector import CheckedVector, likeness

if TYPE_CHECKING:
    from qdrant_client import models

# Likeness from which on two vectors count as those of one text.
_SAME = 0.95
# How much scores of the same vector may differ, in parts of them.
_ROUNDING = 1e-3
# How many points others find of which a vector of tokens finds the best.
_RESCORED = 50


def search_finds_row(table: CheckedTable) -> Finding:
    """A search for the text of a row finds the row, or one that is just as near."""
    findings = []
    for vector in table.vectors:
        row = next(table.texts_of(vector), None)
        if row is None:
            continue
        try:
            findings.append(_finds(table, vector, row))
        except EmbeddingError as error:
            findings.append(Finding(False, f"The text could not be embedded: {error}"))
    numbers = {name: each for finding in findings for name, each in finding.numbers.items()}
    failed = next((finding for finding in findings if not finding.passed), None)
    if failed:
        return Finding(False, failed.description, numbers)
    if not findings:
        return Finding(True, "No row has a vector of the columns that are embedded now.")
    return Finding(True, "A search for the text of a row finds it.", numbers)


def _finds(table: CheckedTable, vector: CheckedVector, row: SampledText) -> Finding:
    """Whether a search for a text finds its row by one vector."""
    made = vector.embedded(row.text)
    own = likeness(made, row.vector)
    numbers = {vector.number("similarity_of_row"): round(own, 4)}
    if own < _SAME:
        return Finding(
            False,
            f"Point {row.id} is not found by its text, since its {vector.told} is that of another "
            "text or was made by another model. Delete such points and materialize the asset.",
            numbers,
        )
    search = _Search(table, vector, row, made)
    best = search.best_hit()
    if best and not best.is_own:  # the same text may stand in several rows
        near = own if best.text == row.text else likeness(made, vector.embedded(best.text))
    else:
        near = own if best else 0.0
    numbers[vector.number("similarity_of_best_hit")] = round(near, 4)
    if best and (near >= _SAME or search.is_as_near(best)):
        return Finding(True, "A search for the text of a row finds it.", numbers)
    if search.chunked:
        return Finding(
            False,
            f"A search of `{search.chunked.rows}` for the text of chunk {row.id} does not find its "
            f"row, though the chunk's {vector.told} is right. Is the row gone, or the vector index "
            f"of `{table.collection}` damaged?",
            numbers,
        )
    return Finding(
        False,
        f"A search for the text of point {row.id} does not find it, though its {vector.told} is "
        "right. Is the collection's vector index damaged?",
        numbers,
    )


@dataclass(frozen=True)
class _Hit:
    """What a search found first.

    Args:
        is_own: Whether it is the row whose text was searched for.
        text: Its text; of a row with chunks the passage that fits best.
        score: Its score.
    """

    is_own: bool
    text: str
    score: float


class _Search:
    """A search for the text of a row by one vector.

    Args:
        table: The table.
        vector: The vector.
        row: The row.
        made: The vector of its text.
    """

    def __init__(
        self, table: CheckedTable, vector: CheckedVector, row: SampledText, made: Any
    ) -> None:
        self._table = table
        self._vector = vector
        self._row = row
        self._question = vector.question(row.text, made)
        self.chunked = _rows_of_chunks(table)

    def best_hit(self) -> _Hit | None:
        """What is found first; None if nothing is."""
        if self.chunked:
            return self._best_row(self.chunked)
        point = self._query()
        if point is None:
            return None
        payload, variants = point.payload or {}, self._table.plan.variants
        text = embedding_text(payload, self._vector.columns, variants) or ""
        return _Hit(str(point.id) == self._row.id, text, point.score)

    def _best_row(self, chunked: Chunked) -> _Hit | None:
        """As a user's search finds rows: by their chunks."""
        question = {self._vector.name: self._question}
        connection = self._table.connection
        [rows] = chunked.search(connection, [question], Wanted(1), Fused(), passages=1)
        if not rows or not rows[0].passages or not rows[0].passages[0].text:
            return None
        own = self._row.payload.get(chunked.names.parent_id)
        found = rows[0].payload.get(chunked.names.row_id)
        return _Hit(found == own, rows[0].passages[0].text, rows[0].score)

    def is_as_near(self, hit: _Hit) -> bool:
        """Whether what was found is no farther than the row, by whatever distance there is."""
        from qdrant_client import models

        itself = models.Filter(must=[models.HasIdCondition(has_id=[self._row.id])])
        own = None if hit.is_own else self._query(itself)
        if own is None:
            return hit.is_own
        params = vector_params(self._table.info).get(self._vector.name)
        by_distance = params and params.distance in (
            models.Distance.EUCLID,
            models.Distance.MANHATTAN,
        )
        farther = hit.score - own.score if by_distance else own.score - hit.score
        return bool(farther <= _ROUNDING * abs(own.score))

    def _query(self, condition: models.Filter | None = None) -> Any:
        """The point that is nearest, of all or of those that meet a condition."""
        table, vector = self._table, self._vector
        wanted = Wanted(1, query_filter=condition, payload=table.fields_of(vector))
        others = {} if condition else self._found_first()
        if others:  # each token of each text is not compared
            rescored = Rescored(vector.name, self._question, _RESCORED)
            request = query_request(others, wanted, Fused(), rescored)
        else:
            request = query_request({vector.name: self._question}, wanted, Fused())
        [response] = table.connection.request(
            table.connection.client.query_batch_points, table.collection, requests=[request]
        )
        return next(iter(response.points), None)

    def _found_first(self) -> dict[str, Any]:
        """What finds the points that a vector of tokens puts into order, as a search does it."""
        main = next((each for each in self._table.vectors if each.is_main), None)
        if not self._vector.is_late or main is None:
            return {}
        vector = self._table.sample_of(main).get(self._row.id)
        return {main.name: vector[1].tolist()} if vector else {}


def _rows_of_chunks(table: CheckedTable) -> Chunked | None:
    """How rows are found by the chunks of a table, if it has such."""
    plan = table.plan
    if plan.chunk is None or plan.parent is None:
        return None
    rows = table.collections.name(plan.parent)
    try:
        chunked = SearchWays.of(table.connection, rows, table.embedding).chunked
    except QdrantNotFoundError:
        return None
    # Texts that are not cut any more may have left chunks behind.
    return chunked if chunked and chunked.chunks == table.collection else None
