"""What the tables have in common that dlt keeps its books in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from dlt.common.schema import Schema

from dagster_qdrant.destination.tables.payload_indexes import dlt_indexes_of
from dagster_qdrant.destination.tables.point_ids import content_point_id
from dagster_qdrant.errors import QdrantNotFoundError, QdrantTerminalError
from dagster_qdrant.qdrant.collections import Collections


class DltTable:
    """A `_dlt_*` collection of a dataset.

    Args:
        collections: The dataset's collections.
        schema: The schema whose naming convention the fields follow.
        table_name: The table.
    """

    def __init__(self, collections: Collections, schema: Schema, table_name: str) -> None:
        self._collections = collections
        self._schema = schema
        self._field = schema.naming.normalize_identifier
        self._collection = collections.name(table_name)

    def _newest_first(self, condition: Any, order_by: str, **how: Any) -> Iterator[list[Any]]:
        """Rows in pages, the latest first."""
        try:
            yield from self._collections.newest_first(self._collection, condition, order_by, **how)
        except QdrantNotFoundError:
            raise
        except QdrantTerminalError:
            if not self._restore_indexes():
                raise
            yield from self._collections.newest_first(self._collection, condition, order_by, **how)

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

    def _write(self, key: list[str], payload: Mapping[str, Any]) -> None:
        """Write a row, in the place of a former one with the same key."""
        from qdrant_client import models

        point = models.PointStruct(
            id=content_point_id(self._collection, key), vector={}, payload=dict(payload)
        )
        connection = self._collections.connection
        connection.request(connection.client.upsert, self._collection, points=[point], wait=True)


def now() -> str:
    """The time as dlt's tables hold it."""
    return datetime.now(timezone.utc).isoformat()
