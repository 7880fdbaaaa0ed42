"""dlt source -> multi-asset: `@qdrant_assets` and `build_qdrant_assets`."""

# No `from __future__ import annotations` here: Dagster refuses a context so annotated.

from collections.abc import Callable, Iterator, Mapping, Set
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Union

from dagster import (
    AssetCheckResult,
    AssetExecutionContext,
    AssetsDefinition,
    BackfillPolicy,
    DagsterInvariantViolationError,
    HookDefinition,
    MaterializeResult,
    PartitionsDefinition,
    RetryPolicy,
    TimeWindowPartitionsDefinition,
    multi_asset,
)
from dagster_dlt.translator import DagsterDltTranslator

from dagster_qdrant.resource import DEFAULT_RESOURCE_KEY, resource_of
from dagster_qdrant.runs.checking import check_specs, refuse_unknown_checks
from dagster_qdrant.runs.definitions import keep_plan, own_function
from dagster_qdrant.runs.idle_runs import refuse_idle_runs
from dagster_qdrant.runs.partition_source import of_first_partition, takes_partition
from dagster_qdrant.runs.plan import QdrantAssetsPlan, default_op_name, with_deps
from dagster_qdrant.runs.step_graph import graph_assets, refuse_unfit_workers

if TYPE_CHECKING:
    from dagster_qdrant.runs.plan import Deps, DltData


def qdrant_assets(
    *,
    dlt_source: "DltData",
    dataset_name: str | None = None,
    pipeline_name: str | None = None,
    name: str | None = None,
    group_name: str | None = None,
    dagster_dlt_translator: DagsterDltTranslator | None = None,
    deps: "Deps | None" = None,
    partitions_def: PartitionsDefinition | None = None,
    backfill_policy: BackfillPolicy | None = None,
    op_tags: Mapping[str, Any] | None = None,
    hooks: Set[HookDefinition] | None = None,
    pool: str | None = None,
    retry_policy: RetryPolicy | None = None,
    checks: bool | Literal["blocking"] = False,
    workers: int | None = None,
    worker_tags: Mapping[str, Any] | None = None,
    io_manager_key: str = "io_manager",
) -> Callable[[Callable[..., Any]], AssetsDefinition]:
    """Decorator that makes one asset of each resource of a dlt source.

    No credentials are needed and nothing is connected to until a run starts.

    Args:
        dlt_source: A dlt source, a resource, or a list of resources.
        dataset_name: The dataset; its name stands before the tables' in the collections' names.
        pipeline_name: The name under which dlt keeps the state of incremental resources. Default:
            `name`, else the source's and the dataset's name.
        name: Name of the op. Default: the function's.
        group_name: Group of all assets.
        dagster_dlt_translator: Makes the assets' specs. Default: `QdrantDltTranslator`.
        deps: Assets upstream of all assets, or, by the name of a resource, of its asset.
        partitions_def: Partitions of the assets.
        backfill_policy: How a backfill is cut into runs. Default for time windows: one run.
        op_tags: Tags of the op.
        hooks: Hooks of the op.
        pool: Concurrency pool of the op.
        retry_policy: How runs are retried after transient failures.
        checks: Whether each load is followed by asset checks of its collections. "blocking": a
            check that fails keeps assets downstream from being materialized.
        workers: How many steps of the run load the rows, each a part of them, wherever the job's
            executor runs it. The assets then are a graph of steps, and the function runs in each:
            once to extract, once a part, once to complete. Default: one step does all.
        worker_tags: With `workers`, further tags of the steps that load a part, say for a GPU.
        io_manager_key: With `workers`, the IO manager that brings parts from step to step.

    Returns:
        A decorator for a function that runs the load.

    Raises:
        TypeError: If `dlt_source` is none of these.
        ValueError: If `checks` is something else.
        DagsterInvariantViolationError: If `group_name` is given and the translator sets groups.

    Examples:
        >>> @qdrant_assets(
        ...     dlt_source=qdrant_adapter(movies, embed="title"), dataset_name="movies_dataset"
        ... )
        ... def movie_assets(context: AssetExecutionContext, qdrant: QdrantResource):
        ...     yield from qdrant.run(context)
    """
    plan = QdrantAssetsPlan.of(
        dlt_source,
        dataset_name=dataset_name,
        pipeline_name=pipeline_name,
        name=name,
        translator=dagster_dlt_translator,
    )
    return _assets_of(
        plan,
        deps=deps,
        checks=checks,
        name=name,
        group_name=group_name,
        partitions_def=partitions_def,
        backfill_policy=backfill_policy,
        op_tags=op_tags,
        hooks=hooks,
        pool=pool,
        retry_policy=retry_policy,
        workers=workers,
        worker_tags=worker_tags,
        io_manager_key=io_manager_key,
    )


def build_qdrant_assets(
    *,
    dlt_source: Union["DltData", Callable[[str], "DltData"]],
    dataset_name: str | None = None,
    pipeline_name: str | None = None,
    name: str | None = None,
    group_name: str | None = None,
    dagster_dlt_translator: DagsterDltTranslator | None = None,
    deps: "Deps | None" = None,
    partitions_def: PartitionsDefinition | None = None,
    backfill_policy: BackfillPolicy | None = None,
    op_tags: Mapping[str, Any] | None = None,
    hooks: Set[HookDefinition] | None = None,
    pool: str | None = None,
    retry_policy: RetryPolicy | None = None,
    checks: bool | Literal["blocking"] = False,
    workers: int | None = None,
    worker_tags: Mapping[str, Any] | None = None,
    io_manager_key: str = "io_manager",
    resource_key: str = DEFAULT_RESOURCE_KEY,
) -> AssetsDefinition:
    """Make one asset of each resource of a dlt source, without a function of one's own.

    The same as `@qdrant_assets`, whose arguments it takes, over `yield from qdrant.run(context)`.
    Without a `name`, the op is named after what is loaded (the source, or its resources where not
    all of them are) and the dataset.

    With a `partitions_def`, `dlt_source` may be a function that makes the source of a partition
    from its key; the assets' names are those of the first partition's source. `resource_key` is the
    key of the `QdrantResource` that loads, where a project has several.

    With `workers`, the load is several steps of the run, on whatever machines the job's executor
    has. See the guide "Many workers".

    Examples:
        >>> movies = build_qdrant_assets(
        ...     dlt_source=qdrant_adapter(movies, embed="title"), dataset_name="movies_dataset"
        ... )
        >>> Definitions(assets=[movies], resources={"qdrant": QdrantResource(path="data")})
    """
    of_partition: Any = dlt_source if takes_partition(dlt_source) else None
    if of_partition:
        dlt_source = of_first_partition(of_partition, partitions_def)
    plan = QdrantAssetsPlan.of(
        dlt_source,  # type: ignore[arg-type]  # another function is refused
        dataset_name=dataset_name,
        pipeline_name=pipeline_name,
        name=name,
        translator=dagster_dlt_translator,
    )

    @_assets_of(
        plan,
        deps=deps,
        checks=checks,
        name=name or default_op_name(plan.source, dataset_name),
        group_name=group_name,
        partitions_def=partitions_def,
        backfill_policy=backfill_policy,
        op_tags=op_tags,
        hooks=hooks,
        pool=pool,
        retry_policy=retry_policy,
        workers=workers,
        worker_tags=worker_tags,
        io_manager_key=io_manager_key,
        required_resource_keys={resource_key},
    )
    def assets(
        context: AssetExecutionContext,
    ) -> Iterator[Union[MaterializeResult[Any], AssetCheckResult]]:
        qdrant = resource_of(context, resource_key)
        # A dlt resource that takes the key is no function to `run`.
        yield from qdrant.run(context, partial(of_partition) if of_partition else None)

    return assets


def _assets_of(
    plan: QdrantAssetsPlan,
    *,
    deps: "Deps | None",
    checks: bool | Literal["blocking"],
    group_name: str | None,
    partitions_def: PartitionsDefinition | None,
    backfill_policy: BackfillPolicy | None,
    workers: int | None,
    worker_tags: Mapping[str, Any] | None,
    io_manager_key: str,
    **options: Any,
) -> Callable[[Callable[..., Any]], AssetsDefinition]:
    """A decorator that makes assets of a plan; what is in `options` is Dagster's."""
    refuse_unknown_checks(checks)
    refuse_unfit_workers(workers)
    workers = workers or 1
    if worker_tags and workers == 1:
        raise ValueError("`worker_tags` are of the steps of `workers`, and these are not given.")
    specs = with_deps(plan.specs(), deps)
    keys = {resource: spec.key for resource, spec in specs.items()}
    if group_name and any(spec.group_name for spec in specs.values()):
        raise DagsterInvariantViolationError(
            f"`group_name` is {group_name!r}, but the translator sets groups too. Set the group in "
            "one of the two places."
        )
    if isinstance(partitions_def, TimeWindowPartitionsDefinition) and backfill_policy is None:
        # Of many partitions, workers load one at a time.
        backfill_policy = None if workers > 1 else BackfillPolicy.single_run()
    checked = check_specs(plan, keys, blocking=checks == "blocking") if checks else None

    def decorate(function: Callable[..., Any]) -> AssetsDefinition:
        if workers > 1:
            return graph_assets(
                refuse_idle_runs(function),
                plan,
                specs,
                workers=workers,
                worker_tags=worker_tags,
                io_manager_key=io_manager_key,
                check_specs=checked or (),
                group_name=group_name,
                partitions_def=partitions_def,
                backfill_policy=backfill_policy,
                **options,
            )
        assets_def = multi_asset(
            group_name=group_name,
            can_subset=True,
            partitions_def=partitions_def,
            backfill_policy=backfill_policy,
            specs=list(specs.values()),
            check_specs=checked,
            **options,
        )(own_function(refuse_idle_runs(function)))
        keep_plan(assets_def, plan, keys)
        return assets_def

    return decorate
