"""What the last load of a table is known to have left: the measure of the checks after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dlt.common.schema.utils import get_nested_tables

from dagster_qdrant.destination.job_client import QdrantJobClient
from dagster_qdrant.destination.writing.load_counts import LoadCounts
from dagster_qdrant.pages.metadata import LOAD_ID


@dataclass(frozen=True)
class LastLoad:
    """What the last load is known to have left.

    Args:
        load_id: dlt's id of the load; None if it is not known.
        points: Points that bear its id, by table.
        row_count: All points of the table's collection after it.
    """

    load_id: str | None
    points: Mapping[str, int]
    row_count: int

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> LastLoad | None:
        """Read off what the materialization of an asset shows; None if it shows no rows."""
        row_count = metadata.get("dagster/row_count")
        if row_count is None:
            return None
        return cls(
            load_id=metadata.get(LOAD_ID),
            points=metadata.get("points_of_load") or {},
            row_count=getattr(row_count, "value", row_count),
        )


def points_of_load(
    client: QdrantJobClient, table_name: str, counts: Mapping[str, LoadCounts]
) -> dict[str, Any]:
    """What a materialization shows of its load, beside its id, for checks to compare with.

    Args:
        client: The job client, entered.
        table_name: The table.
        counts: What the load did, by table.
    """
    if table_name not in client.schema.tables:
        return {}
    tables = [str(table["name"]) for table in get_nested_tables(client.schema.tables, table_name)]
    return {"points_of_load": {name: counts[name].points for name in tables if name in counts}}
