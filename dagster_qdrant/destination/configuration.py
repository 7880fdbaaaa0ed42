"""The destination's options, under the names and in the sections that dlt users know."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Final, List, Optional  # noqa: UP035 (dlt reads these hints)

from dlt.common.configuration import NotResolved, configspec
from dlt.common.configuration.specs.base_configuration import (
    BaseConfiguration,
    CredentialsConfiguration,
)
from dlt.common.destination import DestinationCapabilitiesContext
from dlt.common.destination.client import (
    DestinationClientConfiguration,
    DestinationClientDwhConfiguration,
)
from dlt.common.storages.configuration import WithLocalFiles
from dlt.common.typing import TSecretStrValue
from dlt.common.utils import digest128

from dagster_qdrant.destination.configured_names import refuse_unknown_names
from dagster_qdrant.embedding.options import DEFAULT_MODEL, EmbeddingOptions
from dagster_qdrant.embedding.service_options import ServiceOptions
from dagster_qdrant.errors import EmbeddingError, QdrantConfigurationError
from dagster_qdrant.qdrant.collections import collection_name
from dagster_qdrant.qdrant.connection_options import (
    DEFAULT_GRPC_PORT,
    DEFAULT_LOCK_TIMEOUT,
    DEFAULT_MAX_RETRIES,
    DEFAULT_PORT,
    DEFAULT_TIMEOUT,
    DEFAULT_WRITE_ORDERING,
    ConnectionOptions,
    names_no_folder,
)

DEFAULT_UPLOAD_BATCH_SIZE = 64
DEFAULT_DATASET_SEPARATOR = "_"
DEFAULT_ABANDONED_AFTER = 20.0  # seconds

# dlt's names for its strategies may be set for all destinations. Each means the one of ours that
# keeps its promise.
_SWAPS = {
    "in-place": False,
    "swap": True,
    "truncate-and-insert": False,
    "insert-from-staging": True,
    "staging-optimized": True,
}


# What is looked up here, since dlt's last resort is the bare name as an environment variable:
# `path` would be the shell's PATH, and `embedding_api_key` another program's.
OWN_OPTIONS = ("location", "path", "embedding_url", "embedding_api_key", "embedding_dimensions")


class Secret(str):
    """A text that does not show where what holds it does."""

    def __repr__(self) -> str:
        return "'***'"


@configspec
class QdrantCredentials(CredentialsConfiguration):
    """Where Qdrant is and its key: `[destination.qdrant.credentials]`.

    Also made from a URL as text, or from a `QdrantClient` that its owner closes.
    """

    location: Optional[str] = None
    # As a secret, whose value dlt leaves out of its traces.
    api_key: Optional[TSecretStrValue] = dataclasses.field(default=None, repr=False)
    path: Optional[str] = None

    def parse_native_representation(self, native_value: Any) -> None:
        """Take a URL, or a client."""
        if isinstance(native_value, str):
            self.location = native_value
        elif hasattr(native_value, "get_collections"):
            self._client = native_value
        else:
            super().parse_native_representation(native_value)
        self.resolve()

    @property
    def client(self) -> Any:
        """The client that was given as credentials, or None."""
        return getattr(self, "_client", None)


@configspec
class QdrantClientOptions(BaseConfiguration):
    """How to talk to the server: `[destination.qdrant.options]`."""

    port: int = DEFAULT_PORT
    grpc_port: int = DEFAULT_GRPC_PORT
    prefer_grpc: bool = False
    https: Optional[bool] = None
    prefix: Optional[str] = None
    timeout: int = DEFAULT_TIMEOUT
    host: Optional[str] = None
    path: Optional[str] = None


@configspec
class QdrantDestinationConfiguration(WithLocalFiles, DestinationClientDwhConfiguration):
    """All options: `[destination.qdrant]`, or the arguments of `qdrant(...)`."""

    destination_type: Final[str] = dataclasses.field(  # type: ignore[misc]
        default="qdrant", init=False, repr=False, compare=False
    )
    credentials: Optional[QdrantCredentials] = None
    # The place as the code names it; see OWN_OPTIONS.
    location: Annotated[Optional[str], NotResolved()] = None
    path: Annotated[Optional[str], NotResolved()] = None
    # The names that dlt's own destination gives to the two.
    qd_location: Optional[str] = None
    qd_path: Optional[str] = None
    options: Optional[QdrantClientOptions] = None

    # A dataset name is not required: without one, collections have the names of their tables.
    dataset_name: Annotated[Optional[str], NotResolved()] = dataclasses.field(  # type: ignore[assignment]
        default=None, init=False, repr=False, compare=False
    )
    dataset_separator: str = DEFAULT_DATASET_SEPARATOR

    embedding_batch_size: Optional[int] = None
    embedding_parallelism: int = 0
    upload_batch_size: int = DEFAULT_UPLOAD_BATCH_SIZE
    upload_parallelism: int = 1
    upload_max_retries: int = DEFAULT_MAX_RETRIES
    lock_timeout: float = DEFAULT_LOCK_TIMEOUT
    write_ordering: str = DEFAULT_WRITE_ORDERING
    read_consistency: Optional[str] = None
    abandoned_after: float = DEFAULT_ABANDONED_AFTER

    replace_strategy: str = "in-place"  # type: ignore[assignment]  # dlt has other names
    keep_former: bool = False
    # The part of the tables that a load brings. A replace then replaces that part only.
    partition: Annotated[Optional[str], NotResolved()] = None

    model: str = DEFAULT_MODEL
    query_prefix: Optional[str] = None
    passage_prefix: Optional[str] = None
    model_path: Optional[str] = None
    cache_dir: Optional[str] = None
    local_files_only: bool = False
    threads: int = 1
    providers: Optional[List[str]] = None  # noqa: UP006
    cuda: Optional[bool] = None
    device_ids: Optional[List[int]] = None  # noqa: UP006

    embedding_url: Annotated[Optional[str], NotResolved()] = None
    embedding_api_key: Annotated[Optional[str], NotResolved()] = dataclasses.field(
        default=None, repr=False
    )
    embedding_dimensions: Annotated[Optional[int], NotResolved()] = None

    def on_resolved(self) -> None:
        """Gather the place from where it may be written, and check all options at once."""
        refuse_unknown_names(self._section, self._names())
        credentials = self.credentials or QdrantCredentials()
        options = self.options or QdrantClientOptions()
        location = self.location or _only_one(
            {
                "location": self._configured("location"),
                "credentials.location": credentials.location,
                "qd_location": self.qd_location,
            },
        )
        path = self.path or _only_one(
            {
                "path": self._configured("path"),
                "credentials.path": credentials.path,
                "options.path": options.path,
                "qd_path": self.qd_path,
            },
        )
        for name in ("location", "path", "embedding_url"):
            if getattr(self, name) == "":  # say an environment variable that is set to nothing
                what = "service" if name == "embedding_url" else "Qdrant"
                raise QdrantConfigurationError(
                    f"`{name}` is empty, so it names no {what}. Give it a value, or leave it out."
                )
        if path and path.startswith("~"):
            path = str(Path(path).expanduser())
        # What names no folder is refused later, as it was written.
        if path and not (Path(path).is_absolute() or names_no_folder(path)):
            path = self.make_location(path, "%s.qdrant")
        self.location, self.path = location, path
        if self.replace_strategy not in _SWAPS:
            raise QdrantConfigurationError(
                f"`replace_strategy` is {self.replace_strategy!r}; it must be 'in-place' or 'swap'."
            )
        if self.keep_former and not self.swaps:
            raise QdrantConfigurationError(
                "`keep_former` keeps the collection that a swap replaced. Set `replace_strategy` "
                "to 'swap' too, or remove it."
            )
        if self.partition is not None and self.swaps:
            raise QdrantConfigurationError(
                "`replace_strategy` is 'swap', which replaces whole collections, and a partition "
                f"(`{self.partition}`) is loaded. Set it to 'in-place'."
            )
        if self.abandoned_after <= 0:
            raise QdrantConfigurationError(
                f"`abandoned_after` is {self.abandoned_after}; it must be more than 0 seconds."
            )
        for name, value in {
            "upload_batch_size": self.upload_batch_size,
            "upload_parallelism": self.upload_parallelism,
        }.items():
            if value < 1:
                raise QdrantConfigurationError(f"`{name}` is {value}; it must be 1 or more.")
        self._connection_options = ConnectionOptions(
            location=location,
            path=path,
            api_key=credentials.api_key or None,
            host=options.host,
            port=options.port,
            grpc_port=options.grpc_port,
            prefer_grpc=options.prefer_grpc,
            https=options.https,
            prefix=options.prefix,
            timeout=options.timeout,
            max_retries=self.upload_max_retries,
            lock_timeout=self.lock_timeout,
            write_ordering=self.write_ordering,
            read_consistency=None if self.read_consistency is None else str(self.read_consistency),
            external_client=credentials.client,
        )
        if self._connection_options.is_local and self.upload_parallelism > 1:
            raise QdrantConfigurationError(
                f"`upload_parallelism` is {self.upload_parallelism}, but local mode "
                f"({self._connection_options}) writes one batch at a time. Remove it, or use a "
                "server."
            )
        try:
            self._embedding_options = EmbeddingOptions(
                model=self.model,
                query_prefix=self.query_prefix,
                passage_prefix=self.passage_prefix,
                model_path=self.model_path,
                cache_dir=self.cache_dir,
                local_files_only=self.local_files_only,
                threads=self.threads,
                providers=tuple(self.providers) if self.providers else None,
                cuda=self.cuda,
                device_ids=tuple(self.device_ids) if self.device_ids else None,
                batch_size=self.embedding_batch_size,
                parallelism=self.embedding_parallelism,
                service=self._service(options.timeout),
            )
        except EmbeddingError as error:
            raise QdrantConfigurationError(str(error)) from error

    @property
    def _section(self) -> str:
        return f"destination.{self.destination_name or self.destination_type}"

    @classmethod
    def _names(cls) -> dict[str, Any]:
        """The names that options have, in the sections that they are in."""
        names: dict[str, Any] = dict.fromkeys(
            DestinationCapabilitiesContext.get_resolvable_fields()
        )
        names |= dict.fromkeys(cls.get_resolvable_fields())
        names |= dict.fromkeys((*OWN_OPTIONS, "dataset_name"))  # which dlt does not look up
        names["credentials"] = dict.fromkeys(QdrantCredentials.get_resolvable_fields())
        names["options"] = dict.fromkeys(QdrantClientOptions.get_resolvable_fields())
        return names

    def _service(self, timeout: int) -> ServiceOptions | None:
        """The service that makes the vectors, if one shall."""
        self.embedding_url = self.embedding_url or self._configured("embedding_url")
        key = self.embedding_api_key or self._configured("embedding_api_key", None)
        self.embedding_api_key = Secret(key) if key else None
        if self.embedding_dimensions is None:
            self.embedding_dimensions = self._configured("embedding_dimensions", int)
        if self.embedding_url:
            return ServiceOptions(
                self.embedding_url,
                self.embedding_api_key,
                self.embedding_dimensions,
                timeout,
                self.upload_max_retries,
            )
        of_service = {
            "embedding_api_key": self.embedding_api_key,
            "embedding_dimensions": self.embedding_dimensions,
        }
        if refused := [f"`{name}`" for name, value in of_service.items() if value is not None]:
            raise QdrantConfigurationError(
                f"{' and '.join(refused)} cannot take effect without `embedding_url`: this "
                "machine makes the vectors, which needs no key and knows the sizes of its models. "
                "Set it, or remove the former."
            )
        return None

    def _configured(self, name: str, kind: Any = str) -> Any:
        import dlt

        section = f"{self._section}.{name}"
        keys = [f"{self.pipeline_name}.{section}", section] if self.pipeline_name else [section]
        configured = dlt.config if kind else dlt.secrets  # which dlt leaves out of its traces
        return next((value for key in keys if (value := configured.get(key, kind))), None)

    @property
    def swaps(self) -> bool:
        """Whether replaced tables get a new collection, which takes the place of the former."""
        return _SWAPS[self.replace_strategy]

    @property
    def connection(self) -> ConnectionOptions:
        """Where Qdrant is and how to talk to it."""
        return self._connection_options

    @property
    def embedding(self) -> EmbeddingOptions:
        """Which model embeds, and with how much of the machine."""
        return self._embedding_options

    def collection_name(self, dataset_name: Optional[str], table_name: str) -> str:
        """Name of the collection of a table; both names as dlt normalized them."""
        return collection_name(dataset_name, self.dataset_separator, table_name)

    def fingerprint(self) -> str:
        """A digest of the place, which dlt's telemetry tells destinations apart by."""
        return digest128(self.data_location())

    def data_location(self) -> str:
        """The place, without the key."""
        if self.connection.external_client is not None:
            return f":memory:{id(self.connection.external_client):x}"
        return str(self.connection)

    def can_write_from(self, other: DestinationClientConfiguration) -> bool:
        """Qdrant runs no SQL models."""
        return False

    def can_read_from(self, other: DestinationClientConfiguration) -> bool:
        """Qdrant joins no tables."""
        return False

    def __str__(self) -> str:
        return str(self.connection)


def _only_one(values: dict[str, str | None]) -> str | None:
    given = {key: value for key, value in values.items() if value}
    if len(set(given.values())) > 1:
        raise QdrantConfigurationError(
            f"{' and '.join(f'`{key}`' for key in given)} are set to different values and mean "
            "the same. Keep one of them."
        )
    return next(iter(given.values()), None)
