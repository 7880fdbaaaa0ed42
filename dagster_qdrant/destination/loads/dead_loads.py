"""Loads that will never be complete: how they are told from others, and what becomes of them."""

from __future__ import annotations

import logging

from dagster_qdrant.destination.loads.dlt_tables import DltTables
from dagster_qdrant.destination.loads.load_record import LoadRecord, LoadStatus
from dagster_qdrant.destination.loads.shared_load import OwnerState, state_of_owner
from dagster_qdrant.qdrant.collections import Collections
from dagster_qdrant.qdrant.points import matches

logger = logging.getLogger(__name__)

PAUSED = -1  # the heartbeat of a load that was told to stop: nobody is at work for it
# Seconds of silence after which a load counts as dead that several steps of a run share, where
# nobody can tell what became of the run.
_PATIENCE = 12 * 3600.0


def is_dead(other: LoadRecord, silence: float, *, abandoned_after: float, own: str) -> bool:
    """Whether a load will never go on.

    Args:
        other: The load.
        silence: Seconds for which its heartbeat has not moved.
        abandoned_after: Seconds of silence after which a load of one process counts as dead.
        own: The owner of the load that looks, if it has one.
    """
    if other.heartbeat == PAUSED:
        return True
    if not other.owner:
        return silence >= abandoned_after
    if other.owner == own:
        return True  # an attempt of this step that failed
    state = state_of_owner(other.owner)
    return silence >= _PATIENCE if state is None else state is OwnerState.OVER


def about_owner(load: LoadRecord) -> str:
    """What to know of a load's owner, for who waits for it."""
    run = f"run {load.owner.partition(' ')[0]}"
    if state_of_owner(load.owner) is None:
        return f"{run}, which this Dagster does not know: it is waited for {_PATIENCE / 3600:.0f} h"
    return f"{run}; if that is dead, terminate it"


def give_up(load: LoadRecord, dlt_tables: DltTables) -> None:
    """Write down that a load will never be complete.

    What it appended stays until the next load of its pipeline, which uses the vectors.
    """
    ended = LoadStatus.FAILED if load.tables else LoadStatus.TAKEN_BACK
    dlt_tables.loads.change(load.load_id, LoadStatus.RUNNING, status=int(ended))


def remove_stragglers(load_id: str, dlt_tables: DltTables, collections: Collections) -> None:
    """Remove what a load appended after it was taken back and before it noticed."""
    record = dlt_tables.loads.record(load_id)
    if record is not None and record.status is LoadStatus.TAKEN_BACK:
        _remove_appended(record, dlt_tables, collections)


def take_back(dead: LoadRecord, dlt_tables: DltTables, collections: Collections) -> None:
    """Remove what a load appended that never became complete."""
    logger.info("Load %s was never completed. The rows that it appended are removed.", dead.load_id)
    # In this order it can be done again from any point, and the load, if it lives after all,
    # notices before it counts as complete.
    dlt_tables.loads.change(dead.load_id, dead.status, status=int(LoadStatus.FAILED))
    _remove_appended(dead, dlt_tables, collections)
    dlt_tables.loads.change(dead.load_id, LoadStatus.FAILED, status=int(LoadStatus.TAKEN_BACK))


def _remove_appended(load: LoadRecord, dlt_tables: DltTables, collections: Collections) -> None:
    for table_name in load.tables:
        rows = matches({dlt_tables.load_id_field: load.load_id})
        collections.delete_where(collections.name(table_name), rows)
