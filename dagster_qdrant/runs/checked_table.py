"""A table whose collection is checked, read as far as checks ask for it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dlt.common.schema.typing import TSchemaTables, TTableSchema
from dlt.common.schema.utils import get_nested_tables

from dagster_qdrant.destination.job_client import QdrantJobClient
from dagster_qdrant.destination.tables.rows import Fingerprints, Row
from dagster_qdrant.destination.tables.table_plan import TablePlan
from dagster_qdrant.runs.checked_vector import CheckedVector, numbers_in
from dagster_qdrant.runs.last_load import LastLoad

if TYPE_CHECKING:
    from qdrant_client import models

# The most vectors of a kind that the checks of a collection read; those of tokens are large.
_SAMPLED_VECTORS, _SAMPLED_LATE_VECTORS = 256, 16


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Args:
        passed: Whether all is well.
        description: What was found, in a sentence or two.
        numbers: What it was counted from.
    """

    passed: bool
    description: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SampledText:
    """A text that was read, and the vector that is stored of it.

    Args:
        id: Its point.
        text: The text.
        vector: The vector.
        payload: What was read of the point.
    """

    id: str
    text: str
    vector: Any
    payload: Mapping[str, Any]


class CheckedTable:
    """A table whose collection is there.

    Args:
        client: The job client, entered, with a schema that has the table.
        name: The table, as dlt named it.
        info: What Qdrant says of its collection.
        last_load: What the last load left; None if nothing is known of one.
    """

    def __init__(
        self,
        client: QdrantJobClient,
        name: str,
        info: models.CollectionInfo,
        last_load: LastLoad | None,
    ) -> None:
        self.client = client
        self.name = name
        self.info = info
        self.last_load = last_load
        self.collections = client.collections
        self.connection = client.connection
        self.embedding = client.config.embedding
        self.collection = self.collections.name(name)
        self._samples: dict[str, dict[str, tuple[dict[str, Any], Any]]] = {}

    @cached_property
    def plan(self) -> TablePlan:
        """How its rows become points."""
        return self.client.plan(self.name)

    @property
    def chain(self) -> list[str]:
        """The table, and those that are nested in it."""
        return [str(table["name"]) for table in get_nested_tables(self._tables, self.name)]

    @cached_property
    def nested(self) -> list[TTableSchema]:
        """The nested tables that have a collection."""
        return [
            table
            for table in get_nested_tables(self._tables, self.name, include_self=False)
            if self.collections.exists(self.collections.name(str(table["name"])))
        ]

    @property
    def _tables(self) -> TSchemaTables:
        return self.client.schema.tables

    @cached_property
    def vectors(self) -> list[CheckedVector]:
        """The vectors that its rows have."""
        return list(CheckedVector.all_of(self.plan, self.embedding))

    def fields_of(self, vector: CheckedVector) -> list[str]:
        """The payload fields that tell the text of a vector, and those that lead to other rows."""
        columns, variants = vector.columns, self.plan.variants
        others = [other for name in columns for other in variants.get(name, ())]
        links = [self.plan.parent_id] if self.plan.parent_id else []
        return [vector.hash_field, *columns, *others, *links]

    def sample_of(self, vector: CheckedVector) -> dict[str, tuple[dict[str, Any], Any]]:
        """Payloads and vectors of some points that have a vector; dense ones as arrays."""
        if vector.name not in self._samples:
            records = self.scroll(
                self.collection,
                _SAMPLED_LATE_VECTORS if vector.is_late else _SAMPLED_VECTORS,
                self.points_have_vector(vector.name, True),
                payload=self.fields_of(vector),
                vectors=[vector.name],
            )
            self._samples[vector.name] = {
                str(record.id): (
                    record.payload,
                    record.vector[vector.name]
                    if vector.keywords
                    else numbers_in(record.vector[vector.name]),
                )
                for record in records
            }
        return self._samples[vector.name]

    def texts_of(self, vector: CheckedVector) -> Iterator[SampledText]:
        """The texts of a sample of points, as far as they are what the vector is of."""
        made_by = Fingerprints.of(self.plan, self.embedding)
        for point_id, (payload, stored) in self.sample_of(vector).items():
            row = Row.of(dict(payload), self.plan, made_by, size=0, point_id=point_id)
            if text := vector.text_of(row):
                yield SampledText(point_id, text, stored, payload)

    def points_have_vector(
        self, name: str, have: bool, *, with_text: str | None = None
    ) -> models.Filter:
        """The condition that points have a vector or not, and a text for it if so asked.

        Args:
            name: The vector.
            have: Whether they have it.
            with_text: The field that points have which were loaded with a text for it.
        """
        from qdrant_client import models

        vector = models.HasVectorCondition(has_vector=name)
        if have:
            return models.Filter(must=[vector])
        if with_text is None:
            return models.Filter(must_not=[vector])
        no_text = models.IsEmptyCondition(is_empty=models.PayloadField(key=with_text))
        return models.Filter(must_not=[vector, no_text])

    def scroll(
        self,
        collection: str,
        limit: int,
        condition: models.Filter | None,
        *,
        payload: list[str],
        vectors: list[str] | None = None,
    ) -> list[Any]:
        """Points from a random place on, in the order of their ids, which are random themselves."""
        records: dict[Any, Any] = {}
        for offset in (str(uuid.uuid4()), None):
            if len(records) < limit:
                page, _ = self.collections.scroll(
                    collection,
                    condition,
                    limit=limit,
                    offset=offset,
                    payload=payload,
                    vectors=vectors or False,
                )
                records |= {record.id: record for record in page}
        return list(records.values())[:limit]
