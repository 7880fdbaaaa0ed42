"""Asset checks of collections apart from their loads: `build_qdrant_checks`."""

# No `from __future__ import annotations` here: Dagster refuses a context so annotated.

from collections.abc import Iterator, Sequence

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetsDefinition,
    DagsterInvalidDefinitionError,
    multi_asset_check,
)

from dagster_qdrant.resource import DEFAULT_RESOURCE_KEY, resource_of
from dagster_qdrant.runs.checking import check_apart, check_specs
from dagster_qdrant.runs.definitions import keep_plan, keys_of, plan_of, steps_of


def build_qdrant_checks(
    assets: Sequence[AssetsDefinition],
    *,
    blocking: bool = False,
    resource_key: str | None = None,
) -> Sequence[AssetChecksDefinition]:
    """Check assets apart from their loads, say on a schedule.

    The checks are those of `checks=True`. They read a bounded part of a collection and change
    nothing.

    Args:
        assets: Assets made by `@qdrant_assets` or `build_qdrant_assets`, without `checks`.
        blocking: Whether a check that fails keeps assets downstream from being materialized, in a
            run that materializes both.
        resource_key: Key of the `QdrantResource` that checks. Default: the one that loads.

    Returns:
        One definition for each of the assets' definitions.

    Raises:
        DagsterInvalidDefinitionError: For other assets, and for assets that check themselves.

    Examples:
        >>> checks = build_qdrant_checks([movie_assets])
        >>> job = define_asset_job("check_movies", AssetSelection.checks(*checks))
        >>> Definitions(
        ...     assets=[movie_assets],
        ...     asset_checks=checks,
        ...     schedules=[ScheduleDefinition(job=job, cron_schedule="@daily")],
        ...     resources={"qdrant": QdrantResource(path="data")},
        ... )
    """
    if isinstance(assets, AssetsDefinition):
        raise TypeError(
            "`assets` is one definition; it must be a list: `build_qdrant_checks([...])`."
        )
    return [_build_checks(assets_def, blocking, resource_key) for assets_def in assets]


def _build_checks(
    assets_def: AssetsDefinition, blocking: bool, resource_key: str | None
) -> AssetChecksDefinition:
    plan = plan_of(assets_def) if isinstance(assets_def, AssetsDefinition) else None
    if plan is None:
        raise DagsterInvalidDefinitionError(
            f"`build_qdrant_checks` was given {assets_def!r}, which was not made by "
            "`@qdrant_assets` or `build_qdrant_assets`."
        )
    if assets_def.check_keys:
        raise DagsterInvalidDefinitionError(
            f"The assets of `{assets_def.node_def.name}` check themselves: they were made with "
            "`checks`. Select these checks with `AssetSelection.checks_for_assets(...)` instead."
        )

    selected = assets_def.keys
    keys = {name: key for name, key in keys_of(assets_def, plan).items() if key in selected}

    required = sorted(steps_of(assets_def)[0].required_resource_keys)
    key = resource_key or (required[0] if len(required) == 1 else DEFAULT_RESOURCE_KEY)
    bound = assets_def.resource_defs

    @multi_asset_check(
        name=f"{assets_def.node_def.name}_checks",
        specs=check_specs(plan, keys, blocking=blocking),
        can_subset=True,
        required_resource_keys={key},
        resource_defs={key: bound[key]} if key in bound else None,
    )
    def checks(context: AssetCheckExecutionContext) -> Iterator[AssetCheckResult]:
        qdrant = resource_of(context, key)
        definition = context.op_execution_context.assets_def
        selected = context.selected_asset_check_keys
        yield from check_apart(qdrant, plan, keys_of(definition, plan), context, selected)

    keep_plan(checks, plan, keys)
    return checks
