"""A table whose collection is checked, read as far as checks ask for it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dlt.common.schema.typing import TSchemaTables, TTableSchema
from dlt.common.schema.utils import get_nested_tables

from dagster_qdrant.destination.job_client import QdrantJobClient
from dagster_qdrant.destination.tables.table_plan import EMBEDDING_HASH, TablePlan, hash_field
from dagster_qdrant.runs.last_load import LastLoad

if TYPE_CHECKING:
    from qdrant_client import models

# The most vectors that the checks of a collection read.
_SAMPLED_VECTORS = 256


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
    def sample(self) -> dict[str, tuple[dict[str, Any], Any]]:
        """Payloads and vectors of some points that have one."""
        import numpy as np

        name = self.embedding.vector_name
        records = self.scroll(
            self.collection,
            _SAMPLED_VECTORS,
            self.points_have_vector(True),
            payload=[EMBEDDING_HASH, *self.plan.embed],
            vectors=[name],
        )
        return {
            str(record.id): (record.payload, np.asarray(record.vector[name], dtype=np.float32))
            for record in records
        }

    def points_have_vector(
        self, have: bool, *, with_text: bool = False, name: str | None = None
    ) -> models.Filter:
        """The condition that points have a vector or not, and a text for it if so asked.

        Args:
            have: Whether they have it.
            with_text: Whether they were loaded with a text for it.
            name: One of the further vectors. Default: the main one.
        """
        from qdrant_client import models

        vector = models.HasVectorCondition(has_vector=name or self.embedding.vector_name)
        if have:
            return models.Filter(must=[vector])
        field = models.PayloadField(key=hash_field(name) if name else EMBEDDING_HASH)
        no_text = models.IsEmptyCondition(is_empty=field)
        return models.Filter(must_not=[vector, no_text] if with_text else [vector])

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
