"""dlt's own tables in Qdrant: schemas, pipeline states and completed loads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

from dlt.common.destination.client import StateInfo, StorageSchemaInfo
from dlt.common.json import json
from dlt.common.schema import Schema
from dlt.common.schema.typing import C_DLT_LOAD_ID, C_DLT_LOADS_TABLE_LOAD_ID, TStoredSchema

from dagster_qdrant.destination.loads.load_claims import Claim
from dagster_qdrant.destination.loads.load_record import (
    PARTITION_DROP,
    ROW_DELETION,
    LoadRecord,
    LoadStatus,
)
from dagster_qdrant.destination.loads.state_merge import merge_states
from dagster_qdrant.destination.tables.hints import without_hints
from dagster_qdrant.destination.tables.payload_indexes import dlt_indexes_of
from dagster_qdrant.destination.tables.point_ids import content_point_id
from dagster_qdrant.errors import QdrantNotFoundError, QdrantTerminalError
from dagster_qdrant.qdrant.collections import Collections
from dagster_qdrant.qdrant.points import matches

# With a stored schema stands how dlt's tables were made, so that no load has to look at each.
TABLES_MADE = "_dlt_tables_made"
# Loads that this process has found to be complete, each with the collection where that stands.
_complete: set[tuple[str, str]] = set()
_MANY_LOADS = 10_000


@dataclass(frozen=True)
class KeptSchema:
    """A schema as it is stored.

    Args:
        info: What dlt knows of it.
        tables_made: How dlt's tables were made when it was stored.
    """

    info: StorageSchemaInfo
    tables_made: str | None


class DltTables:
    """Reads and writes the `_dlt_*` collections of a dataset.

    Args:
        collections: The dataset's collections.
        schema: The schema whose naming convention the fields follow.
    """

    def __init__(self, collections: Collections, schema: Schema) -> None:
        self._collections = collections
        self._schema = schema
        self._field = schema.naming.normalize_identifier
        self._versions = collections.name(schema.version_table_name)
        self._loads = collections.name(schema.loads_table_name)
        self._states = collections.name(schema.state_table_name)

    @property
    def load_id_field(self) -> str:
        """The payload field with the id of a row's load."""
        return self._field(C_DLT_LOAD_ID)

    @property
    def has_left_writes(self) -> bool:
        """Whether writes that were not waited for, when told to stop, may still arrive."""
        return self._collections.connection.has_left_writes

    def exist(self) -> bool:
        """Whether anything was ever loaded into the dataset."""
        return self._collections.exists(self._versions)

    def newest_state(self, pipeline_name: str) -> StateInfo | None:
        """The latest state of a pipeline whose load completed.

        Raises:
            QdrantNotFoundError: If the dataset has no states or no loads.
        """
        condition = matches({self._field("pipeline_name"): pipeline_name})
        order_by, load_id = self._field("created_at"), self._field(C_DLT_LOAD_ID)
        # The newest one will do, unless its load failed.
        pages = self._newest_first(self._states, condition, order_by, page=1)
        newest = [record.payload or {} for record in next(pages, [])]
        for payload in newest:
            if payload.get(load_id) and self.completed({payload[load_id]}):
                return StateInfo.from_normalized_mapping(payload, self._schema.naming)
        if not newest:
            return None
        # Any number of loads may have failed since the last that completed, and states are large.
        for page in self._newest_first(self._states, condition, order_by, fields=[load_id]):
            loads = {record.id: (record.payload or {}).get(load_id) for record in page}
            completed = self.completed({load for load in loads.values() if load})
            for point_id, load in loads.items():
                if load in completed:
                    payload = self._collections.payload(self._states, point_id)
                    return StateInfo.from_normalized_mapping(payload, self._schema.naming)
        return None

    def pipeline_names(self) -> set[str]:
        """The pipelines that have a state in the dataset, of loads that completed or not."""
        field_name = self._field("pipeline_name")
        names: set[str] = set()
        with suppress(QdrantNotFoundError):  # nothing was loaded yet
            for page in self._collections.pages(self._states, page=1000, payload=[field_name]):
                names |= {(record.payload or {})[field_name] for record in page}
        return names

    def merge_state(self, pipeline_name: str, load_id: str, base: Mapping[str, Any]) -> None:
        """Bring the state of a load together with what others have stored since it began.

        Args:
            pipeline_name: The pipeline.
            load_id: The load, which is not complete yet.
            base: The state from which it began.
        """
        from dlt.common.versioned_state import (
            bump_state_version_if_modified,
            compress_state,
            decompress_state,
        )

        field, connection = self._field, self._collections.connection
        own = matches({field(C_DLT_LOAD_ID): load_id, field("pipeline_name"): pipeline_name})
        try:
            newest = self.newest_state(pipeline_name)
        except QdrantNotFoundError:  # nothing was stored before
            return
        if newest is None or newest.version_hash == base.get("_version_hash"):
            return
        for [record] in self._collections.pages(self._states, own, payload=True, page=1):
            mine = decompress_state((record.payload or {})[field("state")])
            state: Any = merge_states(base, mine, decompress_state(newest.state))
            state["_state_version"] = max(state["_state_version"], newest.version)
            version, version_hash, _ = bump_state_version_if_modified(state)
            changes = {
                "version": version,
                "version_hash": version_hash,
                "state": compress_state(state),
                "created_at": _now(),
            }
            connection.request(
                connection.client.set_payload,
                self._states,
                payload={field(name): value for name, value in changes.items()},
                points=[record.id],
                wait=True,
            )

    def completed(self, load_ids: Set[str]) -> set[str]:
        """Which of some loads are complete, and so stay it; each that is, is looked up once."""
        known = {load for load in load_ids if (self._loads, load) in _complete}
        load_id, status = self._field(C_DLT_LOADS_TABLE_LOAD_ID), self._field("status")
        pages = self._collections.pages_with(
            self._loads, load_id, sorted(load_ids - known), payload=[load_id, status]
        )
        loads = [record.payload or {} for records in pages for record in records]
        found = {load[load_id] for load in loads if load[status] == LoadStatus.COMPLETE}
        if len(_complete) > _MANY_LOADS:
            _complete.clear()
        _complete.update((self._loads, load) for load in found)
        return known | found

    def newest_schema(self, schema_name: str | None) -> StorageSchemaInfo | None:
        """The latest schema of a name, or of any name; None if there is none."""
        condition = matches({self._field("schema_name"): schema_name}) if schema_name else None
        return next(self._schemas(condition), None)

    def kept_schema(self, schema_name: str) -> KeptSchema | None:
        """The latest schema of a name with what else is known of it; None if there is none.

        Raises:
            QdrantTerminalError: If a load died before it had made the index to sort by.
        """
        condition = matches({self._field("schema_name"): schema_name})
        for payload in self._schema_payloads(condition):
            return KeptSchema(self._schema_info(payload), payload.get(TABLES_MADE))
        return None

    def newest_schema_of(
        self, resource_name: str, table_name: str | None
    ) -> StorageSchemaInfo | None:
        """The latest schema, of any name, that has a table or any table of a resource."""
        for stored in self._schemas(None):
            tables: Mapping[str, Any] = json.loads(stored.schema)["tables"]
            if table_name in tables or any(
                table.get("resource") == resource_name for table in tables.values()
            ):
                return stored
        return None

    def schema_by_hash(self, version_hash: str) -> StorageSchemaInfo | None:
        """The schema with a hash; None if it is not stored."""
        return next(self._schemas(matches({self._field("version_hash"): version_hash})), None)

    def schemas(self) -> Iterator[StorageSchemaInfo]:
        """All stored schemas, of any name, the latest first."""
        return self._schemas(None)

    def _schemas(self, condition: Any, page: int = 1) -> Iterator[StorageSchemaInfo]:
        """The stored schemas, the latest first."""
        return map(self._schema_info, self._schema_payloads(condition, page))

    def _schema_payloads(self, condition: Any, page: int = 1) -> Iterator[dict[str, Any]]:
        order_by = self._field("inserted_at")
        with suppress(QdrantNotFoundError):  # nothing was loaded yet
            for records in self._newest_first(self._versions, condition, order_by, page=page):
                for record in records:
                    yield dict(record.payload or {})

    def _schema_info(self, payload: dict[str, Any]) -> StorageSchemaInfo:
        return _without_hints(
            StorageSchemaInfo.from_normalized_mapping(payload, self._schema.naming)
        )

    def _newest_first(
        self, collection: str, condition: Any, order_by: str, **how: Any
    ) -> Iterator[list[Any]]:
        """Rows in pages, the latest first."""
        try:
            yield from self._collections.newest_first(collection, condition, order_by, **how)
        except QdrantNotFoundError:
            raise
        except QdrantTerminalError:
            if not self._restore_indexes():
                raise
            yield from self._collections.newest_first(collection, condition, order_by, **how)

    def _restore_indexes(self) -> bool:
        """Make the indexes of the books that were lost in a copy, say from a path to a server."""
        schema = self._schema
        names = (schema.version_table_name, schema.loads_table_name, schema.state_table_name)
        restored = [
            self._collections.restore_indexes(
                self._collections.name(name), dlt_indexes_of(name, schema)
            )
            for name in names
        ]
        return any(restored)

    def table_names(self) -> set[str]:
        """All tables that any stored schema of the dataset has had."""
        schemas = self._schemas(None, page=100)
        return {name for stored in schemas for name in json.loads(stored.schema)["tables"]}

    @property
    def kept_version_hash(self) -> str:
        """The hash of the schema as it is stored."""
        return self._kept["version_hash"]

    @cached_property
    def _kept(self) -> TStoredSchema:
        return without_hints(self._schema.to_dict())

    def store_schema(self, tables_made: str) -> None:
        """Write the schema, once however often it is written.

        Args:
            tables_made: How dlt's tables are made. They are, by now.
        """
        schema, kept = self._schema, self._kept
        row = StorageSchemaInfo(
            version_hash=kept["version_hash"],
            schema_name=schema.name,
            version=kept["version"],
            engine_version=schema.ENGINE_VERSION,
            inserted_at=_now(),  # type: ignore[arg-type]  # as JSON holds it
            schema=json.dumps(kept),
        ).to_normalized_mapping(schema.naming)
        key = [schema.name, kept["version_hash"]]
        self._write(self._versions, key, row | {TABLES_MADE: tables_made})

    def delete_schema(self) -> None:
        """Forget all stored versions of the schema."""
        condition = matches({self._field("schema_name"): self._schema.name})
        self._collections.delete_where(self._versions, condition)

    def load_record(self, load_id: str) -> LoadRecord | None:
        """What is written down of a load of the schema."""
        point_id = content_point_id(self._loads, self._load_key(load_id))
        payload = self._collections.payload(self._loads, point_id)
        return self._load_record(payload) if payload else None

    def loads_of(self, table_name: str) -> list[LoadRecord]:
        """The complete loads of a table, also those that did no more than remove rows."""
        names = (C_DLT_LOADS_TABLE_LOAD_ID, "status", "claims", "removed")
        fields = list(map(self._field, names))
        complete = matches({self._field("status"): int(LoadStatus.COMPLETE)})
        pages = self._collections.pages(self._loads, complete, payload=fields, page=1000)
        loads = [self._load_record(point.payload or {}) for points in pages for point in points]
        return [load for load in loads if any(claim.name == table_name for claim in load.claims)]

    def removals(self) -> list[LoadRecord]:
        """The complete loads that did no more than remove rows."""
        names = (C_DLT_LOADS_TABLE_LOAD_ID, "status", "claims", "removed")
        fields = list(map(self._field, names))
        condition = {
            self._field("status"): int(LoadStatus.COMPLETE),
            self._field("pipeline_name"): [PARTITION_DROP, ROW_DELETION],
        }
        pages = self._collections.pages(self._loads, matches(condition), payload=fields, page=1000)
        loads = [self._load_record(point.payload or {}) for points in pages for point in points]
        return [load for load in loads if load.removed is not None]

    def unfinished_loads(self) -> list[LoadRecord]:
        """The loads that run, and those that ended without being complete."""
        unfinished = [int(LoadStatus.RUNNING), int(LoadStatus.FAILED)]
        pages = self._collections.pages(
            self._loads, matches({self._field("status"): unfinished}), payload=True, page=1000
        )
        return [self._load_record(point.payload or {}) for points in pages for point in points]

    def _load_record(self, payload: Mapping[str, Any]) -> LoadRecord:
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

    def begin_load(self, load: LoadRecord) -> None:
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
        self._store_load(load.load_id, load.status, begun)

    def claim(self, load_id: str, claims: Iterable[Claim]) -> None:
        """Write down what a load that runs claims."""
        payload = [claim.to_payload() for claim in claims]
        self.change_load(load_id, LoadStatus.RUNNING, claims=payload)

    def change_load(self, load_id: str, before: LoadStatus, **changes: Any) -> None:
        """Change what is written down of a load, if its status is still the one it was before."""
        connection = self._collections.connection
        connection.request(
            connection.client.set_payload,
            self._loads,
            payload={self._field(name): value for name, value in changes.items()},
            points=self._load_where(load_id, before),
            wait=True,
        )

    def complete_load(self, load_id: str, removed: Mapping[str, int] | None = None) -> bool:
        """Write down that a load is complete; with this its rows count.

        Args:
            load_id: The load.
            removed: How many rows it removed, by table, if it did nothing else.

        Returns:
            False if another load has taken it for dead.
        """
        complete: dict[str, Any] = {"status": int(LoadStatus.COMPLETE), "inserted_at": _now()}
        if removed is not None:
            complete["removed"] = dict(removed)
        self.change_load(load_id, LoadStatus.RUNNING, **complete)
        record = self.load_record(load_id)
        if record is None:  # somebody removed what was written down
            self._store_load(load_id, LoadStatus.COMPLETE, {})
            return True
        return record.status is LoadStatus.COMPLETE

    def _store_load(self, load_id: str, status: LoadStatus, more: dict[str, Any]) -> None:
        field = self._field
        row = {
            field(C_DLT_LOADS_TABLE_LOAD_ID): load_id,
            field("schema_name"): self._schema.name,
            field("status"): int(status),
            field("inserted_at"): _now(),
            field("schema_version_hash"): self.kept_version_hash,
        }
        self._write(self._loads, self._load_key(load_id), row | more)

    def _load_key(self, load_id: str) -> list[str]:
        return [self._schema.name, load_id]

    def _load_where(self, load_id: Any, status: LoadStatus) -> Any:
        field = self._field
        return matches({field(C_DLT_LOADS_TABLE_LOAD_ID): load_id, field("status"): int(status)})

    def _write(self, collection: str, key: list[str], payload: Mapping[str, Any]) -> None:
        from qdrant_client import models

        point = models.PointStruct(
            id=content_point_id(collection, key), vector={}, payload=dict(payload)
        )
        connection = self._collections.connection
        connection.request(connection.client.upsert, collection, points=[point], wait=True)


def _without_hints(info: StorageSchemaInfo) -> StorageSchemaInfo:
    """A stored schema without the hints that former versions, and dlt's destination, store."""
    stored = json.loads(info.schema)
    kept = without_hints(stored)
    return info if kept is stored else info._replace(schema=json.dumps(kept))


def _now() -> str:
    return datetime.now(timezone.utc).isoformat()
