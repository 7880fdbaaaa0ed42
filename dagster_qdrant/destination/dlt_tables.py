"""dlt's own tables in Qdrant: schemas, pipeline states and completed loads."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

from dlt.common.destination.client import StateInfo, StorageSchemaInfo
from dlt.common.json import json
from dlt.common.schema import Schema
from dlt.common.schema.typing import C_DLT_LOAD_ID, C_DLT_LOADS_TABLE_LOAD_ID

from dagster_qdrant.destination.collections import Collections, IndexType, equals
from dagster_qdrant.destination.point_ids import content_point_id
from dagster_qdrant.errors import QdrantNotFoundError


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

    def indexes(self, table_name: str) -> dict[str, IndexType]:
        """The payload fields of a table that the queries below filter or sort by."""
        field = self._field
        by_table: dict[str, dict[str, IndexType]] = {
            self._schema.version_table_name: {
                field("schema_name"): "keyword",
                field("version_hash"): "keyword",
                field("inserted_at"): "datetime",
            },
            self._schema.loads_table_name: {field(C_DLT_LOADS_TABLE_LOAD_ID): "keyword"},
            self._schema.state_table_name: {
                field("pipeline_name"): "keyword",
                field("created_at"): "datetime",
                field(C_DLT_LOAD_ID): "keyword",
            },
        }
        return by_table.get(table_name, {field(C_DLT_LOAD_ID): "keyword"})

    def exist(self) -> bool:
        """Whether anything was ever loaded into the dataset."""
        return self._collections.exists(self._versions)

    def newest_state(self, pipeline_name: str) -> StateInfo | None:
        """The latest state of a pipeline whose load completed.

        Raises:
            QdrantNotFoundError: If the dataset has no states or no loads.
        """
        condition = equals(self._field("pipeline_name"), pipeline_name)
        order_by = self._field("created_at")
        for payload in self._collections.newest_first(self._states, condition, order_by):
            if self._is_completed(payload.get(self._field(C_DLT_LOAD_ID))):
                return StateInfo.from_normalized_mapping(dict(payload), self._schema.naming)
        return None

    def _is_completed(self, load_id: Any) -> bool:
        connection = self._collections.connection
        found = connection.request(
            connection.client.count,
            self._loads,
            count_filter=equals(self._field(C_DLT_LOADS_TABLE_LOAD_ID), load_id),
            exact=True,
        )
        return found.count > 0

    def newest_schema(self, schema_name: str | None) -> StorageSchemaInfo | None:
        """The latest schema of a name, or of any name; None if there is none."""
        condition = equals(self._field("schema_name"), schema_name) if schema_name else None
        return self._first_schema(condition)

    def schema_by_hash(self, version_hash: str) -> StorageSchemaInfo | None:
        """The schema with a hash; None if it is not stored."""
        return self._first_schema(equals(self._field("version_hash"), version_hash))

    def _first_schema(self, condition: Any) -> StorageSchemaInfo | None:
        order_by = self._field("inserted_at")
        try:
            for payload in self._collections.newest_first(
                self._versions, condition, order_by, page=1
            ):
                return StorageSchemaInfo.from_normalized_mapping(dict(payload), self._schema.naming)
        except QdrantNotFoundError:
            pass  # Nothing was loaded yet, so there is no schema.
        return None

    def table_names(self) -> set[str]:
        """All tables that any stored schema of the dataset has had."""
        names: set[str] = set()
        with suppress(QdrantNotFoundError):  # nothing was loaded yet
            for payload in self._collections.newest_first(
                self._versions, None, self._field("inserted_at"), page=100
            ):
                names |= set(json.loads(payload[self._field("schema")])["tables"])
        return names

    def store_schema(self) -> None:
        """Write the schema, once however often it is written."""
        schema = self._schema
        row = StorageSchemaInfo(
            version_hash=schema.stored_version_hash,
            schema_name=schema.name,
            version=schema.version,
            engine_version=schema.ENGINE_VERSION,
            inserted_at=_now(),  # type: ignore[arg-type]  # as JSON holds it
            schema=json.dumps(schema.to_dict()),
        ).to_normalized_mapping(schema.naming)
        self._write(self._versions, [schema.name, schema.stored_version_hash], row)

    def delete_schema(self) -> None:
        """Forget all stored versions of the schema."""
        condition = equals(self._field("schema_name"), self._schema.name)
        self._collections.delete_where(self._versions, condition)

    def store_load(self, load_id: str) -> None:
        """Write down that a load is complete; with this its rows count."""
        field = self._field
        row = {
            field(C_DLT_LOADS_TABLE_LOAD_ID): load_id,
            field("schema_name"): self._schema.name,
            field("status"): 0,
            field("inserted_at"): _now(),
            field("schema_version_hash"): self._schema.version_hash,
        }
        self._write(self._loads, [self._schema.name, load_id], row)

    def _write(self, collection: str, key: list[str], payload: Mapping[str, Any]) -> None:
        from qdrant_client import models

        point = models.PointStruct(
            id=content_point_id(collection, key), vector={}, payload=dict(payload)
        )
        connection = self._collections.connection
        connection.request(connection.client.upsert, collection, points=[point], wait=True)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat()
