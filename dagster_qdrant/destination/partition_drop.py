"""Remove the rows of a deleted partition, as a load that brings none."""

from __future__ import annotations

from contextlib import suppress

from dagster_qdrant.destination.configuration import QdrantDestinationConfiguration
from dagster_qdrant.destination.found_table import FoundTable, found_table
from dagster_qdrant.destination.loads.load_record import PARTITION_DROP
from dagster_qdrant.destination.tables.table_plan import PARTITION
from dagster_qdrant.errors import QdrantNotFoundError, QdrantTerminalError
from dagster_qdrant.qdrant.collections import Collections
from dagster_qdrant.qdrant.points import matches


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
        QdrantTerminalError: If there is no such table, or its rows carry no partition.
    """
    with found_table(config, dataset_name, table) as found:
        found.refuse_nested("Drop the partition")
        _refuse_unmarked(found)
        names = [found.name, *(str(nested["name"]) for nested in found.nested)]
        with found.removing(PARTITION_DROP, partition) as dropped:
            for name in names:
                if count := _drop(found.collections, name, partition):
                    dropped[name] = count
    return dict(dropped)


def _refuse_unmarked(table: FoundTable) -> None:
    disposition = table.root.get("write_disposition")
    if disposition != "replace":
        raise QdrantTerminalError(
            f"Table `{table.name}` has the write disposition {disposition!r}. Rows carry their "
            "partition in replaced tables only: delete the others by a column of theirs, with "
            "`qdrant.delete_rows`."
        )


def _drop(collections: Collections, table_name: str, partition: str) -> int:
    collection, rows = collections.name(table_name), matches({PARTITION: partition})
    count = 0
    with suppress(QdrantNotFoundError):  # a nested table that never had a row
        if count := collections.count(collection, rows):
            collections.delete_where(collection, rows)
    return count
