"""`QdrantResource`: credentials and options, and everything that is done with them."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union, overload

from dagster import (
    AssetCheckResult,
    AssetExecutionContext,
    AssetMaterialization,
    ConfigurableResource,
    EnvVar,
    MaterializeResult,
    OpExecutionContext,
)
from dagster_dlt.translator import DagsterDltTranslator
from pydantic import Field

if TYPE_CHECKING:
    from dlt.extract import DltResource, DltSource
    from qdrant_client import QdrantClient, models

    from dagster_qdrant.destination import qdrant
    from dagster_qdrant.destination.configuration import QdrantDestinationConfiguration

    Source = Union[DltSource, DltResource]

_CLIENT_OPTIONS = ("host", "port", "grpc_port", "prefer_grpc", "https", "prefix", "timeout")
# What the destination knows nothing of.
_DAGSTER_OPTIONS = {"preview", "vector_map"}


class QdrantResource(ConfigurableResource):  # type: ignore[type-arg]
    """A Qdrant server, Qdrant Cloud or a local folder, and how texts get into it.

    A field that is not set falls through to dlt's configuration (`[destination.qdrant]` in
    secrets.toml or config.toml, `DESTINATION__QDRANT__...`), then to its default. Nothing set at
    all means `http://localhost:6333` without a key.

    Example:
        >>> from dagster import AssetExecutionContext, Definitions, EnvVar
        >>> from dagster_qdrant import QdrantResource, qdrant_adapter, qdrant_assets
        >>>
        >>> movies = [{"id": 1, "title": "Blade Runner"}, {"id": 2, "title": "Alien"}]
        >>>
        >>> @qdrant_assets(
        ...     dlt_source=qdrant_adapter(movies, embed="title"), dataset_name="movies_dataset"
        ... )
        ... def movie_assets(context: AssetExecutionContext, qdrant: QdrantResource):
        ...     yield from qdrant.run(context)
        >>>
        >>> defs = Definitions(
        ...     assets=[movie_assets],
        ...     resources={
        ...         "qdrant": QdrantResource(
        ...             location="https://my-cluster.qdrant.io", api_key=EnvVar("QDRANT_API_KEY")
        ...         )
        ...     },
        ... )
    """

    location: Optional[str] = Field(
        default=None,
        description="URL of a Qdrant server, or ':memory:' for a store within this process.",
    )
    path: Optional[str] = Field(
        default=None, description="Folder for qdrant-client's local mode, which needs no server."
    )
    api_key: Optional[str] = Field(
        default=None,
        repr=False,
        description="Key of the server. Give it as EnvVar.",
        json_schema_extra={"dagster__is_secret": True},  # masked in the UI, were it a literal
    )
    host: Optional[str] = Field(
        default=None, description="Name of the server, in place of `location`."
    )
    port: Optional[int] = Field(default=None, description="REST port. Default: 6333.")
    grpc_port: Optional[int] = Field(default=None, description="gRPC port. Default: 6334.")
    prefer_grpc: Optional[bool] = Field(
        default=None, description="Use gRPC where the client can. Default: false."
    )
    https: Optional[bool] = Field(
        default=None,
        description="Use TLS. Default: true when an API key goes to another machine, else false.",
    )
    prefix: Optional[str] = Field(
        default=None, description="Path before the API's, for a server behind a proxy."
    )
    timeout: Optional[int] = Field(
        default=None, description="Seconds for one request. Default: 60."
    )
    lock_timeout: Optional[float] = Field(
        default=None,
        description="Seconds to wait for a `path` that another process uses. Default: 600.",
    )
    abandoned_after: Optional[float] = Field(
        default=None,
        description="Seconds without a sign of life after which another load counts as dead: it "
        "is not waited for, and what it appended is taken back. Default: 20.",
    )
    replace_strategy: Optional[str] = Field(
        default=None,
        description="How a replace takes over: 'in-place' (rows one by one, former ones last) or "
        "'swap' (a new collection, then an alias). Default: 'in-place'.",
    )
    keep_former: Optional[bool] = Field(
        default=None,
        description="Keep the collection that a swap replaced, for a rollback. Default: false.",
    )
    dataset_separator: Optional[str] = Field(
        default=None, description="Stands between dataset and table in a name. Default: '_'."
    )
    model: Optional[str] = Field(
        default=None,
        description="Name of fastembed's model for texts. Default: 'BAAI/bge-small-en'.",
    )
    model_path: Optional[str] = Field(
        default=None, description="Folder with the model's files, where no hub can be reached."
    )
    cache_dir: Optional[str] = Field(
        default=None,
        description="Folder to keep downloaded models in. Default: in the user's cache folder.",
    )
    local_files_only: Optional[bool] = Field(
        default=None, description="Never download a model. Default: false."
    )
    threads: Optional[int] = Field(
        default=None, description="Threads of onnxruntime for one batch. Default: 1."
    )
    providers: Optional[list[str]] = Field(
        default=None,
        description="onnxruntime's execution providers; fails if one of them is not there.",
    )
    cuda: Optional[bool] = Field(
        default=None,
        description="Use an Nvidia GPU, and fail without one. Default: use one if onnxruntime can.",
    )
    device_ids: Optional[list[int]] = Field(
        default=None, description="The GPUs to embed on, with `cuda`. Default: the first."
    )
    embedding_batch_size: Optional[int] = Field(
        default=None,
        description="The most texts in a batch for the model. Default: 32, on a GPU 256.",
    )
    embedding_parallelism: Optional[int] = Field(
        default=None,
        description="Batches embedded at once. Default: 0, what fills the cores, or one a GPU.",
    )
    upload_batch_size: Optional[int] = Field(
        default=None, description="Points in one write. Default: 64."
    )
    upload_parallelism: Optional[int] = Field(
        default=None, description="Writes at once; a server only. Default: 1."
    )
    upload_max_retries: Optional[int] = Field(
        default=None,
        description="How often a request that failed in passing is tried again. Default: 3.",
    )
    preview: Optional[bool] = Field(
        default=None,
        description="Show a few rows in each materialization; Dagster stores them. Default: true.",
    )
    vector_map: Optional[bool] = Field(
        default=None,
        description="Show a picture of the vectors in each materialization. Default: true.",
    )

    def get_resource_definition(self) -> Any:
        """The definition that Dagster stores; warns of a key that would be stored with it."""
        if self.api_key and not isinstance(self.api_key, EnvVar):
            warnings.warn(
                "QdrantResource(api_key=...) is a literal: Dagster stores it with the code "
                "location. Use api_key=EnvVar('QDRANT_API_KEY').",
                UserWarning,
                stacklevel=2,
            )
        return super().get_resource_definition()

    def destination(
        self, destination_name: str | None = None, partition: str | None = None
    ) -> qdrant:
        """The dlt destination with these options, for pipelines of one's own.

        Args:
            destination_name: Name of the section in dlt's configuration, if not "qdrant".
            partition: The part of the tables that a load brings; `replace` replaces only that.

        Example:
            >>> dlt.pipeline("movies", destination=QdrantResource(path="data").destination())
        """
        from dagster_qdrant.destination import qdrant

        given = self._given()
        location, path = given.pop("location", None), given.pop("path", None)
        credentials = {"api_key": given.pop("api_key")} if "api_key" in given else None
        options = {name: given.pop(name) for name in _CLIENT_OPTIONS if name in given}
        if options:
            given["options"] = options
        if path is not None:
            path = str(Path(path).absolute())
        return qdrant(
            credentials=credentials,
            location=location,
            path=path,
            destination_name=destination_name,
            partition=partition,
            **given,
        )

    @contextlib.contextmanager
    def get_client(self) -> Iterator[QdrantClient]:
        """A client of Qdrant, closed at the end of the `with` block.

        Raises:
            QdrantConfigurationError: If the options contradict each other.

        Example:
            >>> with qdrant.get_client() as client:
            ...     client.get_collections()
        """
        from dagster_qdrant.client import connect

        options = self.configuration().connection
        if options.is_local:  # one client of a place in a process; closed when the last one leaves
            with connect(options) as connection:
                yield connection.client
            return
        client = options.open_client()
        try:
            yield client
        finally:
            client.close()

    def search(
        self,
        dataset_name: str | None,
        table: str,
        text: str,
        limit: int = 10,
        query_filter: models.Filter | None = None,
    ) -> list[models.ScoredPoint]:
        """Find the rows of a table whose texts are nearest in meaning.

        A local path is read anew for each search, unless a client of it stays open: for several
        searches, wrap them in `with qdrant.get_client():`.

        Args:
            dataset_name: The dataset as it was given to the assets, or None.
            table: The table.
            text: What to look for.
            limit: The most rows to return.
            query_filter: A condition on the payload.

        Returns:
            Points with `score` (cosine similarity, the nearest first) and `payload` (the row).

        Raises:
            QdrantTerminalError: If there is no such collection, or it has no vectors.

        Example:
            >>> [hit.payload["title"] for hit in qdrant.search("films", "movies", "robots", 1)]
            ['Blade Runner']
        """
        from dagster_qdrant.client import connect
        from dagster_qdrant.search import search

        config = self.configuration()
        collection = config.collection_name(*_normalized(dataset_name, table))
        with connect(config.connection) as connection:
            return search(
                connection,
                collection,
                text,
                embedding=config.embedding,
                limit=limit,
                query_filter=query_filter,
            )

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
            dagster.Failure: When the load fails, with what to do in its first line. Its retries
                are off where trying again cannot help.
        """
        from dagster_qdrant.run import run_load

        yield from run_load(
            self,
            context,
            dlt_source=dlt_source,
            dataset_name=dataset_name,
            pipeline_name=pipeline_name,
            translator=dagster_dlt_translator,
            extract_options=extract_options,
        )

    def _given(self) -> dict[str, Any]:
        """The destination's options that are set, with environment variables read."""
        given: dict[str, Any] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if hasattr(value, "env_var_name"):  # an EnvVar, outside of a Dagster run
                value = value.get_value()
            if value is not None and name not in _DAGSTER_OPTIONS:
                given[name] = value
        return given

    def configuration(self) -> QdrantDestinationConfiguration:
        """All options, with what dlt's configuration and the defaults add to the fields."""
        destination = self.destination()
        return destination.configuration(destination.spec())


def _normalized(dataset_name: str | None, table: str) -> tuple[str | None, str]:
    from dlt.common.schema import Schema

    naming = Schema("search").naming
    normalize = naming.normalize_table_identifier
    return dataset_name and normalize(dataset_name), normalize(table)
