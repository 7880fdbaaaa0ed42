"""What a materialization shows in the UI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster import MetadataValue, TableColumn, TableColumnConstraints, TableSchema

from dagster_qdrant.adapter import EMBED_HINT
from dagster_qdrant.destination.collections import about, vector_params
from dagster_qdrant.destination.job_client import QdrantJobClient
from dagster_qdrant.destination.load_counts import LoadCounts


def materialization_metadata(
    client: QdrantJobClient,
    *,
    table_name: str,
    rows_loaded: int,
    counts: Mapping[str, LoadCounts],
    seconds: Mapping[str, float],
    partitioned: bool,
) -> dict[str, Any]:
    """Describe a table that was just loaded.

    The UI plots numbers over time by their name, so names stay the same and every run has them.

    Args:
        client: The job client, entered.
        table_name: The table, as dlt named it.
        rows_loaded: Rows that the source gave for it.
        counts: What the load did, by table.
        seconds: How long each step of dlt took.
        partitioned: Whether the run loads a partition.

    Returns:
        Metadata under Dagster's own names where there are such.
    """
    schema, collections = client.schema, client.collections
    collection = collections.name(table_name)
    counted = counts.get(table_name, LoadCounts())
    metadata: dict[str, Any] = {
        "dagster/table_name": collection,
        "dagster/uri": MetadataValue.text(f"{client.config.connection}/collections/{collection}"),
        "collection": collection,
        "dataset": client.dataset_name or "",
        "rows_loaded": rows_loaded,
        "rows_embedded": counted.embedded,
        "texts_embedded": counted.texts,
        "rows_reused": counted.reused,
        "rows_deleted": counted.deleted,
        "points_written": counted.written,
        "points_payload_only": counted.payload_only,
        "points_unchanged": counted.unchanged,
        "seconds_embedding": round(counted.seconds_embedding, 3),
        "seconds_writing": round(counted.seconds_writing, 3),
        **{f"seconds_{step}": round(took, 3) for step, took in seconds.items()},
    }
    if partitioned:
        metadata["dagster/partition_row_count"] = MetadataValue.int(rows_loaded)
    info = collections.describe(collection)
    if info is None:  # A resource that never had a row has no collection.
        return metadata | {"dagster/row_count": MetadataValue.int(0)}
    metadata["dagster/row_count"] = MetadataValue.int(collections.count(collection))
    for name, params in vector_params(info).items():
        metadata |= {"vector_name": name, "vector_size": params.size}
    if model := about(info).get("model"):
        metadata["model"] = model
    if table_name in schema.tables:
        metadata["write_disposition"] = str(
            client.prepare_load_table(table_name)["write_disposition"]
        )
        metadata["dagster/column_schema"] = _column_schema(schema.get_table_columns(table_name))
        nested = [name for name in counts if name.startswith(f"{table_name}__")]
        if nested:
            metadata["nested_collections"] = [collections.name(name) for name in sorted(nested)]
    return metadata


def _column_schema(columns: Mapping[str, Any]) -> MetadataValue:
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
                        ],
                    ),
                )
                for name, column in columns.items()
            ]
        )
    )
