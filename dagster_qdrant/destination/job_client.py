"""What dlt asks of a destination, answered with Qdrant's collections."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from dataclasses import replace
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
from dlt.common.schema.typing import C_DLT_LOAD_ID, TTableSchema
from dlt.common.schema.utils import get_nested_tables, get_root_table
from dlt.common.storages import ParsedLoadJobFileName
from dlt.common.storages.exceptions import CurrentLoadPackageStateNotAvailable
from dlt.common.storages.load_package import (
    LoadPackageStateInjectableContext,
    commit_load_package_state,
    destination_state,
    load_package_state,
)

from dagster_qdrant.client import Connection, connect
from dagster_qdrant.destination.collections import Collections, IndexType, matches
from dagster_qdrant.destination.configuration import QdrantDestinationConfiguration
from dagster_qdrant.destination.dlt_tables import DltTables, LoadRecord, LoadStatus
from dagster_qdrant.destination.generations import Generations
from dagster_qdrant.destination.load_completion import remove_what_the_load_outdates
from dagster_qdrant.destination.load_job import QdrantLoadJob
from dagster_qdrant.destination.load_leases import LoadLease, LoadTakenBackError, leases
from dagster_qdrant.destination.rebuild import embed_again, is_outdated, refuse_change
from dagster_qdrant.destination.refusals import (
    refuse_another_key,
    refuse_merge_without_key,
    refuse_rows_without_partition,
    refuse_unfit_collection,
    refuse_unfit_embed_columns,
    refuse_unknown_model,
)
from dagster_qdrant.destination.state_merge import base_states
from dagster_qdrant.destination.table_plan import TablePlan
from dagster_qdrant.embedding import preload_embedder

logger = logging.getLogger(__name__)

# Under this key the state of a load package says which collections the load builds.
_TARGETS = "qdrant_targets"
# And here how many rows of each load those had that are embedded again.
_REBUILT = "qdrant_rebuilt"


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
        target = self._targets().get(collection)
        return TablePlan.of(table, self.schema, collection, target, self.config.partition)

    def _targets(self) -> dict[str, str]:
        """The collections that this load builds, by the names that they are going to have."""
        try:
            state = destination_state()
        except CurrentLoadPackageStateNotAvailable:  # nothing is loaded at the moment
            return {}
        targets: dict[str, str] = state.get(_TARGETS, {})
        return targets

    def _plans_before(self) -> dict[str, TablePlan]:
        """How tables were loaded last, if the schema is another one now."""
        stored = self.dlt_tables.newest_schema(self.schema.name)
        if stored is None or stored.version_hash == self.schema.stored_version_hash:
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
        self.ensure_collection(self.plan(self.schema.version_table_name))
        tables = super().verify_schema(only_tables, new_jobs)  # type: ignore[arg-type]
        dlt_tables = set(self.schema.dlt_table_names())
        before = self._plans_before()
        package = load_package_state()["state"]
        emptied = package.get("dropped_tables", []) + package.get("truncated_tables", [])
        emptied_names = {table["name"] for table in emptied}
        for table in sorted(tables, key=lambda table: str(table["name"])):
            if table["name"] in dlt_tables:
                continue
            plan = self._plan(table)
            hints = cast(TTableSchema, table)
            refuse_merge_without_key(hints, plan, self.schema.tables)
            if plan.table_name not in emptied_names:
                refuse_another_key(plan, before.get(plan.table_name), self.collections)
            refuse_unfit_embed_columns(self.schema.get_table(plan.table_name), plan)
            refuse_unknown_model(plan, self.config.embedding)
            refuse_unfit_collection(plan, self.collections, self.config.embedding)
            if plan.embed and not self.collections.exists(plan.collection):
                # All of its rows are going to need the model, which is loaded while collections
                # are made. A table that is there may have no new text.
                preload_embedder(self.config.embedding)
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
        rebuilt = self._choose_targets(tables - set(self.schema.dlt_table_names()))
        for table_name in sorted(tables | {plan.table_name for plan in rebuilt}):
            plan = self.plan(table_name)
            self.ensure_collection(plan)
            refuse_rows_without_partition(plan, self.collections)
        load_id = Container()[LoadPackageStateInjectableContext].load_id
        for plan in rebuilt:
            # A replace brings all rows that there shall be, unless it is one of a partition.
            if plan.write_disposition != "replace" or plan.partition is not None:
                rows_by_load = embed_again(self.collections, plan, self.config, load_id)
                destination_state().setdefault(_REBUILT, {})[plan.collection] = rows_by_load
                commit_load_package_state()
        # Also a former version, if it holds again: the newest one says how rows were loaded last.
        newest = self.dlt_tables.newest_schema(self.schema.name)
        if newest is None or newest.version_hash != self.schema.stored_version_hash:
            self.dlt_tables.store_schema()
        return update

    def _choose_targets(self, table_names: set[str]) -> list[TablePlan]:
        """Decide which tables get a new collection, and write it down in the load package."""
        roots = {str(get_root_table(self.schema.tables, name)["name"]) for name in table_names}
        plans = [
            self.plan(str(table["name"]))
            for root in sorted(roots)
            for table in get_nested_tables(self.schema.tables, root)
        ]
        generations = Generations(self.collections)
        rebuilt = [plan for plan in plans if self._is_rebuilt(plan, generations)]
        targets = {plan.collection: generations.next(plan.collection) for plan in rebuilt}
        for plan in rebuilt:  # what an attempt left that was made for yet another model goes
            begun = self.collections.describe(targets[plan.collection])
            if begun is not None and is_outdated(plan, begun, self.config.embedding):
                self.collections.drop(targets[plan.collection])
        if targets:
            destination_state()[_TARGETS] = targets
            commit_load_package_state()
        return [replace(plan, target=targets[plan.collection]) for plan in rebuilt]

    def _is_rebuilt(self, plan: TablePlan, generations: Generations) -> bool:
        info = self.collections.describe(plan.collection)
        if info is None:
            generations.recover(plan.collection)
            info = self.collections.describe(plan.collection)
        if plan.write_disposition == "replace" and self.config.swaps:
            return True
        return info is not None and is_outdated(plan, info, self.config.embedding)

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
        if load_id not in leases:
            leases[load_id] = LoadLease.of(
                load_id,
                self._pipeline_name,
                self._appended_tables(load_id),
                self.config.abandoned_after,
            )
        return QdrantLoadJob(file_path, self._plan(table), self.config, leases[load_id])

    def complete_load(self, load_id: str) -> None:
        """Remove what the load outdates, then write down that it is complete.

        Raises:
            LoadTakenBackError: If another run of the pipeline took the load for dead.
            QdrantTransientError: If a collection changed while it was embedded again.
        """
        dlt_tables = self.dlt_tables
        lease = leases.get(load_id)
        with lease.alive(dlt_tables) if lease else contextlib.nullcontext():
            if self._is_whole(load_id):
                remove_what_the_load_outdates(
                    load_id,
                    self._loaded_tables(load_id),
                    self.schema,
                    self.collections,
                    self.plan,
                )
                self._switch_to_targets()
            for dead in lease.dead_loads(dlt_tables) if lease else ():
                self._take_back(dead)
        if (base := base_states.pop(load_id, None)) is not None:
            dlt_tables.merge_state(self._pipeline_name, load_id, base)
        if not dlt_tables.complete_load(load_id):
            self.remove_stragglers(load_id)
            raise LoadTakenBackError(load_id, self._pipeline_name)
        leases.pop(load_id, None)

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

    def _switch_to_targets(self) -> None:
        targets = self._targets()
        generations = Generations(self.collections)
        field = self.schema.naming.normalize_identifier(C_DLT_LOAD_ID)
        for collection, rows_by_load in destination_state().get(_REBUILT, {}).items():
            if not generations.leads_to(collection, targets[collection]):
                refuse_change(self.collections, collection, field, rows_by_load)
        if targets:
            generations.switch(targets, self.config.keep_former)

    def give_up_load(self, load_id: str) -> None:
        """Write down that a load will never be resumed, so that the next one need not wait for it.

        What it appended stays until then: the next load uses the vectors, and takes the rows back.
        """
        leases.pop(load_id, None)
        failed = int(LoadStatus.FAILED)
        self.dlt_tables.change_load(load_id, LoadStatus.RUNNING, status=failed)
        self.remove_stragglers(load_id)

    def remove_stragglers(self, load_id: str) -> None:
        """Remove what a load wrote after it was taken back and before it noticed."""
        record = self.dlt_tables.load_record(load_id)
        if record is not None and record.status is LoadStatus.TAKEN_BACK:
            self._remove_appended(record)

    def _take_back(self, dead: LoadRecord) -> None:
        logger.info("Load %s never became complete; what it appended goes.", dead.load_id)
        dlt_tables = self.dlt_tables
        # In this order it can be done again from any point, and the load, if it lives after all,
        # notices before it counts as complete.
        dlt_tables.change_load(dead.load_id, dead.status, status=int(LoadStatus.FAILED))
        self._remove_appended(dead)
        dlt_tables.change_load(dead.load_id, LoadStatus.FAILED, status=int(LoadStatus.TAKEN_BACK))

    def _remove_appended(self, load: LoadRecord) -> None:
        rows = matches({self.schema.naming.normalize_identifier(C_DLT_LOAD_ID): load.load_id})
        for table_name in load.tables:
            self.collections.delete_where(self.collections.name(table_name), rows)

    @property
    def _pipeline_name(self) -> str:
        return self.config.pipeline_name or self.schema.name

    def _loaded_tables(self, load_id: str) -> set[str]:
        package = Container()[LoadPackageStateInjectableContext].storage
        jobs = package.get_load_package_jobs(load_id)
        return {job.table_name for in_state in jobs.values() for job in in_state}

    def _appended_tables(self, load_id: str) -> list[str]:
        tables = self._loaded_tables(load_id) - set(self.schema.dlt_table_names())
        return sorted(
            table_name
            for table_name in tables
            if self.prepare_load_table(table_name)["write_disposition"] == "append"
        )

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
