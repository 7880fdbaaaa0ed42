"""dlt's table of loads, which also says what is under way and what was given up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

from dlt.common.schema import Schema
from dlt.common.schema.typing import C_DLT_LOADS_TABLE_LOAD_ID

from dagster_qdrant.destination.loads.dlt_table import DltTable, now
from dagster_qdrant.destination.loads.load_claims import Claim
from dagster_qdrant.destination.loads.load_record import (
    PARTITION_DROP,
    ROW_DELETION,
    LoadRecord,
    LoadStatus,
)
from dagster_qdrant.destination.loads.schema_table import SchemaTable
from dagster_qdrant.destination.tables.point_ids import content_point_id
from dagster_qdrant.qdrant.collections import Collections
from dagster_qdrant.qdrant.points import matches

# Loads that this process has found to be complete, each with the collection where that stands.
_complete: set[tuple[str, str]] = set()
_MANY_LOADS = 10_000


class LoadTable(DltTable):
    """The loads of a dataset.

    Args:
        collections: The dataset's collections.
        schema: The schema whose naming convention the fields follow, and which is loaded.
        schemas: The schemas of the dataset; a load is written down with that which it has.
    """

    def __init__(self, collections: Collections, schema: Schema, schemas: SchemaTable) -> None:
        super().__init__(collections, schema, schema.loads_table_name)
        self._schemas = schemas

    def completed(self, load_ids: Set[str]) -> set[str]:
        """Which of some loads are complete, and so stay it; each that is, is looked up once."""
        known = {load for load in load_ids if (self._collection, load) in _complete}
        load_id, status = self._field(C_DLT_LOADS_TABLE_LOAD_ID), self._field("status")
        pages = self._collections.pages_with(
            self._collection, load_id, sorted(load_ids - known), payload=[load_id, status]
        )
        loads = [record.payload or {} for records in pages for record in records]
        found = {load[load_id] for load in loads if load[status] == LoadStatus.COMPLETE}
        if len(_complete) > _MANY_LOADS:
            _complete.clear()
        _complete.update((self._collection, load) for load in found)
        return known | found

    def record(self, load_id: str) -> LoadRecord | None:
        """What is written down of a load of the schema."""
        point_id = content_point_id(self._collection, self._key(load_id))
        payload = self._collections.payload(self._collection, point_id)
        return self._record(payload) if payload else None

    def of_table(self, table_name: str) -> list[LoadRecord]:
        """The complete loads of a table, also those that did no more than remove rows."""
        names = (C_DLT_LOADS_TABLE_LOAD_ID, "status", "claims", "removed")
        fields = list(map(self._field, names))
        complete = matches({self._field("status"): int(LoadStatus.COMPLETE)})
        pages = self._collections.pages(self._collection, complete, payload=fields, page=1000)
        loads = [self._record(point.payload or {}) for points in pages for point in points]
        return [load for load in loads if any(claim.name == table_name for claim in load.claims)]

    def removals(self) -> list[LoadRecord]:
        """The complete loads that did no more than remove rows."""
        names = (C_DLT_LOADS_TABLE_LOAD_ID, "status", "claims", "removed")
        fields = list(map(self._field, names))
        condition = {
            self._field("status"): int(LoadStatus.COMPLETE),
            self._field("pipeline_name"): [PARTITION_DROP, ROW_DELETION],
        }
        pages = self._collections.pages(
            self._collection, matches(condition), payload=fields, page=1000
        )
        loads = [self._record(point.payload or {}) for points in pages for point in points]
        return [load for load in loads if load.removed is not None]

    def unfinished(self) -> list[LoadRecord]:
        """The loads that run, and those that ended without being complete."""
        unfinished = [int(LoadStatus.RUNNING), int(LoadStatus.FAILED)]
        pages = self._collections.pages(
            self._collection, matches({self._field("status"): unfinished}), payload=True, page=1000
        )
        return [self._record(point.payload or {}) for points in pages for point in points]

    def begin(self, load: LoadRecord) -> None:
        """Write down that a load begins."""
        field = self._field
        begun = {
            field("pipeline_name"): load.pipeline_name,
            field("heartbeat"): load.heartbeat,
            field("tables"): list(load.tables),
            field("claims"): [claim.to_payload() for claim in load.claims],
        }
        if load.owner:
            begun[field("owner")] = load.owner
        self._store(load.load_id, load.status, begun)

    def claim(self, load_id: str, claims: Iterable[Claim]) -> None:
        """Write down what a load that runs claims."""
        payload = [claim.to_payload() for claim in claims]
        self.change(load_id, LoadStatus.RUNNING, claims=payload)

    def change(self, load_id: str, before: LoadStatus, **changes: Any) -> None:
        """Change what is written down of a load, if its status is still the one it was before."""
        connection = self._collections.connection
        connection.request(
            connection.client.set_payload,
            self._collection,
            payload={self._field(name): value for name, value in changes.items()},
            points=self._where(load_id, before),
            wait=True,
        )

    def complete(self, load_id: str, removed: Mapping[str, int] | None = None) -> bool:
        """Write down that a load is complete; with this its rows count.

        Args:
            load_id: The load.
            removed: How many rows it removed, by table, if it did nothing else.

        Returns:
            False if another load has taken it for dead.
        """
        complete: dict[str, Any] = {"status": int(LoadStatus.COMPLETE), "inserted_at": now()}
        if removed is not None:
            complete["removed"] = dict(removed)
        self.change(load_id, LoadStatus.RUNNING, **complete)
        record = self.record(load_id)
        if record is None:  # somebody removed what was written down
            self._store(load_id, LoadStatus.COMPLETE, {})
            return True
        return record.status is LoadStatus.COMPLETE

    def _record(self, payload: Mapping[str, Any]) -> LoadRecord:
        field = self._field
        return LoadRecord(
            load_id=payload[field(C_DLT_LOADS_TABLE_LOAD_ID)],
            pipeline_name=payload.get(field("pipeline_name"), ""),
            status=LoadStatus(payload[field("status")]),
            heartbeat=payload.get(field("heartbeat"), 0),
            tables=tuple(payload.get(field("tables"), ())),
            claims=Claim.read(payload.get(field("claims"), ())),
            owner=payload.get(field("owner"), ""),
            removed=payload.get(field("removed")),
        )

    def _store(self, load_id: str, status: LoadStatus, more: dict[str, Any]) -> None:
        field = self._field
        row = {
            field(C_DLT_LOADS_TABLE_LOAD_ID): load_id,
            field("schema_name"): self._schema.name,
            field("status"): int(status),
            field("inserted_at"): now(),
            field("schema_version_hash"): self._schemas.kept_version_hash,
        }
        self._write(self._key(load_id), row | more)

    def _key(self, load_id: str) -> list[str]:
        return [self._schema.name, load_id]

    def _where(self, load_id: Any, status: LoadStatus) -> Any:
        field = self._field
        return matches({field(C_DLT_LOADS_TABLE_LOAD_ID): load_id, field("status"): int(status)})
