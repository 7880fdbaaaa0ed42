"""One load of a source with dlt: a working directory of its own, and dlt's steps one by one.

What a failed load left behind cannot spoil the next one, and loads at the same time cannot meet.
The state comes back from the destination.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

import dlt
from dagster import AssetKey, DagsterInvariantViolationError
from dlt.common.configuration.container import Container
from dlt.extract import DltSource
from dlt.extract.incremental.context import TimeIntervalContext
from dlt.pipeline.exceptions import PipelineStepFailed

from dagster_qdrant.destination.job_client import QdrantJobClient
from dagster_qdrant.destination.loads.dlt_tables import DltTables
from dagster_qdrant.destination.loads.state_merge import base_states
from dagster_qdrant.destination.tables.hints import has_main_vectors, vectors_of
from dagster_qdrant.destination.tables.names import is_of_dlt
from dagster_qdrant.destination.tables.resource_tables import ResourceTables, named_table
from dagster_qdrant.destination.writing.load_counts import LoadCounts, load_reports
from dagster_qdrant.embedding.embedder import preload_embedder, vector_size
from dagster_qdrant.errors import EmbeddingError, QdrantConfigurationError, QdrantError
from dagster_qdrant.pages.metadata import ResourceLoad
from dagster_qdrant.qdrant.collections import Collections
from dagster_qdrant.qdrant.connection import connect
from dagster_qdrant.runs.empty_tables import make_empty_collections
from dagster_qdrant.runs.plan import QdrantAssetsPlan
from dagster_qdrant.runs.rows_given import RowsGiven
from dagster_qdrant.runs.source_state import SourceState
from dagster_qdrant.stopping import last_words, refuse_if_stopping

if TYPE_CHECKING:
    from dlt import Pipeline
    from dlt.common.pipeline import LoadInfo
    from dlt.common.schema import Schema

    from dagster_qdrant.runs.interruption import Interruption
    from dagster_qdrant.runs.options import QdrantOptions

logger = logging.getLogger(__name__)

T = TypeVar("T", bound="DltLoad")


@dataclass(frozen=True)
class Part:
    """What is loaded at once.

    Args:
        plan: What the assets load, and as what.
        source: The selected resources, as a copy that may change.
        keys: The keys of their assets, by the name of the resource.
        partition: The partition's key; None for all that there is.
        interval: From when to when its partitions go, if they stand for times.
    """

    plan: QdrantAssetsPlan
    source: DltSource
    keys: Mapping[str, AssetKey]
    partition: str | None
    interval: tuple[datetime, datetime] | None = None


@dataclass
class Loaded:
    """What came of the loads of a run.

    Args:
        rows: Rows that were brought into the form that is loaded, by table.
        given: Rows that the resources gave.
        known: Tables that are known to be a resource's from before, by the resource.
        counts: What was done with the rows of a table.
        last_counts: The same, of the last load only.
        seconds: How long each step of dlt took.
        load_ids: dlt's ids of the loads.
    """

    rows: dict[str, int] = field(default_factory=dict)
    given: RowsGiven = field(default_factory=RowsGiven)
    known: dict[str, set[str]] = field(default_factory=dict)
    last_rows: Mapping[str, int] = field(default_factory=dict)
    counts: dict[str, LoadCounts] = field(default_factory=dict)
    last_counts: Mapping[str, LoadCounts] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    load_ids: list[str] = field(default_factory=list)

    def tables_of(self, source: DltSource, schema: Schema) -> dict[str, ResourceTables]:
        """The tables of the selected resources, by the resource's name.

        Args:
            source: The source, read.
            schema: The schema that it is loaded with.
        """
        return {
            name: ResourceTables.of(
                resource, schema, also={*self.given.of(name, schema), *self.known.get(name, ())}
            )
            for name, resource in source.selected_resources.items()
        }

    def by_resource(self, source: DltSource, schema: Schema) -> dict[str, ResourceLoad]:
        """What came of each resource.

        Args:
            source: The resources of the last load.
            schema: The schema that they were loaded with.
        """
        tables = self.tables_of(source, schema)
        given = {name: self.given.of(name, schema) for name in tables}
        filled_by = {
            root: [name for name in tables if given[name][root]]
            or [name for name, others in tables.items() if root in others.roots]
            for each in tables.values()
            for root in each.roots
        }
        loads = {}
        for name, own in tables.items():
            filled = [root for root in own.roots if name in filled_by[root]]
            shared = {root: filled_by[root] for root in filled if len(filled_by[root]) > 1}
            loads[name] = ResourceLoad(
                tables=own,
                rows=sum(
                    given[name][root] if root in shared else self.rows.get(root, 0)
                    for root in filled
                ),
                counts={
                    table: self.counts[table]
                    for root in filled
                    for table in own.chain(root)
                    if table in self.counts
                },
                shared=shared,
            )
        return loads

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the time of a `with` block to a step's."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.monotonic() - start


@contextmanager
def opened_pipeline(
    resource: QdrantOptions,
    name: str,
    dataset: str | None,
    partition: str | None,
    fill: Callable[[Path], None] = lambda _: None,
) -> Iterator[Pipeline]:
    """A dlt pipeline in a folder of its own, for the time of a `with` block.

    Args:
        resource: The place and the options.
        name: The pipeline's name.
        dataset: The dataset's name, as dlt normalizes it.
        partition: The partition that is loaded.
        fill: Called with the pipeline's folder before the pipeline is made.
    """
    with TemporaryDirectory(prefix="dagster_qdrant_") as directory:
        fill(Path(directory) / name)
        pipeline = dlt.pipeline(
            pipeline_name=name,
            pipelines_dir=directory,
            destination=resource.destination(partition=partition),
            dataset_name=dataset,  # type: ignore[arg-type]  # None too
        )
        pipeline.runtime_config.intercept_signals = False  # dlt's handlers forget a signal
        try:
            yield pipeline
        finally:
            pipeline.deactivate()


class DltLoad:
    """A load of one part.

    Args:
        part: What is loaded.
        resource: The place and the options.
        loaded: Where the results of the run are gathered.
        interruption: What watches for signals that tell the run to stop.
    """

    _embeds_here = True

    def __init__(
        self, part: Part, resource: QdrantOptions, loaded: Loaded, interruption: Interruption
    ) -> None:
        self._part = part
        self._resource = resource
        self._loaded = loaded
        self._interruption = interruption
        self._entered = ExitStack()

    def __enter__(self: T) -> T:
        self._begun = time.monotonic()
        self._pipeline = self._entered.enter_context(self._open_pipeline())
        return self

    def _open_pipeline(self) -> AbstractContextManager[Pipeline]:
        plan = self._part.plan
        # Normalized already: dlt would warn, each time it looks, that it has to.
        dataset = plan.dataset(self._resource.configuration())
        return opened_pipeline(self._resource, plan.pipeline_name, dataset, self._part.partition)

    def __exit__(self, *exception: object) -> None:
        self._entered.close()

    def extract(self, options: Mapping[str, Any]) -> None:
        """Restore the state, read the source and bring its rows into the form that is loaded.

        Args:
            options: What else `dlt.Pipeline.extract` takes.
        """
        pipeline, loaded, source = self._pipeline, self._loaded, self._part.source
        config = self._resource.configuration()
        with connect(config.connection) as connection:  # a path is opened once for all
            with loaded.timed("sync"):
                if pipeline.config.restore_from_destination:
                    pipeline.sync_destination()
                dataset, separator = self._part.plan.dataset(config), config.dataset_separator
                dlt_tables = DltTables(Collections(connection, dataset, separator), source.schema)
                state = SourceState(pipeline, self._part.plan, dlt_tables)
                state.join_pipeline(source)
                # Also with `refresh`, which drops what is known under the names of this load.
                state.refuse_loss(source, options.get("write_disposition"))
            self._prepare_model()
        begun_from = deepcopy(dict(pipeline.state))
        for resource in source.selected_resources.values():
            loaded.given.count(resource)
        with self._interruption.raised_at_once():
            with loaded.timed("extract"), self._interval_known():
                pipeline.extract(source, **options)
            with loaded.timed("normalize"):
                normalized = pipeline.normalize()
        refuse_if_stopping()
        base_states.update(dict.fromkeys(pipeline.list_normalized_load_packages(), begun_from))
        named = (named_table(each, source.schema) for each in source.selected_resources.values())
        rows = dict.fromkeys(filter(None, named), 0) | normalized.row_counts
        loaded.last_rows = rows
        for table, count in rows.items():
            loaded.rows[table] = loaded.rows.get(table, 0) + count
        logger.info(
            "Extracted in %.1f s: %s.",
            loaded.seconds["extract"] + loaded.seconds["normalize"],
            ", ".join(f"{name} {count:,}" for name, count in rows.items() if name[0] != "_"),
        )

    @contextmanager
    def _interval_known(self) -> Iterator[None]:
        """Let incremental resources that ask for a scheduler's interval have the partition's."""
        if self._part.interval is None:
            yield
            return
        with Container().injectable_context(TimeIntervalContext(self._part.interval)):
            yield

    @property
    def loaded(self) -> Loaded:
        """The results of the run so far."""
        return self._loaded

    @property
    def _schema_name(self) -> str:
        return str(self._part.source.name)

    @contextmanager
    def client(self) -> Iterator[QdrantJobClient]:
        """The destination's client; while it is open, a local path is not opened again."""
        # The source's schema: a pipeline may have loaded others before.
        with self._pipeline.destination_client(self._schema_name) as client:
            if not isinstance(client, QdrantJobClient):
                raise DagsterInvariantViolationError("The pipeline's destination is not Qdrant.")
            yield client

    def load(self, client: QdrantJobClient) -> None:
        """Load what was extracted."""
        loaded = self._loaded
        with loaded.timed("load"):
            info = self._load_or_give_up(client)
        loaded.last_counts = {
            table: counts
            for load_id in info.loads_ids
            for table, counts in load_reports.take(load_id).items()
        }
        for table, counts in loaded.last_counts.items():
            loaded.counts.setdefault(table, LoadCounts()).add(counts)
        # The state goes into the pipeline's default schema, which may be a load of its own.
        own = [p.load_id for p in info.load_packages if p.schema_name == self._schema_name]
        loaded.load_ids += own or info.loads_ids
        tables = loaded.tables_of(self._part.source, client.schema)
        for name, resource in self._part.source.selected_resources.items():
            make_empty_collections(client, resource, tables[name])
        self._report()

    def _report(self) -> None:
        """One line for a load that went well."""
        tables = [
            f"{name} {counts.rows:,} rows, {counts.embedded:,} embedded, {counts.reused:,} reused"
            for name, counts in sorted(self._loaded.last_counts.items())
            if not is_of_dlt(name)
        ]
        seconds = time.monotonic() - self._begun
        logger.info("Loaded in %.1f s: %s.", seconds, "; ".join(tables) or "no rows")

    def _load_or_give_up(self, client: QdrantJobClient) -> LoadInfo:
        """Load, and if that fails say so in the dataset: dlt can never resume the load."""
        try:
            return self._pipeline.load()
        except PipelineStepFailed:
            self._give_up(client)
            raise

    def _give_up(self, client: QdrantJobClient) -> None:
        with last_words():
            for load_id in self._pipeline.list_normalized_load_packages():
                try:
                    client.load(load_id).give_up()
                except QdrantError as error:  # the first failure tells more
                    logger.warning(
                        "Load %s could not be marked as failed; the next run will notice. %s",
                        load_id,
                        error,
                    )

    def _prepare_model(self) -> None:
        """Refuse models that are not known before a source is read, perhaps for hours.

        Load the main one meanwhile if it is sure to be needed: a table that was loaded before may
        have no new text, and then needs no model at all.
        """
        config = self._resource.configuration()
        resources = self._part.source.selected_resources.values()
        embedding = [resource for resource in resources if has_main_vectors(resource)]
        further = [vector for resource in resources for vector in vectors_of(resource).values()]
        try:
            for model in (
                *([config.embedding] if embedding else []),
                *(vector.options(config.embedding) for vector in further),
            ):
                vector_size(model)
        except EmbeddingError as error:
            raise QdrantConfigurationError(str(error)) from error
        schemas = self._pipeline.schemas  # as the dataset has them
        known = {table for name in schemas for table in schemas[name].tables}
        named = {named_table(resource, self._part.source.schema) for resource in embedding}
        if self._embeds_here and named - {None, *known}:
            preload_embedder(config.embedding)
