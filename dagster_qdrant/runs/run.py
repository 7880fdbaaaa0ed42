"""One Dagster run: what it loads, part by part, and what it reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Union

from dagster import (
    AssetCheckKey,
    AssetCheckResult,
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    DagsterInvariantViolationError,
    MaterializeResult,
    MetadataValue,
)
from dagster_dlt.translator import DagsterDltTranslator
from dlt.extract import DltResource, DltSource

from dagster_qdrant.destination.job_client import QdrantJobClient
from dagster_qdrant.destination.loads.shared_load import owners_known
from dagster_qdrant.destination.tables.resource_tables import named_table, tables_in
from dagster_qdrant.destination.tables.row_check import check_rows
from dagster_qdrant.pages.metadata import (
    PARTITION_ROW_COUNT,
    materialization_metadata,
    rows_of_partition,
)
from dagster_qdrant.runs.checking import check_apart, check_loaded, names_of
from dagster_qdrant.runs.data_version import FormerVersion, data_version
from dagster_qdrant.runs.definitions import keys_of, plan_of
from dagster_qdrant.runs.dlt_load import DltLoad, Loaded, Part
from dagster_qdrant.runs.failures import as_failure
from dagster_qdrant.runs.interruption import interruption_heeded
from dagster_qdrant.runs.last_load import LastLoad, points_of_load
from dagster_qdrant.runs.partitions import interval_of, partitions_of
from dagster_qdrant.runs.plan import QdrantAssetsPlan, as_source, disposition_of, is_source
from dagster_qdrant.runs.run_log import Context, logs_shown
from dagster_qdrant.runs.run_owner import runs_of
from dagster_qdrant.translator import QdrantDltTranslator

if TYPE_CHECKING:
    from dagster_qdrant.runs.options import QdrantOptions

    Source = Union[DltSource, DltResource]
    Result = Union[MaterializeResult[Any], AssetMaterialization]


def run_load(
    resource: QdrantOptions,
    context: Context,
    *,
    dlt_source: Source | Callable[[str], Source] | None,
    dataset_name: str | None,
    pipeline_name: str | None,
    translator: DagsterDltTranslator | None,
    extract_options: Mapping[str, Any],
) -> Iterator[Union[Result, AssetCheckResult]]:
    """Load a source and report each table; see `QdrantResource.run`."""

    def plan(source: Source | None) -> QdrantAssetsPlan:
        return plan_of_run(context, source, dataset_name, pipeline_name, translator)

    checks, selected_assets = selection_of(context)
    if checks:
        yield from checked_apart(resource, context, plan)
        if not selected_assets:
            return
    with interruption_heeded(), as_failure():
        parts = parts_of(context, dlt_source, plan, extract_options)
    loaded = Loaded()
    former: dict[str, FormerVersion | None] = {}
    results: list[Result] = []
    with (
        logs_shown(context) as log,
        owners_known(runs_of(context.instance)),
        interruption_heeded() as interruption,
    ):
        for number, part in enumerate(parts, start=1):
            partition = part.partition if len(parts) > 1 else None
            log.partition = partition
            with as_failure(partition), DltLoad(part, resource, loaded, interruption) as load:
                load.extract(extract_options)
                with load.client() as client:
                    if number == 1 and isinstance(context, AssetExecutionContext):
                        loaded.known = known_tables(context, client, part)
                        tables = loaded.tables_of(part.source, client.schema)
                        former = {
                            name: FormerVersion.of(context, key, client, tables[name])
                            for name, key in part.keys.items()
                        }
                    interruption.so_far = (
                        "What it wrote stays. The next run completes the load and reuses these "
                        "vectors."
                    )
                    load.load(client)
                    if partition is not None and isinstance(context, AssetExecutionContext):
                        _show_partition(context, client, part, loaded)
                    interruption.so_far = (
                        f"{number} of {len(parts)} partitions were loaded by then."
                        if number < len(parts)
                        else "All rows were loaded by then; only the report of them is missing."
                    )
                    if number == len(parts):
                        with client.described_once():
                            results = results_of(
                                client,
                                resource=resource,
                                context=context,
                                part=part,
                                loaded=loaded,
                                former=former,
                                checks=checks,
                            )
    yield from results


def selection_of(context: Context) -> tuple[Set[AssetCheckKey], Set[AssetKey]]:
    """The checks and the assets that a run is to bring; none in an op."""
    if not isinstance(context, AssetExecutionContext):
        return frozenset(), frozenset()
    return context.selected_asset_check_keys, context.selected_asset_keys


def checked_apart(
    resource: QdrantOptions,
    context: Context,
    plan: Callable[[Source | None], QdrantAssetsPlan],
) -> list[AssetCheckResult]:
    """The checks of a run whose assets it does not load."""
    checks, assets = selection_of(context)
    apart = {key for key in checks if key.asset_key not in assets}
    if not apart or not isinstance(context, AssetExecutionContext):
        return []
    checked = plan_of(context.assets_def) or plan(None)
    keys = keys_of(context.assets_def, checked)
    with interruption_heeded():
        return list(check_apart(resource, checked, keys, context, apart))


def known_tables(
    context: AssetExecutionContext, client: QdrantJobClient, part: Part
) -> dict[str, set[str]]:
    """The tables of the last materializations, where the schema alone does not tell them."""
    known = {}
    for name, key in part.keys.items():
        resource = part.source.resources[name]
        named = named_table(resource, client.schema)
        if named is not None and set(tables_in(client.schema, resource)) - {named}:
            last = LastLoad.latest(context.instance, key, named)
            known[name] = last.tables if last else set()
    return known


def parts_of(
    context: Context,
    dlt_source: Source | Callable[[str], Source] | None,
    plan: Callable[[Source | None], QdrantAssetsPlan],
    extract_options: Mapping[str, Any],
) -> list[Part]:
    """What is loaded, one after the other: each partition for itself where that is possible."""
    partitions = partitions_of(context)
    if isinstance(dlt_source, (DltSource, DltResource)) or not callable(dlt_source):
        planned = plan(dlt_source)
        if len(partitions) > 1:
            _refuse_replace_of_many(planned, extract_options, len(partitions))
        return [_part(context, planned, partitions)]
    if not partitions:
        raise DagsterInvariantViolationError(
            "`dlt_source` is a function of a partition's key, but this run has no partition. Give "
            "the assets a `partitions_def`, or give `run` a source."
        )
    return [
        _part(context, plan(_source_of(dlt_source, partition, partitions)), [partition])
        for partition in partitions
    ]


def _source_of(
    dlt_source: Callable[[str], Source], partition: str, partitions: Sequence[str]
) -> Source:
    with as_failure(partition if len(partitions) > 1 else None):
        return dlt_source(partition)


def _refuse_replace_of_many(
    plan: QdrantAssetsPlan, extract_options: Mapping[str, Any], partitions: int
) -> None:
    asked = extract_options.get("write_disposition")
    replaced = [
        resource.name
        for resource in plan.source.selected_resources.values()
        if disposition_of(asked or resource.write_disposition) == "replace"
    ]
    if replaced:
        raise DagsterInvariantViolationError(
            f"This run loads {partitions} partitions at once and replaces "
            f"{', '.join(f'`{name}`' for name in replaced)}, but its source does not say to which "
            "partition a row belongs. Give `run` a function that makes the source of a partition "
            "(`dlt_source=lambda key: ...`), or the assets "
            "`backfill_policy=BackfillPolicy.multi_run()`."
        )


def _part(context: Context, plan: QdrantAssetsPlan, partitions: Sequence[str]) -> Part:
    if not isinstance(context, AssetExecutionContext):
        keys = plan.keys()
    else:
        selected_assets = context.selected_asset_keys
        keys = keys_of(context.assets_def, plan)
        keys = {name: key for name, key in keys.items() if key in selected_assets}
        if not keys:
            raise DagsterInvariantViolationError(
                "The source that is loaded has no resource for any selected asset: "
                f"{', '.join(sorted(key.to_user_string() for key in selected_assets))}."
                " Give `run` a source with the resources that the assets were defined with."
            )
    # A copy: loading must not change the source that the next run of this process will load.
    source = plan.source.clone().with_resources(*keys)
    for selected in source.selected_resources.values():
        check_rows(selected)
    return Part(
        plan,
        source,
        keys,
        # Dagster's key of several dimensions is a kind of text that JSON does not know.
        str(partitions[0]) if len(partitions) == 1 else None,
        interval_of(context, partitions),
    )


def _show_partition(
    context: AssetExecutionContext, client: QdrantJobClient, part: Part, loaded: Loaded
) -> None:
    """Show in each partition's materialization how many rows it has, in a run over several."""
    partition = str(part.partition)
    for name, tables in loaded.tables_of(part.source, client.schema).items():
        given = sum(loaded.last_rows.get(root, 0) for root in tables.roots)
        count = rows_of_partition(client, tables, partition, given)
        context.add_asset_metadata(
            {PARTITION_ROW_COUNT: MetadataValue.int(count)},
            asset_key=part.keys[name],
            partition_key=partition,
        )


def results_of(
    client: QdrantJobClient,
    *,
    resource: QdrantOptions,
    context: Context,
    part: Part,
    loaded: Loaded,
    former: Mapping[str, FormerVersion | None],
    checks: Set[AssetCheckKey],
) -> list[Result]:
    """Each asset's materialization, checked."""
    version = loaded.load_ids[-1] if loaded.load_ids else context.run_id
    loads = loaded.by_resource(part.source, client.schema)
    results: list[Result] = []
    for name, key in part.keys.items():
        load = loads[name]
        metadata = materialization_metadata(
            client,
            load,
            seconds=loaded.seconds,
            load_ids=loaded.load_ids,
            partition=part.partition if context.has_partition_key else None,
            preview=resource.preview is not False,
            vector_map=resource.vector_map is not False,
        )
        if name not in former:
            results.append(AssetMaterialization(asset_key=key, metadata=metadata))
            continue
        kept = data_version(
            former[name], load, counts=loaded.counts, metadata=metadata, otherwise=version
        )
        metadata |= points_of_load(load.tables.all, loaded.last_counts)
        results.append(
            MaterializeResult(
                asset_key=key,
                metadata=metadata,
                data_version=kept,
                check_results=check_loaded(
                    client, load.tables, key, names_of(checks, key), metadata
                ),
            )
        )
    return results


def plan_of_run(
    context: Context,
    dlt_source: Source | None,
    dataset_name: str | None,
    pipeline_name: str | None,
    translator: DagsterDltTranslator | None,
) -> QdrantAssetsPlan:
    """What a run loads: what its assets were defined with, or what `run` was given."""
    plan = plan_of(context.assets_def) if isinstance(context, AssetExecutionContext) else None
    if plan is None:
        if dlt_source is None:
            raise DagsterInvariantViolationError(
                "`run` does not know what to load: this is no asset made by @qdrant_assets. Give "
                "it a `dlt_source` (and a `dataset_name`)."
            )
        source = as_source(dlt_source, dataset_name)
        return QdrantAssetsPlan(
            source=source,
            dataset_name=dataset_name,
            pipeline_name=pipeline_name or source.name,
            translator=translator or QdrantDltTranslator(),
            names_source=is_source(dlt_source),
            names_pipeline=pipeline_name is not None,
        )
    if dlt_source is not None:
        plan = plan.loading(dlt_source)
    return replace(
        plan,
        dataset_name=dataset_name or plan.dataset_name,
        pipeline_name=pipeline_name or plan.pipeline_name,
        translator=translator or plan.translator,
        names_pipeline=plan.names_pipeline or pipeline_name is not None,
    )
