"""The tables that dlt keeps its books in: made once, and not looked at by each load.

With a schema is stored how these tables were made by then. A load reads the schema anyway, and so
knows that they are there as this version makes them.
"""

from __future__ import annotations

from collections.abc import Callable

from dlt.common.schema import Schema

from dagster_qdrant.destination.loads.schema_table import KeptSchema, SchemaTable
from dagster_qdrant.destination.tables.point_ids import canonical_json
from dagster_qdrant.destination.tables.rows import digest
from dagster_qdrant.destination.tables.table_plan import TablePlan
from dagster_qdrant.destination.writing.table_collection import ensure_collections
from dagster_qdrant.embedding.options import EmbeddingOptions
from dagster_qdrant.errors import QdrantTerminalError, QdrantTransientError
from dagster_qdrant.qdrant.collections import Collections


class Books:
    """dlt's tables of a dataset, as this version makes them.

    Args:
        collections: The dataset's collections.
        schema: The schema whose names they have.
        plan_of: The plan of a table.
        embedding: The options of the model, which none of them needs.
    """

    def __init__(
        self,
        collections: Collections,
        schema: Schema,
        plan_of: Callable[[str], TablePlan],
        embedding: EmbeddingOptions,
    ) -> None:
        self._collections = collections
        self._schema = schema
        self._plan_of = plan_of
        self._embedding = embedding
        self._schemas = SchemaTable(collections, schema)

    @property
    def made(self) -> str:
        """How this version makes them."""
        made = [[plan.table_name, dict(plan.indexes)] for plan in self._plans]
        return digest(canonical_json(made))

    @property
    def _plans(self) -> list[TablePlan]:
        return [self._plan_of(name) for name in sorted(self._schema.dlt_table_names())]

    def make(self) -> None:
        """Make those that are missing, or what they lack."""
        ensure_collections(self._collections, self._plans, self._embedding)

    def open(self) -> KeptSchema | None:
        """See that they are there, and read the schema as it was stored last."""
        try:
            stored = self.newest_schema()
        except QdrantTransientError:
            raise
        except QdrantTerminalError:  # a load died before the index to sort by was there
            self.make()
            return self.newest_schema()
        if not self.are_complete(stored):
            self.make()
        return stored

    def newest_schema(self) -> KeptSchema | None:
        """The schema as it was stored last; None if it never was."""
        return self._schemas.kept(self._schema.name)

    def are_complete(self, stored: KeptSchema | None) -> bool:
        """Whether all of them are as this version makes them, by what is stored."""
        return stored is not None and stored.tables_made == self.made

    def store_schema(self, newest: KeptSchema | None) -> None:
        """Store the schema if it is not the newest, now that all of them are there.

        Also a former version, if it holds again: the newest one says how rows were loaded last.

        Args:
            newest: The newest one, if it is known.
        """
        newest = newest or self.newest_schema()
        is_newest = newest and newest.info.version_hash == self._schemas.kept_version_hash
        if not (is_newest and self.are_complete(newest)):
            self._schemas.store(self.made)
