"""What dlt asks of a destination, answered with Qdrant's collections."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, cast

from dlt.common.configuration.container import Container
from dlt.common.destination import DestinationCapabilitiesContext
from dlt.common.destination.client import (
    JobClientBase,
    LoadJob,
    StateInfo,
    StorageSchemaInfo,
    WithStateSync,
)
from dlt.common.destination.typing import PreparedTableSchema
from dlt.common.json import json
from dlt.common.schema import Schema, TSchemaTables
from dlt.common.schema.typing import TTableSchema
from dlt.common.schema.utils import get_nested_tables, get_root_table
from dlt.common.storages import ParsedLoadJobFileName
from dlt.common.storages.exceptions import CurrentLoadPackageStateNotAvailable
from dlt.common.storages.load_package import (
    LoadPackageStateInjectableContext,
    load_package_state,
)

from dagster_qdrant.client import Connection, connect
from dagster_qdrant.destination.collections import Collections, IndexType
from dagster_qdrant.destination.configuration import QdrantDestinationConfiguration
from dagster_qdrant.destination.dlt_tables import DltTables, LoadRecord, LoadStatus
from dagster_qdrant.destination.generations import Generations
from dagster_qdrant.destination.load_claims import Claim
from dagster_qdrant.destination.load_completion import remove_what_the_load_outdates
from dagster_qdrant.destination.load_job import QdrantLoadJob
from dagster_qdrant.destination.load_leases import (
    LoadLease,
    LoadTakenBackError,
    give_up,
    leases,
    remove_stragglers,
)
from dagster_qdrant.destination.load_targets import LoadTargets, load_targets
from dagster_qdrant.destination.refusals import (
    refuse_merge_without_key,
    refuse_rows_of_another_key,
    refuse_rows_without_partition,
    refuse_unfit_collection,
    refuse_unfit_embed_columns,
    refuse_unknown_model,
)
from dagster_qdrant.destination.state_merge import base_states
from dagster_qdrant.destination.table_plan import TablePlan
from dagster_qdrant.embedding import preload_embedder

logger = logging.getLogger(__name__)


class QdrantJobClient(JobClientBase, WithStateSync):
    """One schema's way to Qdrant. dlt enters it for each step and each job of a load.

    Args:
        schema: The schema whose tables are loaded.
        config: The destination's options.
        capabilities: What the destination can do.
    """

    config: QdrantDestinationConfiguration

    def __init__(
        self,
        schema: Schema,
        config: QdrantDestinationConfiguration,
        capabilities: DestinationCapabilitiesContext,
    ) -> None:
        super().__init__(schema, config, capabilities)
        self._entered = contextlib.ExitStack()
        self._connection: Connection | None = None

    def __enter__(self) -> QdrantJobClient:
        self._connection = self._entered.enter_context(connect(self.config.connection))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self._connection = None
        self._entered.close()

    @property
    def connection(self) -> Connection:
        """The way to Qdrant, while the client is entered."""
        if self._connection is None:
            raise RuntimeError("QdrantJobClient is used outside of its `with` block.")
        return self._connection

    @property
    def dataset_name(self) -> str | None:
        """The dataset's name as dlt normalized it."""
        return self.config.normalize_dataset_name(self.schema) or None

    @property
    def collections(self) -> Collections:
        """The dataset's collections."""
        return Collections(self.connection, self.dataset_name, self.config.dataset_separator)

    @property
    def dlt_tables(self) -> DltTables:
        """The tables that dlt keeps its own books in."""
        return DltTables(self.collections, self.schema)

    def plan(self, table_name: str) -> TablePlan:
        """How the rows of a table become points."""
        return self._plan(self.prepare_load_table(table_name))

    def indexes(self, plan: TablePlan) -> dict[str, IndexType]:
        """The payload fields of a table's collection that need an index, on a server."""
        return self.dlt_tables.indexes(plan.table_name) | plan.indexes

    def _plan(self, prepared: PreparedTableSchema) -> TablePlan:
        table = cast(TTableSchema, prepared)  # it has more fields, and all of these
        collection = self.config.collection_name(self.dataset_name, str(prepared["name"]))
        target = load_targets().get(collection)
        return TablePlan.of(table, self.schema, collection, target, self.config.partition)

    def _plans_before(self) -> dict[str, TablePlan]:
        """How tables were loaded last, as far as this schema knows."""
        stored = self.dlt_tables.newest_schema(self.schema.name)
        if stored is None:
            return {}
        schema = Schema.from_stored_schema(json.loads(stored.schema))
        return {
            name: TablePlan.of(table, schema, self.collections.name(name))
            for name in schema.data_table_names()
            if "write_disposition" in (table := schema.tables[name])
        }

    # Storage

    def is_storage_initialized(self) -> bool:
        """Whether anything was ever loaded into the dataset."""
        return self.dlt_tables.exist()

    def initialize_storage(self, truncate_tables: Iterable[str] | None = None) -> None:
        """Empty the tables that dlt's refresh modes ask to be emptied.

        Collections are created with the schema. A replaced table is not emptied here: its former
        rows stay until the new ones are in.
        """
        from qdrant_client import models

        for table_name in truncate_tables or ():
            if not self.collections.is_foreign(table_name):
                self.collections.delete_where(self.collections.name(table_name), models.Filter())

    def should_truncate_table_before_load(self, table_name: str) -> bool:
        """Never: see `initialize_storage`."""
        return False

    def drop_storage(self) -> None:
        """Delete the dataset's collections: those of tables that its schemas know."""
        tables = self.dlt_tables.table_names() | set(self.schema.tables)
        for table_name in sorted(tables):
            self._drop(table_name)

    def drop_tables(self, *tables: str, delete_schema: bool = True) -> None:
        """Delete the collections of some tables; dlt's refresh modes call it."""
        for table_name in tables:
            self._drop(table_name)
        if delete_schema:
            self.dlt_tables.delete_schema()

    def _drop(self, table_name: str) -> None:
        collections = self.collections
        if collections.is_foreign(table_name):
            return
        collection = collections.name(table_name)
        Generations(collections).drop(collection)
        collections.drop(collection)

    # Schema

    def verify_schema(
        self,
        only_tables: Iterable[str] | None = None,
        new_jobs: Iterable[ParsedLoadJobFileName] | None = None,
    ) -> list[PreparedTableSchema]:
        """Refuse what cannot be loaded, before anything is written.

        Raises:
            QdrantTerminalError: With the table, the column or the option concerned.
        """
        # dlt throws away what waits to be loaded into a dataset that does not exist. So that rows
        # wait for a mended mistake, the dataset exists before anything is refused.
        for table_name in (self.schema.version_table_name, self.schema.loads_table_name):
            self.ensure_collection(self.plan(table_name))
        tables = super().verify_schema(only_tables, new_jobs)  # type: ignore[arg-type]
        dlt_tables = set(self.schema.dlt_table_names())
        before = self._plans_before()
        emptied = _emptied_tables()
        for table in sorted(tables, key=lambda table: str(table["name"])):
            if table["name"] in dlt_tables:
                continue
            plan = self._plan(table)
            hints = cast(TTableSchema, table)
            refuse_merge_without_key(hints, plan)
            if plan.table_name not in emptied:
                refuse_rows_of_another_key(plan, before.get(plan.table_name), self.collections)
            refuse_unfit_embed_columns(self.schema.get_table(plan.table_name), plan)
            refuse_unknown_model(plan, self.config.embedding)
            refuse_unfit_collection(plan, self.collections, self.config.embedding)
            if plan.embed and not self.collections.exists(plan.collection):
                # All of its rows are going to need the model, which is loaded while collections
                # are made. A table that is there may have no new text.
                preload_embedder(self.config.embedding)
        with self._lease(load_package_state()["load_id"]).alive(self.dlt_tables):
            pass  # Now that it is the load's turn, dlt drops what it is told to refresh.
        return tables

    def update_stored_schema(
        self,
        only_tables: Iterable[str] | None = None,
        expected_update: TSchemaTables | None = None,
        force: bool = False,
    ) -> TSchemaTables | None:
        """Create the collections that are missing and store the schema if it is new."""
        update = super().update_stored_schema(only_tables, expected_update, force)  # type: ignore[arg-type]
        tables = set(only_tables or self.schema.tables)
        try:
            load_id = load_package_state()["load_id"]
        except CurrentLoadPackageStateNotAvailable:  # the schema alone is brought up to date
            self._ensure_collections(tables)
        else:
            with self._lease(load_id).alive(self.dlt_tables):
                self._prepare_collections(tables, load_id)
        # Also a former version, if it holds again: the newest one says how rows were loaded last.
        newest = self.dlt_tables.newest_schema(self.schema.name)
        if newest is None or newest.version_hash != self.schema.stored_version_hash:
            self.dlt_tables.store_schema()
        return update

    def _prepare_collections(self, tables: set[str], load_id: str) -> None:
        targets = LoadTargets(self.collections, self.config)
        data_tables = sorted(tables - set(self.schema.dlt_table_names()))
        chains = [self._chain(self.plan(name)) for name in data_tables]
        plans = {plan.table_name: plan for chain in chains for plan in chain}
        rebuilt = targets.choose(plans.values())
        # Also those that get no row: what the load outdates is looked for in them.
        others = plans.keys() - tables
        there = {name for name in others if self.collections.exists(plans[name].collection)}
        self._ensure_collections(tables | there | {plan.table_name for plan in rebuilt})
        targets.build(rebuilt, load_id)

    def _ensure_collections(self, tables: set[str]) -> None:
        for table_name in sorted(tables):
            plan = self.plan(table_name)
            self.ensure_collection(plan)
            refuse_rows_without_partition(plan, self.collections)

    def ensure_collection(self, plan: TablePlan) -> None:
        """See that the collection which a table is loaded into is there, with its indexes."""
        self.collections.ensure(
            plan.table_name,
            plan.target,
            embedding=self.config.embedding if plan.embed else None,
            embed=plan.embed,
            indexes=self.indexes(plan),
        )

    # Loading

    def create_load_job(
        self, table: PreparedTableSchema, file_path: str, load_id: str, restore: bool = False
    ) -> LoadJob:
        """The job for one file; a restored one runs again and changes nothing that is done."""
        if load_id not in leases:  # dlt resumes the load, and enters the client later
            with self:
                self._lease(load_id)
        return QdrantLoadJob(file_path, self._plan(table), self.config, leases[load_id])

    def complete_load(self, load_id: str) -> None:
        """Remove what the load outdates, then write down that it is complete.

        Raises:
            LoadTakenBackError: If another run of the pipeline took the load for dead.
            QdrantTransientError: If a collection changed while it was embedded again.
        """
        dlt_tables, lease = self.dlt_tables, self._lease(load_id)
        with lease.alive(dlt_tables):
            if not lease.is_complete:
                self._complete(load_id, lease, dlt_tables)
        self._end_lease(load_id)

    def _complete(self, load_id: str, lease: LoadLease, dlt_tables: DltTables) -> None:
        collections = self.collections
        if self._is_whole(load_id):
            remove_what_the_load_outdates(
                load_id, self._loaded_tables(load_id), self.schema, collections, self.plan
            )
            LoadTargets(collections, self.config).switch(dlt_tables.load_id_field)
        lease.take_back_dead_loads(dlt_tables, collections)
        if (base := base_states.pop(load_id, None)) is not None:
            # Read and written by one load of the pipeline at a time.
            lease.claim(Claim(self.schema.state_table_name, self._pipeline_name), dlt_tables)
            dlt_tables.merge_state(self._pipeline_name, load_id, base)
        try:
            lease.complete(dlt_tables)
        except LoadTakenBackError:
            self.remove_stragglers(load_id)
            raise

    def _is_whole(self, load_id: str) -> bool:
        """Whether all files were loaded. dlt can be told to go on where one failed."""
        package = Container()[LoadPackageStateInjectableContext].storage
        failed = package.get_load_package_jobs(load_id)["failed_jobs"]
        if failed:
            tables = sorted({job.table_name for job in failed})
            logger.warning(
                "Rows of %s could not be loaded, so the rows that were there before stay.",
                ", ".join(f"`{table}`" for table in tables),
            )
        return not failed

    def give_up_load(self, load_id: str) -> None:
        """Write down that a load will never be resumed, so that others need not wait for it."""
        self._end_lease(load_id)
        if (record := self.dlt_tables.load_record(load_id)) is not None:
            give_up(record, self.dlt_tables)
        self.remove_stragglers(load_id)

    def remove_stragglers(self, load_id: str) -> None:
        """Remove what a load appended after it was taken back and before it noticed."""
        remove_stragglers(load_id, self.dlt_tables, self.collections)

    def _lease(self, load_id: str) -> LoadLease:
        """The lease of a load; made once a process, from what the load is going to do."""
        if load_id not in leases:
            data_tables = self._loaded_tables(load_id) - set(self.schema.dlt_table_names())
            plans = [self.plan(name) for name in sorted(data_tables)]
            load = LoadRecord(
                load_id,
                self._pipeline_name,
                LoadStatus.RUNNING,
                tables=tuple(p.table_name for p in plans if p.write_disposition == "append"),
                claims=tuple(self._claims(plans)),
            )
            leases[load_id] = LoadLease(
                load, self.config.abandoned_after, lambda: connect(self.config.connection)
            )
        return leases[load_id]

    def _claims(self, plans: list[TablePlan]) -> Iterator[Claim]:
        targets, emptied = LoadTargets(self.collections, self.config), _emptied_tables()
        chains = {chain[0].table_name: chain for plan in plans if (chain := self._chain(plan))}
        for root, chain in chains.items():
            is_made_anew = root in emptied or any(map(targets.is_made_anew, chain))
            yield Claim.of(chain[0], is_made_anew=is_made_anew)
        yield from map(Claim, sorted(emptied - set(chains)))

    def _end_lease(self, load_id: str) -> None:
        if (lease := leases.pop(load_id, None)) is not None:
            lease.release()

    def _chain(self, plan: TablePlan) -> list[TablePlan]:
        """The plans of a table's root and of all tables nested in that."""
        root = str(get_root_table(self.schema.tables, plan.table_name)["name"])
        tables = get_nested_tables(self.schema.tables, root)
        return [self.plan(str(table["name"])) for table in tables]

    @property
    def _pipeline_name(self) -> str:
        return self.config.pipeline_name or self.schema.name

    def _loaded_tables(self, load_id: str) -> set[str]:
        package = Container()[LoadPackageStateInjectableContext].storage
        jobs = package.get_load_package_jobs(load_id)
        return {job.table_name for in_state in jobs.values() for job in in_state}

    # State

    def get_stored_schema(self, schema_name: str | None = None) -> StorageSchemaInfo | None:
        """The latest stored schema of a name, or of any name."""
        return self.dlt_tables.newest_schema(schema_name)

    def get_stored_schema_with(self, table_name: str) -> StorageSchemaInfo | None:
        """The latest stored schema, of any name, that has a table."""
        return self.dlt_tables.newest_schema_with(table_name)

    def get_stored_schema_by_hash(self, version_hash: str) -> Any:
        """The stored schema with a hash, or None."""
        return self.dlt_tables.schema_by_hash(version_hash)

    def get_stored_state(self, pipeline_name: str) -> StateInfo | None:
        """The latest state of a pipeline whose load completed.

        Raises:
            QdrantNotFoundError: If nothing was ever loaded into the dataset.
        """
        return self.dlt_tables.newest_state(pipeline_name)


def _emptied_tables() -> set[str]:
    """The tables that the load under way drops or empties before it loads: dlt's `refresh`."""
    package = load_package_state()["state"]
    emptied = package.get("dropped_tables", []) + package.get("truncated_tables", [])
    return {str(table["name"]) for table in emptied}
