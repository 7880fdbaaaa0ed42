"""dlt's table of schemas, each as it was stored when it was new."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dlt.common.destination.client import StorageSchemaInfo
from dlt.common.json import json
from dlt.common.schema import Schema
from dlt.common.schema.typing import TStoredSchema

from dagster_qdrant.destination.loads.dlt_table import DltTable, now
from dagster_qdrant.destination.tables.hints import without_hints
from dagster_qdrant.errors import QdrantNotFoundError
from dagster_qdrant.qdrant.collections import Collections
from dagster_qdrant.qdrant.points import matches

# With a stored schema stands how dlt's tables were made, so that no load has to look at each.
TABLES_MADE = "_dlt_tables_made"


@dataclass(frozen=True)
class KeptSchema:
    """A schema as it is stored.

    Args:
        info: What dlt knows of it.
        tables_made: How dlt's tables were made when it was stored.
    """

    info: StorageSchemaInfo
    tables_made: str | None


class SchemaTable(DltTable):
    """The schemas that were loaded into a dataset, in all their versions.

    Args:
        collections: The dataset's collections.
        schema: The schema whose naming convention the fields follow, and which is stored.
    """

    def __init__(self, collections: Collections, schema: Schema) -> None:
        super().__init__(collections, schema, schema.version_table_name)

    def exists(self) -> bool:
        """Whether anything was ever loaded into the dataset."""
        return self._collections.exists(self._collection)

    def newest(self, schema_name: str | None) -> StorageSchemaInfo | None:
        """The latest schema of a name, or of any name; None if there is none."""
        condition = matches({self._field("schema_name"): schema_name}) if schema_name else None
        return next(self._stored(condition), None)

    def kept(self, schema_name: str) -> KeptSchema | None:
        """The latest schema of a name with what else is known of it; None if there is none.

        Raises:
            QdrantTerminalError: If a load died before it had made the index to sort by.
        """
        condition = matches({self._field("schema_name"): schema_name})
        for payload in self._payloads(condition):
            return KeptSchema(self._info(payload), payload.get(TABLES_MADE))
        return None

    def newest_of(self, resource_name: str, table_name: str | None) -> StorageSchemaInfo | None:
        """The latest schema, of any name, that has a table or any table of a resource."""
        for stored in self._stored(None):
            tables: Mapping[str, Any] = json.loads(stored.schema)["tables"]
            if table_name in tables or any(
                table.get("resource") == resource_name for table in tables.values()
            ):
                return stored
        return None

    def by_hash(self, version_hash: str) -> StorageSchemaInfo | None:
        """The schema with a hash; None if it is not stored."""
        return next(self._stored(matches({self._field("version_hash"): version_hash})), None)

    def all(self) -> Iterator[StorageSchemaInfo]:
        """All stored schemas, of any name, the latest first."""
        return self._stored(None)

    def table_names(self) -> set[str]:
        """All tables that any stored schema of the dataset has had."""
        schemas = self._stored(None, page=100)
        return {name for stored in schemas for name in json.loads(stored.schema)["tables"]}

    @property
    def kept_version_hash(self) -> str:
        """The hash of the schema as it is stored."""
        return self._kept["version_hash"]

    @cached_property
    def _kept(self) -> TStoredSchema:
        return without_hints(self._schema.to_dict())

    def store(self, tables_made: str) -> None:
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
            inserted_at=now(),  # type: ignore[arg-type]  # as JSON holds it
            schema=json.dumps(kept),
        ).to_normalized_mapping(schema.naming)
        key = [schema.name, kept["version_hash"]]
        self._write(key, row | {TABLES_MADE: tables_made})

    def delete(self) -> None:
        """Forget all stored versions of the schema."""
        condition = matches({self._field("schema_name"): self._schema.name})
        self._collections.delete_where(self._collection, condition)

    def _stored(self, condition: Any, page: int = 1) -> Iterator[StorageSchemaInfo]:
        """The stored schemas, the latest first."""
        return map(self._info, self._payloads(condition, page))

    def _payloads(self, condition: Any, page: int = 1) -> Iterator[dict[str, Any]]:
        order_by = self._field("inserted_at")
        with suppress(QdrantNotFoundError):  # nothing was loaded yet
            for records in self._newest_first(condition, order_by, page=page):
                for record in records:
                    yield dict(record.payload or {})

    def _info(self, payload: dict[str, Any]) -> StorageSchemaInfo:
        return _without_hints(
            StorageSchemaInfo.from_normalized_mapping(payload, self._schema.naming)
        )


def _without_hints(info: StorageSchemaInfo) -> StorageSchemaInfo:
    """A stored schema without the hints that former versions, and dlt's destination, store."""
    stored = json.loads(info.schema)
    kept = without_hints(stored)
    return info if kept is stored else info._replace(schema=json.dumps(kept))
