"""A loaded table that somebody names, to be changed outside of dlt's loads.

Such a change takes its turn among the loads of the table, and is written down as one that brings no
rows: checks and later loads know of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dlt.common.json import json
from dlt.common.schema import Schema
from dlt.common.schema.typing import TTableSchema
from dlt.common.schema.utils import get_nested_tables, get_root_table
from dlt.common.storages.load_package import create_load_id

from dagster_qdrant.destination.configuration import QdrantDestinationConfiguration
from dagster_qdrant.destination.loads.dead_loads import give_up
from dagster_qdrant.destination.loads.dlt_tables import DltTables
from dagster_qdrant.destination.loads.load_claims import Claim
from dagster_qdrant.destination.loads.load_leases import LoadLease
from dagster_qdrant.destination.loads.load_record import LoadRecord, LoadStatus
from dagster_qdrant.destination.loads.schema_table import SchemaTable
from dagster_qdrant.destination.lookup import collection_names, near_collections, usual_collection
from dagster_qdrant.errors import QdrantNotFoundError, QdrantTerminalError
from dagster_qdrant.qdrant.collections import Collections, about
from dagster_qdrant.qdrant.connection import Connection, connect
from dagster_qdrant.stopping import last_words


@dataclass(frozen=True)
class FoundTable:
    """A table whose collection was loaded by this package.

    Args:
        name: The name that dlt has given to it.
        schema: The schema that it was loaded with last.
        collections: The dataset's collections, while the table is open.
        config: The destination's options.
    """

    name: str
    schema: Schema
    collections: Collections
    config: QdrantDestinationConfiguration

    @property
    def root(self) -> TTableSchema:
        """The table, or the one that it is nested in."""
        return get_root_table(self.schema.tables, self.name)

    @property
    def nested(self) -> list[TTableSchema]:
        """The tables nested in it, of all levels, parents first."""
        return get_nested_tables(self.schema.tables, self.name, include_self=False)

    def refuse_nested(self, remedy: str) -> None:
        """Refuse a table whose rows belong to those of another one.

        Raises:
            QdrantTerminalError: If it is one, with what to do.
        """
        if self.root["name"] != self.name:
            raise QdrantTerminalError(
                f"Table `{self.name}` is nested in `{self.root['name']}`. {remedy} of that one; "
                "the rows nested in it go with it."
            )

    @contextmanager
    def removing(self, doing: str, part: str | None = None) -> Iterator[Counter[str]]:
        """Have the table, or a part of it, for oneself; waits for the loads of it that run.

        What was removed is written down, also where it dies half-way.

        Args:
            doing: What stands in the books in the place of a pipeline's name.
            part: The partition; None: all of it.

        Yields:
            To be counted in: how many rows went, by table.
        """
        dlt_tables = DltTables(self.collections, self.schema)
        claims = (Claim(self.name, part),)
        load = LoadRecord(create_load_id(), doing, LoadStatus.RUNNING, claims=claims)
        options = self.config.connection
        lease = LoadLease(load, self.config.abandoned_after, lambda: connect(options))
        removed: Counter[str] = Counter()
        try:
            with lease.alive(dlt_tables):
                yield removed
                lease.complete(dlt_tables, removed)
        except BaseException:
            with last_words():
                if removed:
                    dlt_tables.loads.complete(load.load_id, removed)
                else:
                    give_up(load, dlt_tables)
            raise
        finally:
            lease.release()


@contextmanager
def found_table(
    config: QdrantDestinationConfiguration, dataset_name: str | None, table: str
) -> Iterator[FoundTable]:
    """Find a table, and stay connected.

    Args:
        config: The destination's options.
        dataset_name: The dataset as somebody names it, or None.
        table: The table as somebody names it.

    Raises:
        QdrantTerminalError: If there is no such table, or it is one of dlt's own.
    """
    with connect(config.connection) as connection:
        collections, name = _find(connection, config, dataset_name, table)
        schema = _schema_of(collections, name)
        if name in schema.dlt_table_names():
            raise QdrantTerminalError(
                f"`{name}` is one of the tables in which dlt keeps books on loads. Its rows stay."
            )
        yield FoundTable(name, schema, collections, config)


def _find(
    connection: Connection,
    config: QdrantDestinationConfiguration,
    dataset_name: str | None,
    table: str,
) -> tuple[Collections, str]:
    """The collections of a dataset, and the name that dlt has given to a table."""
    for collection in collection_names(connection, config, dataset_name, table):
        info = Collections(connection, None, config.dataset_separator).describe(collection)
        if info is not None and (owner := about(info)):
            dataset = Collections(connection, owner["dataset"], config.dataset_separator)
            return dataset, str(owner["table"])
    usual = usual_collection(config, dataset_name, table)
    raise QdrantNotFoundError(
        f"Qdrant at {config.connection} has no collection `{usual}` that was loaded by this "
        f"package. {near_collections(connection, usual)}"
    )


def _schema_of(collections: Collections, name: str) -> Schema:
    """The schema that a table was loaded with last."""
    for stored in SchemaTable(collections, Schema("lookup")).all():
        known = json.loads(stored.schema)
        if name in known["tables"]:
            return Schema.from_stored_schema(known)
    raise QdrantNotFoundError(f"No schema of dataset `{collections.dataset_name}` has `{name}`.")
