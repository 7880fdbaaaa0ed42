"""The fields of `QdrantResource`, and the destination that they describe."""

# No `from __future__ import annotations` here: Dagster reads the fields' types.

import difflib
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from dagster import ConfigurableResource, EnvVar
from pydantic import Field, model_validator

from dagster_qdrant.errors import EmbeddingError, QdrantConfigurationError
from dagster_qdrant.qdrant.connection_options import names_no_folder

if TYPE_CHECKING:
    from dagster_qdrant.destination import qdrant
    from dagster_qdrant.destination.configuration import QdrantDestinationConfiguration

_CLIENT_OPTIONS = ("host", "port", "grpc_port", "prefer_grpc", "https", "prefix", "timeout")
# Keys, and the environment variables that messages show for them.
SECRETS = {"api_key": "QDRANT_API_KEY", "embedding_api_key": "EMBEDDING_API_KEY"}
_MASK = "********"
# What the destination knows nothing of.
_DAGSTER_OPTIONS = {"preview", "vector_map"}


class QdrantOptions(ConfigurableResource):  # type: ignore[type-arg]
    """Where Qdrant is and how texts get into it; what a run works with of `QdrantResource`."""

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
        description="Seconds without a heartbeat after which another load is declared dead: it "
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
        description="Name of the model for texts: fastembed's, or that of the service at "
        "`embedding_url`. Default: 'BAAI/bge-small-en'.",
    )
    query_prefix: Optional[str] = Field(
        default=None,
        description="What stands before a text that is searched for. Default: what the model's "
        "makers ask for; an empty text switches that off.",
    )
    passage_prefix: Optional[str] = Field(
        default=None,
        description="What stands before a row's text when it is embedded. Default: what the "
        "model's makers ask for; an empty text switches that off.",
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
        description="The most texts in a batch for the model. Default: 32, on a GPU 256, to a "
        "service with OpenAI's API 128.",
    )
    embedding_parallelism: Optional[int] = Field(
        default=None,
        description="Batches embedded at once. Default: 0, what fills the cores, one a GPU, or 8 "
        "requests to a service.",
    )
    embedding_url: Optional[str] = Field(
        default=None,
        description="URL of a service that makes the vectors, in place of fastembed: its end says "
        "which API it has, '/v1' or '/embeddings' OpenAI's, '/embed' Text Embeddings Inference's. "
        "`model` is the service's name for the model.",
    )
    embedding_api_key: Optional[str] = Field(
        default=None,
        repr=False,
        description="Key of the embedding service. Give it as EnvVar.",
        json_schema_extra={"dagster__is_secret": True},
    )
    embedding_dimensions: Optional[int] = Field(
        default=None,
        description="Size of the vectors of the embedding service. Default: what it gives.",
    )
    upload_batch_size: Optional[int] = Field(
        default=None, description="Points in one write. Default: 64."
    )
    upload_parallelism: Optional[int] = Field(
        default=None, description="Writes at once; a server only. Default: 1."
    )
    upload_max_retries: Optional[int] = Field(
        default=None,
        description="How often a request is retried after a transient failure. Default: 3.",
    )
    write_ordering: Optional[str] = Field(
        default=None,
        description="Ordering of writes of rows on a cluster with replicas: 'weak', 'medium' or "
        "'strong'. The records of loads are always written with 'strong'. Default: 'medium'.",
    )
    read_consistency: Optional[str] = Field(
        default=None,
        description="How many replicas have to agree on what is read: 'majority', 'quorum', 'all' "
        "or a number. Default: Qdrant's own, one replica.",
    )
    preview: Optional[bool] = Field(
        default=None,
        description="Show a few rows in each materialization; Dagster stores them. Default: true.",
    )
    vector_map: Optional[bool] = Field(
        default=None,
        description="Show a picture of the vectors in each materialization. Default: true.",
    )

    @model_validator(mode="before")
    @classmethod
    def _check_fields(cls, given: Any) -> Any:
        if isinstance(given, Mapping):  # else it is a resource already, within another one
            _refuse_unknown_fields(cls, given)
            return _without_masks(given)
        return given

    @model_validator(mode="wrap")
    @classmethod
    def _check_with_definitions(cls, given: Any, validate: Any) -> Any:
        options = validate(given)
        is_checked = os.environ.get("DAGSTER_IS_DEFS_VALIDATION_CLI")  # `dg check defs`
        if is_checked and isinstance(given, Mapping):
            options._check_options({name for name in given if hasattr(given[name], "env_var_name")})
        return options

    def _check_options(self, variables: Iterable[str]) -> None:
        """Refuse options that contradict each other, and an unknown model.

        A run finds that too. To look each time that definitions are loaded would take longer.

        Args:
            variables: Fields that are read from the environment, which only a run can.

        Raises:
            QdrantConfigurationError: If a load could not work with these options.
        """
        from dagster_qdrant.embedding.embedder import vector_size

        unread = {name: "..." if name in SECRETS else None for name in variables}
        config = self.model_copy(update=unread).configuration()
        if config.embedding.service is None and "model" not in unread:
            try:
                vector_size(config.embedding)
            except EmbeddingError as error:
                raise QdrantConfigurationError(str(error)) from error

    def _with_updated_values(self, values: Optional[Mapping[str, Any]]) -> Any:
        """The resource of a run: with the run's config, which goes before the definition's."""
        return super()._with_updated_values(_without_masks(values or {}))

    @classmethod
    def configure_at_launch(cls, **kwargs: Any) -> Any:
        """The resource with some of its fields; the others are set for each run."""
        _refuse_unknown_fields(cls, kwargs)
        return super().configure_at_launch(**kwargs)

    def get_resource_definition(self) -> Any:
        """The definition that Dagster stores; warns of a key that would be stored with it."""
        for name, variable in SECRETS.items():
            if getattr(self, name) and not isinstance(getattr(self, name), EnvVar):
                warnings.warn(
                    f"QdrantResource({name}=...) is a literal: Dagster stores it with the code "
                    f"location. Use {name}=EnvVar('{variable}').",
                    UserWarning,
                    stacklevel=2,
                )
        return super().get_resource_definition()

    def destination(
        self, destination_name: Optional[str] = None, partition: Optional[str] = None
    ) -> "qdrant":
        """The dlt destination with these options, for pipelines of one's own.

        Args:
            destination_name: Name of the section in dlt's configuration, if not "qdrant".
            partition: The part of the tables that a load brings; `replace` replaces only that.

        Examples:
            >>> dlt.pipeline("movies", destination=QdrantResource(path="data").destination())
        """
        from dagster_qdrant.destination import qdrant

        given = self._given()
        location, path = given.pop("location", None), given.pop("path", None)
        credentials = {"api_key": given.pop("api_key")} if "api_key" in given else None
        options = {name: given.pop(name) for name in _CLIENT_OPTIONS if name in given}
        if options:
            given["options"] = options
        if path and not names_no_folder(path):  # which is refused as it was written
            path = str(Path(path).expanduser().absolute())
        return qdrant(
            credentials=credentials,
            location=location,
            path=path,
            destination_name=destination_name,
            partition=partition,
            **given,
        )

    def _given(self) -> dict[str, Any]:
        """The destination's options that are set, with environment variables read.

        Raises:
            QdrantConfigurationError: If such a variable is not set, or not fit for the field.
        """
        # A subclass may have fields of its own, which the destination does not know.
        names = [name for name in QdrantOptions.model_fields if name not in _DAGSTER_OPTIONS]
        fields = {name: _environment_read(name, getattr(self, name)) for name in names}
        return {name: value for name, value in fields.items() if value is not None}

    def configuration(self) -> "QdrantDestinationConfiguration":
        """All options, with what dlt's configuration and the defaults add to the fields."""
        destination = self.destination()
        return destination.configuration(destination.spec())


def _without_masks(given: Mapping[str, Any]) -> dict[str, Any]:
    """Values without the asterisks that Dagster's launchpad writes in the place of each secret.

    They come back as the run's config, also where the definition has a key or needs none.
    """
    return {
        name: value for name, value in given.items() if not (name in SECRETS and value == _MASK)
    }


def _refuse_unknown_fields(cls: type[QdrantOptions], given: Iterable[str]) -> None:
    """Refuse a name that is no field; Dagster would ignore it."""
    for name in given:
        if name in cls.model_fields:
            continue
        nearest = difflib.get_close_matches(name, cls.model_fields, n=1, cutoff=0.5)
        advice = f"Did you mean `{nearest[0]}`?" if nearest else "Remove it."
        # The value is not shown: it may be a key.
        raise QdrantConfigurationError(f"`{cls.__name__}` has no field `{name}`. {advice}")


def _environment_read(field: str, value: Any) -> Any:
    """The value of a field, with the variables in it read. Dagster itself does so in a run."""
    if isinstance(value, list):
        return [_environment_read(field, item) for item in value]
    if isinstance(value, Mapping):
        return {key: _environment_read(field, item) for key, item in value.items()}
    variable = getattr(value, "env_var_name", None)
    if variable is None:
        return value
    try:
        read = value.get_value()
    except ValueError:  # which shows what the variable holds
        raise QdrantConfigurationError(
            f"`{field}` is read from the environment variable {variable}, which holds no number."
        ) from None
    if read is None:
        raise QdrantConfigurationError(
            f"`{field}` is read from the environment variable {variable}, which is not set. Set "
            f"it, or leave `{field}` out."
        )
    return read
