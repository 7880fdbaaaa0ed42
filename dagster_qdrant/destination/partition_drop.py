"""Remove the rows of a partition that is no more, as a load that brings none."""

from __future__ import annotations

from contextlib import suppress

from dlt.common.json import json
from dlt.common.schema import Schema
from dlt.common.schema.utils import get_nested_tables, get_root_table
from dlt.common.storages.load_package import create_load_id

from dagster_qdrant.destination.configuration import QdrantDestinationConfiguration
from dagster_qdrant.destination.loads.dlt_tables import (
    PARTITION_DROP,
    DltTables,
    LoadRecord,
    LoadStatus,
)
from dagster_qdrant.destination.loads.load_claims import Claim
from dagster_qdrant.destination.loads.load_leases import LoadLease, give_up
from dagster_qdrant.destination.lookup import collection_names, usual_collection
from dagster_qdrant.destination.tables.table_plan import PARTITION
from dagster_qdrant.errors import QdrantNotFoundError, QdrantTerminalError
from dagster_qdrant.qdrant.collections import Collections, about
from dagster_qdrant.qdrant.connection import Connection, connect
from dagster_qdrant.qdrant.points import matches
from dagster_qdrant.stopping import last_words


def drop_partition(
    config: QdrantDestinationConfiguration, dataset_name: str | None, table: str, partition: str
) -> dict[str, int]:
    """Remove the rows of one partition from a replaced table and those nested in it.

    Args:
        config: The destination's options.
        dataset_name: The dataset as somebody names it, or None.
        table: The table as somebody names it.
        partition: The partition's key.

    Returns:
        How many rows went, by table.

    Raises:
        QdrantTerminalError: If there is no such table, or its rows do not bear their partition.
    """
    with connect(config.connection) as connection:
        collections, name = _find(connection, config, dataset_name, table)
        schema = _schema_of(collections, name)
        _refuse_unmarked(name, schema)
        dlt_tables = DltTables(collections, schema)
        load = LoadRecord(
            create_load_id(), PARTITION_DROP, LoadStatus.RUNNING, claims=(Claim(name, partition),)
        )
        lease = LoadLease(load, config.abandoned_after, lambda: connect(config.connection))
        try:
            with lease.alive(dlt_tables):
                nested = get_nested_tables(schema.tables, name)
                dropped = {
                    each: count
                    for each in (str(nested_table["name"]) for nested_table in nested)
                    if (count := _drop(collections, each, partition))
                }
                lease.complete(dlt_tables)
        except BaseException:
            with last_words():
                give_up(load, dlt_tables)
            raise
        finally:
            lease.release()
    return dropped


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
    raise QdrantNotFoundError(
        f"Qdrant at {config.connection} has no collection "
        f"`{usual_collection(config, dataset_name, table)}` that was loaded by this package."
    )


def _schema_of(collections: Collections, name: str) -> Schema:
    """The schema that a table was loaded with last."""
    for stored in DltTables(collections, Schema("lookup")).schemas():
        known = json.loads(stored.schema)
        if name in known["tables"]:
            return Schema.from_stored_schema(known)
    raise QdrantNotFoundError(f"No schema of dataset `{collections.dataset_name}` has `{name}`.")


def _refuse_unmarked(name: str, schema: Schema) -> None:
    root = get_root_table(schema.tables, name)
    if root["name"] != name:
        raise QdrantTerminalError(
            f"Table `{name}` is nested in `{root['name']}`. Drop the partition of that one; the "
            "rows nested in it go with it."
        )
    if root.get("write_disposition") != "replace":
        raise QdrantTerminalError(
            f"Table `{name}` has the write disposition {root.get('write_disposition')!r}. Rows "
            "bear their partition in replaced tables only: delete the others by a column of "
            "theirs, with `qdrant.get_client()`."
        )


def _drop(collections: Collections, table_name: str, partition: str) -> int:
    collection, rows = collections.name(table_name), matches({PARTITION: partition})
    count = 0
    with suppress(QdrantNotFoundError):  # a nested table that never had a row
        if count := collections.count(collection, rows):
            collections.delete_where(collection, rows)
    return count
