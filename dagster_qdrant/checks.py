"""Asset checks of collections: with each load (`checks=...`), or apart (`build_qdrant_checks`)."""

# No `from __future__ import annotations` here: Dagster refuses a context so annotated.

from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Union

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckKey,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    DagsterInvalidDefinitionError,
    multi_asset_check,
)

from dagster_qdrant.resource import QdrantResource

if TYPE_CHECKING:
    from dagster_qdrant.assets import QdrantAssetsPlan
    from dagster_qdrant.collection_checks import Finding
    from dagster_qdrant.destination.job_client import QdrantJobClient

_CHECKS = {
    "all_rows_present": "The rows of the last load are in the collection, and none has gone since.",
    "no_orphans": "Rows of nested tables have the row that they belong to (up to 1,000 are read).",
    "collection_healthy": "Qdrant reports no failure, and the payload indexes are there.",
}
_VECTOR_CHECKS = {
    "all_vectors_present": "Every row with text has its vector.",
    "vectors_valid": "Vectors have the model's size and are finite (up to 256 are read).",
    "search_finds_row": "A search for the text of a row finds that row.",
}


def check_specs(embedded: Mapping[AssetKey, bool], *, blocking: bool) -> list[AssetCheckSpec]:
    """The specs of all checks.

    Args:
        embedded: The assets, and whether any of their columns are embedded.
        blocking: Whether a check that fails keeps assets downstream from being materialized.
    """
    return [
        AssetCheckSpec(name, asset=key, description=description, blocking=blocking)
        for key, has_vectors in embedded.items()
        for name, description in (_CHECKS | (_VECTOR_CHECKS if has_vectors else {})).items()
    ]


def refuse_unknown_checks(checks: Any) -> None:
    """Refuse a choice of checks that there is not.

    Raises:
        ValueError: If it is something else than a boolean or "blocking".
    """
    if checks not in (True, False, "blocking"):
        raise ValueError(f'`checks` is {checks!r}; it must be True, False or "blocking".')


def build_qdrant_checks(
    assets: Sequence[AssetsDefinition], *, blocking: bool = False
) -> Sequence[AssetChecksDefinition]:
    """Check assets apart from their loads, say on a schedule.

    The checks are those of `checks=True`. They read a bounded part of a collection and change
    nothing. The resource is bound under the key "qdrant".

    Args:
        assets: Assets made by `@qdrant_assets` or `build_qdrant_assets`, without `checks`.
        blocking: Whether a check that fails keeps assets downstream from being materialized, in a
            run that materializes both.

    Returns:
        One definition for each of the assets' definitions.

    Raises:
        DagsterInvalidDefinitionError: For other assets, and for assets that check themselves.

    Example:
        >>> checks = build_qdrant_checks([movie_assets])
        >>> job = define_asset_job("check_movies", AssetSelection.checks(*checks))
        >>> Definitions(
        ...     assets=[movie_assets],
        ...     asset_checks=checks,
        ...     schedules=[ScheduleDefinition(job=job, cron_schedule="@daily")],
        ...     resources={"qdrant": QdrantResource(path="data")},
        ... )
    """
    return [_build_checks(assets_def, blocking) for assets_def in assets]


def _build_checks(assets_def: AssetsDefinition, blocking: bool) -> AssetChecksDefinition:
    from dagster_qdrant.assets import plan_of

    plan = plan_of(assets_def) if isinstance(assets_def, AssetsDefinition) else None
    if plan is None:
        raise DagsterInvalidDefinitionError(
            f"`build_qdrant_checks` was given {assets_def!r}, which was not made by "
            "`@qdrant_assets` or `build_qdrant_assets`."
        )
    if assets_def.check_keys:
        raise DagsterInvalidDefinitionError(
            f"The assets of `{assets_def.op.name}` check themselves: they were made with `checks`. "
            "Select these checks with `AssetSelection.checks_for_assets(...)` instead."
        )

    @multi_asset_check(
        name=f"{assets_def.op.name}_checks",
        specs=plan.check_specs(blocking=blocking),
        can_subset=True,
    )
    def checks(
        context: AssetCheckExecutionContext, qdrant: QdrantResource
    ) -> Iterator[AssetCheckResult]:
        yield from check_apart(qdrant, plan, context, context.selected_asset_check_keys)

    return checks


def check_apart(
    resource: QdrantResource,
    plan: "QdrantAssetsPlan",
    context: Union[AssetCheckExecutionContext, AssetExecutionContext],
    selected: Set[AssetCheckKey],
) -> Iterator[AssetCheckResult]:
    """Check what former runs have loaded.

    Raises:
        dagster.Failure: If Qdrant cannot be asked.
    """
    from dagster_qdrant.collection_checks import CollectionChecks, LastLoad
    from dagster_qdrant.run import as_failure

    for resource_name, asset_key in plan.keys().items():
        names = names_of(selected, asset_key)
        if not names:
            continue
        event = context.instance.get_latest_materialization_event(asset_key)
        metadata = event.asset_materialization.metadata if event else None
        shown = {name: entry.value for name, entry in (metadata or {}).items()}
        table_name = plan.table_name(plan.source.resources[resource_name])
        with as_failure(), _client(resource, plan, table_name) as client:
            checks = CollectionChecks(client, table_name, LastLoad.of(shown))
            results = [_result(asset_key, name, checks.find(name)) for name in names]
        yield from results


def check_loaded(
    client: "QdrantJobClient",
    table_name: str,
    asset_key: AssetKey,
    names: Sequence[str],
    metadata: Mapping[str, Any],
) -> list[AssetCheckResult]:
    """Check a table that was just loaded.

    Its load is complete. If Qdrant cannot be asked any more, a failure of the step would lead to
    the load being repeated, so the checks fail instead.

    Args:
        client: The job client of the load, entered.
        table_name: The table.
        asset_key: Its asset.
        names: The checks.
        metadata: What its materialization shows.
    """
    from dagster_qdrant.collection_checks import CollectionChecks, Finding, LastLoad
    from dagster_qdrant.errors import QdrantError

    checks = CollectionChecks(client, table_name, LastLoad.of(metadata))
    results = []
    for name in names:
        try:
            finding = checks.find(name)
        except QdrantError as error:
            finding = Finding(False, f"It could not be checked: {error}")
        results.append(_result(asset_key, name, finding))
    return results


def names_of(selected: Set[AssetCheckKey], asset_key: AssetKey) -> list[str]:
    """The selected checks of an asset."""
    return sorted(key.name for key in selected if key.asset_key == asset_key)


def _result(asset_key: AssetKey, name: str, finding: "Finding") -> AssetCheckResult:
    return AssetCheckResult(
        passed=finding.passed,
        asset_key=asset_key,
        check_name=name,
        description=finding.description,
        metadata=finding.numbers,
    )


@contextmanager
def _client(
    resource: QdrantResource, plan: "QdrantAssetsPlan", table_name: str
) -> Iterator["QdrantJobClient"]:
    """A job client with the latest schema that was loaded of a table."""
    from dlt.common.json import json
    from dlt.common.schema import Schema

    destination = resource.destination()
    config = destination.spec()
    config.dataset_name = plan.normalized_dataset_name
    with destination.client(plan.source.schema.clone(), config) as client:
        stored = client.get_stored_schema_with(table_name)
        if stored is not None:
            client.schema = Schema.from_stored_schema(json.loads(stored.schema))
        yield client
