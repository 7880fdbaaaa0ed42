"""The run of Dagster that a load is of, which tells whether the load goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dagster import (
    AssetExecutionContext,
    ConfigurableResource,
    DagsterInstance,
    DagsterRunStatus,
)

from dagster_qdrant.destination.loads.shared_load import OwnerState, owners_known

if TYPE_CHECKING:
    from dagster_qdrant.destination.loads.shared_load import OwnerTeller


def owner_of(context: AssetExecutionContext) -> str:
    """Whose load it is that a step of a graph works on: its run and its graph."""
    handle = context.op_execution_context.op_handle
    return f"{context.run_id} {handle.parent or handle}"


@contextmanager
def runs_known(resource: ConfigurableResource[Any]) -> Iterator[None]:
    """Let what is done with a resource know of runs, for the time of a `with` block.

    Args:
        resource: The resource. In a run it knows its instance; elsewhere the environment may.
    """
    context = resource._state__internal__.resource_context
    if context is not None and context.instance is not None:
        with owners_known(runs_of(context.instance)):
            yield
    elif os.environ.get("DAGSTER_HOME"):
        with DagsterInstance.get() as instance, owners_known(runs_of(instance)):
            yield
    else:
        yield


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
