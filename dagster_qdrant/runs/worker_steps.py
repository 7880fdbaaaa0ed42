"""The steps of assets whose rows are loaded by several workers.

The body of each step is that of the assets, `yield from qdrant.run(context)`; which step it is, its
context tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Union

from dagster import (
    AssetCheckResult,
    AssetExecutionContext,
    DagsterInvariantViolationError,
    MaterializeResult,
    Output,
)

from dagster_qdrant.destination.loads.shared_load import owners_known
from dagster_qdrant.runs.data_version import FormerVersion
from dagster_qdrant.runs.dlt_load import Loaded
from dagster_qdrant.runs.failures import as_failure
from dagster_qdrant.runs.interruption import interruption_heeded
from dagster_qdrant.runs.run import (
    checked_apart,
    known_tables,
    parts_of,
    plan_of_run,
    results_of,
    selection_of,
)
from dagster_qdrant.runs.run_log import logs_shown
from dagster_qdrant.runs.run_owner import owner_of, runs_of
from dagster_qdrant.runs.shared_dlt_load import BeginningLoad, EndingLoad, load_part
from dagster_qdrant.runs.shared_package import BegunLoad, LoadedPart, SharedPackage
from dagster_qdrant.runs.step_graph import (
    BEGUN,
    COMPLETE,
    EXTRACT,
    LOADED,
    PART,
    inputs_of,
    part_output,
    workers_of,
)

if TYPE_CHECKING:
    from dagster_qdrant.runs.options import QdrantOptions
    from dagster_qdrant.runs.plan import QdrantAssetsPlan
    from dagster_qdrant.runs.run import Source

    Event = Union[Output[Any], MaterializeResult[Any], AssetCheckResult]


def run_step(
    resource: QdrantOptions,
    context: AssetExecutionContext,
    *,
    dlt_source: Source | Callable[[str], Source] | None,
    dataset_name: str | None,
    pipeline_name: str | None,
    translator: Any,
    extract_options: Mapping[str, Any],
) -> Iterator[Event]:
    """Do what the step of a context does; see `QdrantResource.run`."""

    def plan(source: Source | None) -> QdrantAssetsPlan:
        return plan_of_run(context, source, dataset_name, pipeline_name, translator)

    name = context.op_execution_context.op_handle.name
    if name == EXTRACT:
        yield from _extract(resource, context, dlt_source, plan, extract_options)
    elif name == COMPLETE:
        yield from _complete(resource, context, dlt_source, plan)
    else:
        yield Output(_load(resource, context, inputs_of(context)[PART]))


def _extract(
    resource: QdrantOptions,
    context: AssetExecutionContext,
    dlt_source: Source | Callable[[str], Source] | None,
    plan: Callable[[Source | None], QdrantAssetsPlan],
    extract_options: Mapping[str, Any],
) -> Iterator[Event]:
    """Read the source, begin the load, and give each part to a step."""
    _, selected_assets = selection_of(context)
    if not selected_assets:  # the last step makes the checks that are run alone
        yield Output(None, BEGUN)
        yield from _handed_out(context, lambda _: None)
        return
    with interruption_heeded(), as_failure():
        parts = parts_of(context, dlt_source, plan, extract_options)
    if len(parts) > 1:
        raise DagsterInvariantViolationError(
            f"This run is over {len(parts)} partitions, each with a source of its own, and assets "
            "with `workers` load one at a time. Give them `backfill_policy="
            "BackfillPolicy.multi_run()`, or leave out `workers`."
        )
    [part] = parts
    loaded = Loaded()
    with (
        logs_shown(context),
        owners_known(runs_of(context.instance)),
        interruption_heeded() as interruption,
        as_failure(),
        BeginningLoad(part, resource, loaded, interruption) as load,
    ):
        load.extract(extract_options)
        with load.client() as client:
            loaded.known = known_tables(context, client, part)
            tables = loaded.tables_of(part.source, client.schema)
            former = {
                name: FormerVersion.of(context, key, client, tables[name])
                for name, key in part.keys.items()
            }
            begun = load.begin(client, owner_of(context), workers_of(context.assets_def))
        yield Output(begun.begun(former), BEGUN)
        yield from _handed_out(context, begun.part)


def _handed_out(
    context: AssetExecutionContext, part: Callable[[int], SharedPackage | None]
) -> Iterator[Event]:
    """The parts for the steps that load them.

    A step for which there is none is left out, so that its machine need not start: but for the
    first one, without which the last step were left out too, and where Dask runs them all.
    """
    runs_all = context.op_execution_context.job_def.executor_def.name == "dask"
    for number in range(1, workers_of(context.assets_def) + 1):
        package = part(number)
        if package is not None or number == 1 or runs_all:
            yield Output(package, part_output(number))


def _load(
    resource: QdrantOptions, context: AssetExecutionContext, package: SharedPackage | None
) -> LoadedPart:
    """Load a part."""
    if package is None or package.part is None:
        return LoadedPart(0)
    with (
        logs_shown(context) as log,
        owners_known(runs_of(context.instance)),
        interruption_heeded() as interruption,
        as_failure(),
    ):
        log.partition = package.partition
        log.part = "{} of {}".format(*package.part)
        interruption.so_far = (
            "What it wrote stays until the next run, which makes up for it and embeds none of that "
            "again."
        )
        return load_part(resource, package, owner_of(context))


def _complete(
    resource: QdrantOptions,
    context: AssetExecutionContext,
    dlt_source: Source | Callable[[str], Source] | None,
    plan: Callable[[Source | None], QdrantAssetsPlan],
) -> Iterator[Event]:
    """End the load and report each table."""
    checks, _ = selection_of(context)
    if checks:
        yield from checked_apart(resource, context, plan)
    inputs = inputs_of(context)
    begun: BegunLoad | None = inputs[BEGUN]
    if begun is None:
        return
    parts: list[LoadedPart] = [part for part in inputs[LOADED] if part.number]
    with (
        logs_shown(context),
        owners_known(runs_of(context.instance)),
        interruption_heeded() as interruption,
        as_failure(),
    ):
        [part] = parts_of(context, dlt_source, plan, {})
        owner = owner_of(context)
        with (
            EndingLoad(part, resource, interruption, owner=owner, begun=begun, parts=parts) as load,
            load.client() as client,
        ):
            interruption.so_far = "All rows are written; the next run completes the load."
            load.load(client)
            interruption.so_far = (
                "All rows were loaded by then; only the report of them is missing."
            )
            with client.described_once():
                results = results_of(
                    client,
                    resource=resource,
                    context=context,
                    part=part,
                    loaded=load.loaded,
                    former=begun.former,
                    checks=checks,
                )
    yield from results  # type: ignore[misc]  # of assets, not of an op
