"""`QdrantResource`: credentials and options, and everything that is done with them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Union, overload

from dagster import (
    AssetCheckResult,
    AssetExecutionContext,
    AssetMaterialization,
    DagsterInvalidDefinitionError,
    MaterializeResult,
    OpExecutionContext,
)
from dagster_dlt.translator import DagsterDltTranslator

from dagster_qdrant.garbage_collection import end_at_once
from dagster_qdrant.runs.options import QdrantOptions
from dagster_qdrant.search import TableSearch

if TYPE_CHECKING:
    from dlt.extract import DltResource, DltSource
    from qdrant_client import QdrantClient, models

    Source = Union[DltSource, DltResource]


DEFAULT_RESOURCE_KEY = "qdrant"


class QdrantResource(TableSearch, QdrantOptions):
    """A Qdrant server, Qdrant Cloud or a local folder, and how texts get into it.

    A field that is not set falls through to dlt's configuration (`[destination.qdrant]` in
    secrets.toml or config.toml, `DESTINATION__QDRANT__...`), then to its default. Nothing set at
    all means `http://localhost:6333` without a key.

    For example, with Qdrant Cloud:

        from dagster import AssetExecutionContext, Definitions, EnvVar
        from dagster_qdrant import QdrantResource, qdrant_adapter, qdrant_assets

        movies = [{"id": 1, "title": "Blade Runner"}, {"id": 2, "title": "Alien"}]

        @qdrant_assets(
            dlt_source=qdrant_adapter(movies, embed="title"), dataset_name="movies_dataset"
        )
        def movie_assets(context: AssetExecutionContext, qdrant: QdrantResource):
            yield from qdrant.run(context)

        defs = Definitions(
            assets=[movie_assets],
            resources={
                "qdrant": QdrantResource(
                    location="https://my-cluster.qdrant.io", api_key=EnvVar("QDRANT_API_KEY")
                )
            },
        )
    """

    @contextlib.contextmanager
    def get_client(self) -> Iterator[QdrantClient]:
        """A client of Qdrant, closed at the end of the `with` block.

        Raises:
            QdrantConfigurationError: If the options contradict each other.

        Examples:
            >>> with qdrant.get_client() as client:
            ...     client.get_collections()
        """
        from dagster_qdrant.qdrant.connection import connect, open_client

        options = self.configuration().connection
        if options.is_local:  # one client of a place in a process; closed when the last one leaves
            with connect(options) as connection:
                yield connection.client
            return
        client = open_client(options)
        try:
            yield client
        finally:
            client.close()

    def drop_partition(
        self, dataset_name: str | None, table: str, partition: str
    ) -> dict[str, int]:
        """Remove the rows of a deleted partition, say of a dynamic one.

        Rows carry their partition in replaced tables. Rows of nested tables go with them. Loads of
        the same partition wait meanwhile, and `_dlt_loads` has a row for it.

        Args:
            dataset_name: The dataset as it was given to the assets, or None.
            table: The table, as the source or as dlt names it.
            partition: The partition's key; one of several dimensions as text, "2026-01-01|north".

        Returns:
            How many rows went, by table; none if there were none.

        Raises:
            QdrantTerminalError: If there is no such table, or its rows carry no partition.

        Examples:
            >>> qdrant.drop_partition("shop", "sales", "2026-01-01")
            {'sales': 120, 'sales__items': 311}
        """
        from dagster_qdrant.destination.partition_drop import drop_partition
        from dagster_qdrant.runs.run_owner import runs_known

        with runs_known(self):
            return drop_partition(self.configuration(), dataset_name, table, str(partition))

    def delete_rows(
        self, dataset_name: str | None, table: str, row_filter: models.Filter
    ) -> dict[str, int]:
        """Delete the rows that a filter selects, say those of one person.

        Rows of nested tables go with theirs. Loads of the table wait meanwhile, this waits for
        those that run, and `_dlt_loads` has a row for it. A row that the source gives again is
        loaded again.

        Args:
            dataset_name: The dataset as it was given to the assets, or None.
            table: The table, as the source or as dlt names it.
            row_filter: Which rows, by columns as dlt names them.

        Returns:
            How many rows went, by table; none if there were none.

        Raises:
            QdrantTerminalError: If there is no such table, it is a nested one or one of dlt's own,
                or Qdrant refuses the filter.

        Examples:
            >>> is_ada = models.FieldCondition(key="customer", match=models.MatchValue(value="Ada"))
            >>> qdrant.delete_rows("shop", "orders", models.Filter(must=[is_ada]))
            {'orders': 3, 'orders__items': 7}
        """
        from dagster_qdrant.runs.run_owner import runs_known

        with runs_known(self):
            return self.destination().delete_rows(dataset_name, table, row_filter)

    @overload
    def run(
        self,
        context: AssetExecutionContext,
        dlt_source: Source | Callable[[str], Source] | None = None,
        dataset_name: str | None = None,
        pipeline_name: str | None = None,
        dagster_dlt_translator: DagsterDltTranslator | None = None,
        **extract_options: Any,
    ) -> Iterator[Union[MaterializeResult[Any], AssetCheckResult]]: ...

    @overload
    def run(
        self,
        context: OpExecutionContext,
        dlt_source: Source | Callable[[str], Source] | None = None,
        dataset_name: str | None = None,
        pipeline_name: str | None = None,
        dagster_dlt_translator: DagsterDltTranslator | None = None,
        **extract_options: Any,
    ) -> Iterator[AssetMaterialization]: ...

    def run(
        self,
        context: Union[AssetExecutionContext, OpExecutionContext],
        dlt_source: Source | Callable[[str], Source] | None = None,
        dataset_name: str | None = None,
        pipeline_name: str | None = None,
        dagster_dlt_translator: DagsterDltTranslator | None = None,
        **extract_options: Any,
    ) -> Any:
        """Load what the assets stand for; only the selected ones in a run of a subset.

        It is a generator, which does nothing on its own: `yield from qdrant.run(context)`.

        Args:
            context: The context of an asset made by `@qdrant_assets`, or of any op.
            dlt_source: What to load instead; in an op there is no other. For assets with
                partitions, a function that makes the source of a partition from its key: it is
                called for each partition of the run.
            dataset_name: The dataset, in an op.
            pipeline_name: The name of dlt's state, in an op. Default: the source's name.
            dagster_dlt_translator: Makes the materialized assets' keys, in an op.
            **extract_options: What else `dlt.Pipeline.extract` takes, say `write_disposition` or
                `refresh`.

        Yields:
            A `MaterializeResult` for each asset, with the results of its checks if it has some; an
            `AssetCheckResult` for each check that is run alone; an `AssetMaterialization` in an op.

        Raises:
            dagster.Failure: When the load fails, with what to do in its first line. A permanent
                failure is not retried, even under a `retry_policy`.
        """
        from dagster_qdrant.runs.idle_runs import watched
        from dagster_qdrant.runs.run import run_load
        from dagster_qdrant.runs.step_graph import workers_of
        from dagster_qdrant.runs.worker_steps import run_step

        end_at_once()
        is_asset = isinstance(context, AssetExecutionContext)
        run: Any = run_step if is_asset and workers_of(context.assets_def) > 1 else run_load
        events = run(
            self,
            context,
            dlt_source=dlt_source,
            dataset_name=dataset_name,
            pipeline_name=pipeline_name,
            translator=dagster_dlt_translator,
            extract_options=extract_options,
        )
        return watched(context, events)


def resource_of(context: Any, key: str) -> QdrantResource:
    """The resource under a key, for a body that names none.

    Raises:
        DagsterInvalidDefinitionError: If it is something else.
    """
    resource = getattr(context.resources, key)
    if not isinstance(resource, QdrantResource):
        raise DagsterInvalidDefinitionError(
            f"The resource under the key `{key}` is a {type(resource).__name__}; it must be a "
            "`QdrantResource`. Name another key as `resource_key`."
        )
    return resource
