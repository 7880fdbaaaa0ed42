"""What dlt asks of a destination, answered with Qdrant's collections."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, cast

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
from dlt.common.schema.utils import get_nested_tables
from dlt.common.storages import ParsedLoadJobFileName
from dlt.common.storages.exceptions import CurrentLoadPackageStateNotAvailable
from dlt.common.storages.load_package import (
    load_package_state,
)

from dagster_qdrant.destination.chunk_refusals import (
    refuse_other_chunks,
    refuse_rows_without_chunks,
)
from dagster_qdrant.destination.column_refusals import (
    refuse_nested_data,
    refuse_unfit_embed_columns,
    refuse_unfit_indexes,
    warn_of_missing_lists,
)
from dagster_qdrant.destination.configuration import QdrantDestinationConfiguration
from dagster_qdrant.destination.generations.generations import Generations
from dagster_qdrant.destination.generations.load_targets import (
    LoadTargets,
    load_targets,
    settled_hints,
)
from dagster_qdrant.destination.load_job import QdrantLoadJob
from dagster_qdrant.destination.loads.books import Books
from dagster_qdrant.destination.loads.dlt_tables import DltTables
from dagster_qdrant.destination.loads.kept_schema import forget_hints
from dagster_qdrant.destination.loads.known_tables import learn_tables
from dagster_qdrant.destination.loads.load import Load
from dagster_qdrant.destination.loads.load_leases import lease_of
from dagster_qdrant.destination.loads.load_package import (
    dropped_tables,
    emptied_tables,
    lines_of,
)
from dagster_qdrant.destination.loads.row_order import refuse_rows_without_order
from dagster_qdrant.destination.loads.schema_table import KeptSchema
from dagster_qdrant.destination.loads.shared_load import share_of_load
from dagster_qdrant.destination.refusals import (
    refuse_merge_without_key,
    refuse_rows_of_another_key,
    refuse_unfit_collection,
    refuse_unfit_nested_dispositions,
    refuse_unfit_settings,
    refuse_unknown_model,
)
from dagster_qdrant.destination.service_refusals import refuse_unfit_service
from dagster_qdrant.destination.tables.hints import TableHint
from dagster_qdrant.destination.tables.table_plan import TablePlan
from dagster_qdrant.destination.writing.table_collection import ensure_collection
from dagster_qdrant.embedding.embedder import preload_embedder
from dagster_qdrant.errors import QdrantNotFoundError
from dagster_qdrant.qdrant.collections import Collections, about
from dagster_qdrant.qdrant.connection import Connection, connect
from dagster_qdrant.qdrant.known_collections import KnownCollections

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
        self._known: KnownCollections | None = None

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
        if self._known is not None:
            return self._known
        return Collections(self.connection, self.dataset_name, self.config.dataset_separator)

    @contextlib.contextmanager
    def described_once(self) -> Iterator[None]:
        """Ask about each collection once while something is told of them."""
        self._known = KnownCollections(self.collections)
        try:
            yield
        finally:
            self._known = None

    @property
    def dlt_tables(self) -> DltTables:
        """The tables that dlt keeps its own books in."""
        return DltTables(self.collections, self.schema)

    @property
    def _books(self) -> Books:
        return Books(self.collections, self.schema, self.plan, self.config.embedding)

    def plan(self, table_name: str) -> TablePlan:
        """How the rows of a table become points; while nothing is loaded, how they became it."""
        return self._plan(self.prepare_load_table(table_name))

    def load(self, load_id: str) -> Load:
        """A load under way."""
        return self._load(load_id, self.collections)

    def _load(self, load_id: str, collections: Collections) -> Load:
        return Load(load_id, self.schema, self.config, collections, self.plan)

    def _plan(self, prepared: PreparedTableSchema) -> TablePlan:
        table = cast(TTableSchema, prepared)  # it has more fields, and all of these
        collection = self.config.collection_name(self.dataset_name, str(prepared["name"]))
        settled = settled_hints()
        said = self._said_of(collection) if settled is None else settled.get(collection)
        return TablePlan.of(
            table,
            self.schema,
            collection,
            load_targets().get(collection),
            self.config.partition,
            said=said,
        )

    def _said_of(self, collection: str) -> TableHint | None:
        """What a collection was made for: no hint tells it after the load."""
        info = self.collections.describe(collection) if self._connection else None
        return TableHint.read(about(info)) if info else None

    def _nested_plans(self, root: TablePlan) -> list[TablePlan]:
        nested = get_nested_tables(self.schema.tables, root.table_name, include_self=False)
        return [self.plan(str(table["name"])) for table in nested]

    def _plans_before(self, schema: Schema | None) -> dict[str, TablePlan]:
        """How tables were loaded last, as far as the schema knows that was stored last."""
        if schema is None:
            return {}
        return {
            name: TablePlan.of(table, schema, self.collections.name(name))
            for name in schema.data_table_names()
            if "write_disposition" in (table := schema.tables[name])
        }

    # Storage

    def is_storage_initialized(self) -> bool:
        """Whether anything was ever loaded into the dataset."""
        return self.dlt_tables.schemas.exists()

    def initialize_storage(self, truncate_tables: Iterable[str] | None = None) -> None:
        """Empty the tables that dlt's refresh modes ask to be emptied.

        Collections are created with the schema. A replaced table is not emptied here: its former
        rows stay until the new ones are in. So do those of a table that gets another collection.
        """
        from qdrant_client import models

        targets = load_targets()
        for table_name in truncate_tables or ():
            if not self.collections.is_foreign(table_name):
                collection = self.collections.name(table_name)
                self.collections.delete_where(targets.get(collection, collection), models.Filter())

    def should_truncate_table_before_load(self, table_name: str) -> bool:
        """Never: see `initialize_storage`."""
        return False

    def drop_storage(self) -> None:
        """Delete the dataset's collections: those of tables that its schemas know."""
        tables = self.dlt_tables.schemas.table_names() | set(self.schema.tables)
        for table_name in sorted(tables):
            self._drop(table_name)

    def drop_tables(self, *tables: str, delete_schema: bool = True) -> None:
        """Delete the collections of some tables; dlt's refresh modes call it."""
        for table_name in tables:
            self._drop(table_name)
        if delete_schema:
            self.dlt_tables.schemas.delete()

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
        forget_hints()
        # dlt throws away what waits to be loaded into a dataset that does not exist. So that rows
        # wait for a mended mistake, the dataset exists before anything is refused.
        stored = self._books.open()
        known = self._learn(stored)
        tables = super().verify_schema(only_tables, new_jobs)  # type: ignore[arg-type]
        load_id = load_package_state()["load_id"]
        dlt_tables = set(self.schema.dlt_table_names())
        before = self._plans_before(known)
        collections = KnownCollections(self.collections)
        emptied, targets = emptied_tables(), LoadTargets(collections, self.config)
        data_tables = sorted((str(t["name"]), t) for t in tables if t["name"] not in dlt_tables)
        collections.look_up(collections.name(name) for name, _ in data_tables)
        for _, table in data_tables:
            plan = self._plan(table)
            hints = cast(TTableSchema, table)
            refuse_merge_without_key(hints, plan)
            nested = self._nested_plans(plan)
            refuse_unfit_nested_dispositions(plan, nested)
            refuse_rows_without_order(load_id, plan, nested)
            if plan.table_name not in emptied:
                refuse_rows_of_another_key(plan, before.get(plan.table_name), collections)
            warn_of_missing_lists(hints, self.schema)
            refuse_unfit_embed_columns(self.schema.get_table(plan.table_name), plan)
            refuse_unfit_indexes(self.schema.get_table(plan.table_name), plan)
            refuse_nested_data(plan, self.schema, partial(lines_of, load_id))
            refuse_rows_without_chunks(plan, partial(lines_of, load_id))
            refuse_unknown_model(plan, self.config.embedding)
            refuse_unfit_collection(plan, collections, self.config.embedding)
            is_dropped = plan.table_name in dropped_tables()
            if not is_dropped and plan.table_name not in emptied:
                refuse_other_chunks(plan, self.collections, self.config.embedding)
            if plan.settings and not is_dropped and not targets.is_made_anew(plan):
                refuse_unfit_settings(plan, collections, self.config.embedding)
            is_new_table = plan.embeds and not collections.exists(plan.collection)
            refuse_unfit_service(
                plan, collections, self.config.embedding, is_new_table=is_new_table
            )
            if is_new_table and plan.embed and share_of_load() is None:
                # All of its rows are going to need the model, which is loaded while collections
                # are made. A table that is there may have no new text.
                preload_embedder(self.config.embedding)
        lease = self._load(load_id, collections).lease
        try:
            with lease.alive(self.dlt_tables):
                pass  # Now that it is the load's turn, dlt drops what it is told to refresh.
        except QdrantNotFoundError:  # somebody deleted the table of loads
            self._books.make()
            with lease.alive(self.dlt_tables):
                pass
        if lease.had_to_wait:  # the loads that came first may have stored another one
            stored = self._books.newest_schema()
            self._learn(stored)
        lease.stored_schema = None if emptied else stored
        return tables

    def _learn(self, stored: KeptSchema | None) -> Schema | None:
        """Let the schema of the load know of all tables that are stored."""
        if stored is None:
            return None
        schema = Schema.from_stored_schema(json.loads(stored.info.schema))
        learn_tables(self.schema, schema, dropped_tables())
        return schema

    def update_stored_schema(
        self,
        only_tables: Iterable[str] | None = None,
        expected_update: TSchemaTables | None = None,
        force: bool = False,
    ) -> TSchemaTables | None:
        """Create the collections that are missing and store the schema if it is new."""
        update = super().update_stored_schema(only_tables, expected_update, force)  # type: ignore[arg-type]
        dlt_tables = set(self.schema.dlt_table_names())
        tables = set(only_tables or self.schema.tables)
        stored: KeptSchema | None = None
        try:
            load_id = load_package_state()["load_id"]
        except CurrentLoadPackageStateNotAvailable:  # the schema alone is brought up to date
            targets = LoadTargets(self.collections, self.config)
            targets.ensure(self.plan(table_name) for table_name in sorted(tables | dlt_tables))
        else:
            load = self.load(load_id)
            stored = load.lease.stored_schema
            load.prepare(tables - dlt_tables)
        self._books.store_schema(stored)
        return update

    def make_collections(self, tables: Sequence[TTableSchema], wanted: Sequence[str]) -> None:
        """Make the collections of tables that had no row yet, so that they can be searched.

        Args:
            tables: A resource's tables as it describes them, each after its parent. The schema
                does not get them: for dlt, a table begins with its first row.
            wanted: The names of those among them that get a collection.
        """
        schema = self.schema.clone()
        for table in tables:
            schema.update_table(table)
        with QdrantJobClient(schema, self.config, self.capabilities) as client:
            for name in wanted:
                plan = client.plan(name)
                ensure_collection(client.collections, plan, self.config.embedding)

    # Loading

    def create_load_job(
        self, table: PreparedTableSchema, file_path: str, load_id: str, restore: bool = False
    ) -> LoadJob:
        """The job for one file; a restored one runs again and changes nothing that is done."""
        lease = lease_of(load_id)
        if lease is None:  # dlt resumes the load, and enters the client later
            with self:
                lease = self.load(load_id).lease
        return QdrantLoadJob(file_path, self._plan(table), self.config, lease)

    def complete_load(self, load_id: str) -> None:
        """Remove what the load outdates, then write down that it is complete.

        Raises:
            LoadTakenBackError: If another run of the pipeline took the load for dead.
            QdrantTransientError: If a collection changed while it was embedded again.
        """
        self.load(load_id).complete()

    # State

    def get_stored_schema(self, schema_name: str | None = None) -> StorageSchemaInfo | None:
        """The latest stored schema of a name, or of any name."""
        return self.dlt_tables.schemas.newest(schema_name)

    def get_stored_schema_of(
        self, resource_name: str, table_name: str | None
    ) -> StorageSchemaInfo | None:
        """The latest stored schema, of any name, that has a table or any table of a resource."""
        return self.dlt_tables.schemas.newest_of(resource_name, table_name)

    def get_stored_schema_by_hash(self, version_hash: str) -> Any:
        """The stored schema with a hash, or None."""
        return self.dlt_tables.schemas.by_hash(version_hash)

    def get_stored_state(self, pipeline_name: str) -> StateInfo | None:
        """The latest state of a pipeline whose load completed.

        dlt asks for it before it extracts, so that what a load left that did not begin goes now.

        Raises:
            QdrantNotFoundError: If nothing was ever loaded into the dataset.
        """
        forget_hints()
        return self.dlt_tables.states.newest(pipeline_name)
