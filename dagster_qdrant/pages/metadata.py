"""What a materialization shows in the UI."""

from __future__ import annotations

import logging
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from dagster import MetadataValue, TableColumn, TableColumnConstraints, TableSchema

from dagster_qdrant.destination.job_client import QdrantJobClient
from dagster_qdrant.destination.tables.hints import EMBED_HINT
from dagster_qdrant.destination.tables.table_plan import PARTITION
from dagster_qdrant.destination.writing.load_counts import LoadCounts
from dagster_qdrant.pages.preview import Preview
from dagster_qdrant.qdrant.collections import about, matches, vector_params

logger = logging.getLogger(__name__)

# Under this name a materialization shows the id of its load.
LOAD_ID = "load_id"


def materialization_metadata(
    client: QdrantJobClient,
    *,
    table_name: str,
    rows_loaded: int,
    counts: Mapping[str, LoadCounts],
    seconds: Mapping[str, float],
    load_ids: Sequence[str],
    partition: str | None,
    preview: bool,
    vector_map: bool,
) -> dict[str, Any]:
    """Describe a table that was just loaded.

    The UI plots numbers over time by their name, so names stay the same and every run has them.
    The load is done by now, so nothing that goes wrong here makes it fail: what cannot be shown is
    left out, and the log says so.

    Args:
        client: The job client, entered.
        table_name: The table, as dlt named it.
        rows_loaded: Rows that the source gave for it.
        counts: What the load did, by table.
        seconds: How long each step of dlt took.
        load_ids: dlt's ids of the loads, which rows carry as `_dlt_load_id`.
        partition: The partition that the run loads, if it is one.
        preview: Whether to show some rows.
        vector_map: Whether to draw the vectors.

    Returns:
        Metadata under Dagster's own names where there are such.
    """
    collection = client.collections.name(table_name)
    counted = counts.get(table_name, LoadCounts())
    metadata: dict[str, Any] = {
        "dagster/table_name": collection,
        "dagster/uri": MetadataValue.text(f"{client.config.connection}/collections/{collection}"),
        "collection": collection,
        "dataset": client.dataset_name or "",
        "rows_loaded": rows_loaded,
        "rows_embedded": counted.embedded,
        "texts_embedded": counted.texts,
        "tokens_embedded": counted.tokens,
        "rows_reused": counted.reused,
        "rows_deleted": counted.deleted + counted.outdated,
        "points_written": counted.written,
        "points_payload_only": counted.payload_only,
        "points_unchanged": counted.unchanged,
        "seconds_embedding": round(counted.seconds_embedding, 3),
        "seconds_writing": round(counted.seconds_writing, 3),
        "rows_per_second": round(counted.rows_per_second, 1),
        "tokens_per_second": round(counted.tokens_per_second, 1),
        **{f"seconds_{step}": round(took, 3) for step, took in seconds.items()},
    }
    if load_ids:
        metadata[LOAD_ID] = load_ids[-1]
    if dashboard := client.config.connection.dashboard_url(collection):
        metadata["dashboard"] = MetadataValue.url(dashboard)
    if table_name in client.schema.tables:
        metadata["write_disposition"] = str(
            client.prepare_load_table(table_name)["write_disposition"]
        )
        nested = [name for name in counts if name.startswith(f"{table_name}__")]
        if nested:
            metadata["nested_collections"] = [
                client.collections.name(name) for name in sorted(nested)
            ]
    shown: dict[str, Any] = {}
    try:
        if partition is not None:
            shown["dagster/partition_row_count"] = MetadataValue.int(
                _rows_of_partition(client, table_name, partition, rows_loaded)
            )
        for name, entry in _read_off(client, table_name, preview=preview, vector_map=vector_map):
            shown[name] = entry
    except Exception as error:  # of Qdrant, numpy or Pillow; see above
        logger.warning(
            "Collection `%s` was loaded, but not all of it can be shown: %s: %s",
            collection,
            type(error).__name__,
            error,
        )
    return shown | metadata  # the UI keeps the order


def _rows_of_partition(
    client: QdrantJobClient, table_name: str, partition: str, rows_loaded: int
) -> int:
    """The rows of a replaced partition; which rows are whose is not known of other tables."""
    collection = client.collections.name(table_name)
    if (
        table_name not in client.schema.tables
        or client.prepare_load_table(table_name)["write_disposition"] != "replace"
        or not client.collections.exists(collection)
    ):
        return rows_loaded
    return client.collections.count(collection, matches({PARTITION: partition}))


def _read_off(
    client: QdrantJobClient, table_name: str, *, preview: bool, vector_map: bool
) -> Iterator[tuple[str, Any]]:
    """What only the collection itself can tell, the most important first."""
    collections = client.collections
    collection = collections.name(table_name)
    columns: Mapping[str, Any] = {}
    if table_name in client.schema.tables:
        columns = client.schema.get_table_columns(table_name)
    info = collections.describe(collection)
    if columns:
        indexed = info.payload_schema if info else {}
        yield "dagster/column_schema", _column_schema(columns, indexed)
    if info is None:  # A resource that never had a row has no collection.
        yield "dagster/row_count", MetadataValue.int(0)
        return
    yield "dagster/row_count", MetadataValue.int(collections.count(collection))
    vectors = vector_params(info)
    vector_name = client.config.embedding.vector_name
    yield from Preview(
        collections.connection,
        collection,
        key=[name for name, column in columns.items() if column.get("primary_key")],
        embed=[name for name, column in columns.items() if column.get(EMBED_HINT)],
        vector_name=vector_name if vector_name in vectors else None,
        with_rows=preview,
        with_map=vector_map,
    ).entries()
    if model := about(info).get("model"):
        yield "model", model
    for name, params in vectors.items():
        yield "vector_name", name
        yield "vector_size", params.size


def _column_schema(columns: Mapping[str, Any], indexed: Container[str]) -> MetadataValue[Any]:
    return MetadataValue.table_schema(
        TableSchema(
            columns=[
                TableColumn(
                    name=name,
                    type=column.get("data_type", "text"),
                    description=column.get("description"),
                    constraints=TableColumnConstraints(
                        nullable=column.get("nullable", True),
                        unique=bool(column.get("unique")),
                        other=[
                            label
                            for hint, label in (
                                (EMBED_HINT, "embedded"),
                                ("primary_key", "primary key"),
                            )
                            if column.get(hint)
                        ]
                        + (["indexed"] if name in indexed else []),
                    ),
                )
                for name, column in columns.items()
            ]
        )
    )
