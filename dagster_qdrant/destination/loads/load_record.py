"""What is written down of a load, in `_dlt_loads`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from dagster_qdrant.destination.loads.load_claims import Claim

# Under these names of pipelines stand what only removed rows: a partition's, or those of a filter.
PARTITION_DROP = "drop_partition"
ROW_DELETION = "delete_rows"


class LoadStatus(IntEnum):
    """State of a load, as in its row of `_dlt_loads`. dlt itself writes and reads 0 only."""

    COMPLETE = 0
    RUNNING = 1
    FAILED = 2
    TAKEN_BACK = 3


@dataclass(frozen=True)
class LoadRecord:
    """What is written down of a load, from its beginning.

    Args:
        load_id: The load.
        pipeline_name: Its pipeline.
        status: How far it is.
        heartbeat: Rises while it runs.
        tables: The tables that it appends to.
        claims: What it has, or waits to have, for itself.
        owner: Whose it is, if several processes share it.
        removed: How many rows it removed, by table, if it did nothing else; None: a load of rows.
    """

    load_id: str
    pipeline_name: str
    status: LoadStatus
    heartbeat: int = 0
    tables: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()
    owner: str = ""
    removed: Mapping[str, int] | None = None
