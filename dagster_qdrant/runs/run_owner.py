"""The run of Dagster that a load is of, which tells whether the load goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagster import AssetExecutionContext, DagsterRunStatus

from dagster_qdrant.destination.loads.shared_load import OwnerState

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from dagster_qdrant.destination.loads.shared_load import OwnerTeller


def owner_of(context: AssetExecutionContext) -> str:
    """Whose load it is that a step of a graph works on: its run and its graph."""
    handle = context.op_execution_context.op_handle
    return f"{context.run_id} {handle.parent or handle}"


def runs_of(instance: DagsterInstance) -> OwnerTeller:
    """Tells what became of the runs of an instance, as owners of loads."""

    def tell(owner: str) -> OwnerState | None:
        run = instance.get_run_by_id(owner.partition(" ")[0])
        if run is None:
            return None
        if run.is_finished:
            return OwnerState.OVER
        is_ending = run.status is DagsterRunStatus.CANCELING
        return OwnerState.ENDING if is_ending else OwnerState.ALIVE

    return tell
