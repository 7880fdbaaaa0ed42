"""One Dagster run of a dlt pipeline: its own working directory, its steps, its results."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Union

import dlt
from dagster import (
    AssetCheckKey,
    AssetCheckResult,
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    DagsterInvariantViolationError,
    Failure,
    MaterializeResult,
    OpExecutionContext,
)
from dagster_dlt.translator import DagsterDltTranslator
from dlt.extract import DltResource, DltSource
from dlt.pipeline.exceptions import PipelineStepFailed

from dagster_qdrant.assets import QdrantAssetsPlan, as_source, plan_of
from dagster_qdrant.checks import check_apart, check_loaded, names_of
from dagster_qdrant.client import Connection, connect
from dagster_qdrant.collection_checks import points_of_load
from dagster_qdrant.data_version import FormerVersion, data_version
from dagster_qdrant.destination.collections import Collections
from dagster_qdrant.destination.job_client import QdrantJobClient
from dagster_qdrant.destination.load_counts import load_reports
from dagster_qdrant.destination.state_merge import base_states
from dagster_qdrant.embedding import EmbeddingError, preload_embedder
from dagster_qdrant.errors import QdrantConfigurationError, QdrantError, QdrantTerminalError
from dagster_qdrant.metadata import materialization_metadata
from dagster_qdrant.row_check import check_rows
from dagster_qdrant.translator import QdrantDltTranslator, embedded_columns

if TYPE_CHECKING:
    from dlt import Pipeline
    from dlt.common.pipeline import LoadInfo

    from dagster_qdrant.destination.configuration import QdrantDestinationConfiguration
    from dagster_qdrant.resource import QdrantResource

logger = logging.getLogger(__name__)


def run_load(
    resource: QdrantResource,
    context: Union[AssetExecutionContext, OpExecutionContext],
    *,
    dlt_source: DltSource | DltResource | None,
    dataset_name: str | None,
    pipeline_name: str | None,
    translator: DagsterDltTranslator | None,
    extract_options: Mapping[str, Any],
) -> Iterator[Union[MaterializeResult[Any], AssetMaterialization, AssetCheckResult]]:
    """Load a source and report each table; see `QdrantResource.run`."""
    plan = _plan(context, dlt_source, dataset_name, pipeline_name, translator)
    keys = plan.keys()
    checks: Set[AssetCheckKey] = frozenset()
    if isinstance(context, AssetExecutionContext):
        checks, selected_assets = context.selected_asset_check_keys, context.selected_asset_keys
        apart = {key for key in checks if key.asset_key not in selected_assets}
        if apart:
            yield from check_apart(resource, plan_of(context.assets_def) or plan, context, apart)
            if not selected_assets:
                return
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
    with _logs_shown(context), _pipeline(resource, plan) as pipeline, as_failure():
        results = _load(
            pipeline,
            source,
            plan,
            resource,
            extract_options=extract_options,
            context=context,
            keys=keys,
            checks=checks,
        )
        yield from results


def _plan(
    context: Union[AssetExecutionContext, OpExecutionContext],
    dlt_source: DltSource | DltResource | None,
    dataset_name: str | None,
    pipeline_name: str | None,
    translator: DagsterDltTranslator | None,
) -> QdrantAssetsPlan:
    plan = plan_of(context.assets_def) if isinstance(context, AssetExecutionContext) else None
    source = None if dlt_source is None else as_source(dlt_source, dataset_name)
    if plan is None:
        if source is None:
            raise DagsterInvariantViolationError(
                "`run` does not know what to load: this is no asset made by @qdrant_assets. Give "
                "it a `dlt_source` (and a `dataset_name`)."
            )
        return QdrantAssetsPlan(
            source=source,
            dataset_name=dataset_name,
            pipeline_name=pipeline_name or source.name,
            translator=translator or QdrantDltTranslator(),
        )
    return replace(
        plan,
        source=source or plan.source,
        dataset_name=dataset_name or plan.dataset_name,
        pipeline_name=pipeline_name or plan.pipeline_name,
        translator=translator or plan.translator,
    )


class _DagsterLogHandler(logging.Handler):
    """Shows this package's log, waits and retries above all, among the events of the run."""

    def __init__(self, context: Union[AssetExecutionContext, OpExecutionContext]) -> None:
        super().__init__(logging.INFO)
        self._log = context.log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.log(record.levelno, record.getMessage())


@contextmanager
def _logs_shown(context: Union[AssetExecutionContext, OpExecutionContext]) -> Iterator[None]:
    logger = logging.getLogger("dagster_qdrant")
    level = logger.level
    handler = _DagsterLogHandler(context)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextmanager
def _pipeline(resource: QdrantResource, plan: QdrantAssetsPlan) -> Iterator[Pipeline]:
    """A pipeline in a directory of its own, which comes and goes with the run.

    What a failed run left behind cannot spoil the next one, and runs at the same time cannot meet.
    The state comes back from the destination.
    """
    with TemporaryDirectory(prefix="dagster_qdrant_") as directory:
        pipeline = dlt.pipeline(
            pipeline_name=plan.pipeline_name,
            pipelines_dir=directory,
            destination=resource.destination(),
            # Normalized already: dlt would warn, each time it looks, that it has to.
            dataset_name=plan.normalized_dataset_name,  # type: ignore[arg-type]  # None too
        )
        try:
            yield pipeline
        finally:
            pipeline.deactivate()


def _load(
    pipeline: Pipeline,
    source: DltSource,
    plan: QdrantAssetsPlan,
    resource: QdrantResource,
    *,
    extract_options: Mapping[str, Any],
    context: Union[AssetExecutionContext, OpExecutionContext],
    keys: Mapping[str, AssetKey],
    checks: Set[AssetCheckKey],
) -> list[Union[MaterializeResult[Any], AssetMaterialization]]:
    """Run the steps of dlt, make each resource's materialization and check what was loaded."""
    config = resource.configuration()
    seconds: dict[str, float] = {}
    log = context.log
    with connect(config.connection) as connection:
        with _timed(seconds, "sync"):
            if pipeline.config.restore_from_destination:
                pipeline.sync_destination()
        _prepare_model(connection, config, plan, source)
    state = deepcopy(dict(pipeline.state))
    with _timed(seconds, "extract"):
        pipeline.extract(source, **extract_options)
    with _timed(seconds, "normalize"):
        normalized = pipeline.normalize()
    base_states.update(dict.fromkeys(pipeline.list_normalized_load_packages(), state))
    tables = [plan.table_name(selected) for selected in source.selected_resources.values()]
    rows = dict.fromkeys(tables, 0) | normalized.row_counts
    log.info(
        "Extracted in %.1f s: %s.",
        seconds["extract"] + seconds["normalize"],
        ", ".join(f"{name} {count:,}" for name, count in rows.items() if name[0] != "_"),
    )
    # Local mode is opened once for all of dlt's steps in here.
    with _client(pipeline) as client:
        table_of = {name: plan.table_name(source.selected_resources[name]) for name in keys}
        former = {
            name: FormerVersion.of(context, key, client, table_of[name])
            for name, key in keys.items()
            if isinstance(context, AssetExecutionContext)
        }
        with _timed(seconds, "load"):
            info = _load_or_give_up(pipeline, client)
        counts = {
            table: counted
            for load_id in info.loads_ids
            for table, counted in load_reports.take(load_id).items()
        }
        version = info.loads_ids[-1] if info.loads_ids else context.run_id
        results: list[Union[MaterializeResult[Any], AssetMaterialization]] = []
        for name, key in keys.items():
            table = table_of[name]
            metadata = materialization_metadata(
                client,
                table_name=table,
                rows_loaded=rows.get(table, 0),
                counts=counts,
                seconds=seconds,
                load_ids=info.loads_ids,
                partitioned=context.has_partition_key,
                preview=resource.preview is not False,
                vector_map=resource.vector_map is not False,
            )
            if name not in former:
                results.append(AssetMaterialization(asset_key=key, metadata=metadata))
                continue
            kept = data_version(
                former[name], client, table, counts=counts, metadata=metadata, otherwise=version
            )
            metadata |= points_of_load(client, table, counts)
            names = names_of(checks, key)
            results.append(
                MaterializeResult(
                    asset_key=key,
                    metadata=metadata,
                    data_version=kept,
                    check_results=check_loaded(client, table, key, names, metadata),
                )
            )
        return results


def _prepare_model(
    connection: Connection,
    config: QdrantDestinationConfiguration,
    plan: QdrantAssetsPlan,
    source: DltSource,
) -> None:
    """Refuse a model that is not known before a source is read, perhaps for hours.

    Load it meanwhile if it is sure to be needed: a table that was loaded before may have no new
    text, and then needs no model at all.
    """
    collections = Collections(connection, plan.normalized_dataset_name, config.dataset_separator)
    tables = [
        plan.table_name(resource)
        for resource in source.selected_resources.values()
        if embedded_columns(resource)
    ]
    if not tables:
        return
    try:
        _ = config.embedding.vector_size
    except EmbeddingError as error:
        raise QdrantConfigurationError(str(error)) from error
    if any(not collections.exists(collections.name(table)) for table in tables):
        preload_embedder(config.embedding)


def _load_or_give_up(pipeline: Pipeline, client: QdrantJobClient) -> LoadInfo:
    """Load, and if that fails say so in the dataset.

    The working directory goes with the run, so dlt can never resume the load.
    """
    try:
        return pipeline.load()
    except PipelineStepFailed:
        for load_id in pipeline.list_normalized_load_packages():
            try:
                client.give_up_load(load_id)
            except QdrantError as error:  # the first failure tells more
                logger.warning(
                    "The next run has to find out that load %s failed. %s", load_id, error
                )
        raise


@contextmanager
def _client(pipeline: Pipeline) -> Iterator[QdrantJobClient]:
    with pipeline.destination_client() as client:
        if not isinstance(client, QdrantJobClient):
            raise DagsterInvariantViolationError("The pipeline's destination is not Qdrant.")
        yield client


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = time.monotonic()
    try:
        yield
    finally:
        seconds[step] = time.monotonic() - start


@contextmanager
def as_failure() -> Iterator[None]:
    """Say first what happened and what to do, instead of in which step of dlt it was."""
    try:
        yield
    except (PipelineStepFailed, QdrantError) as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, QdrantError):
            cause = cause.__cause__
        if cause is None:
            raise
        raise Failure(
            description=str(cause), allow_retries=not isinstance(cause, QdrantTerminalError)
        ) from error
