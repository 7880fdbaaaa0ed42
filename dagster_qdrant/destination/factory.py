"""`qdrant(...)`: the destination as a dlt pipeline takes it, and what it can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dlt.common.destination import Destination, DestinationCapabilitiesContext
from dlt.common.normalizers.naming import NamingConvention

from dagster_qdrant.destination.configuration import (
    OWN_OPTIONS,
    QdrantClientOptions,
    QdrantCredentials,
    QdrantDestinationConfiguration,
    Secret,
)
from dagster_qdrant.destination.tables.names import MAX_IDENTIFIER_LENGTH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dlt.common.schema.typing import TLoaderMergeStrategy, TTableSchema
    from qdrant_client import QdrantClient, models

    from dagster_qdrant.destination.job_client import QdrantJobClient


class _Credentials(dict[str, Any]):
    """Credentials that do not show where the destination that has them does."""

    def __repr__(self) -> str:
        return "{...}"


class qdrant(Destination[QdrantDestinationConfiguration, "QdrantJobClient"]):  # noqa: N801 (dlt's destinations are lower case)
    """Load into Qdrant with dlt: texts embedded, only what changed, nothing lost.

    What is not given here comes from dlt's configuration (`[destination.qdrant]` in secrets.toml
    or config.toml, `DESTINATION__QDRANT__...`); without any, it is `http://localhost:6333`.

    Args:
        credentials: A URL, a dict or `QdrantCredentials` with `location`, `api_key` or `path`, or
            a `QdrantClient` that stays open when the load is done.
        location: URL of a server, or ":memory:".
        path: Folder for qdrant-client's local mode.
        destination_name: Name of the section in dlt's configuration, if not "qdrant".
        environment: dlt's name for where the pipeline runs.
        partition: The part of the tables that a load brings; `replace` replaces that part only.
        embedding_url: URL of a service that makes the vectors, in place of fastembed.
        embedding_api_key: Key of the service.
        embedding_dimensions: Size of its vectors. Default: what it gives.
        **kwargs: Any other option of `QdrantDestinationConfiguration`, say `model=...`.

    Raises:
        QdrantConfigurationError: For an option that is not known.

    Examples:
        >>> import dlt
        >>> from dagster_qdrant import qdrant_adapter
        >>> movies = [{"id": 1, "title": "Blade Runner"}]
        >>> pipeline = dlt.pipeline("movies", destination=qdrant(path="data"), dataset_name="films")
        >>> pipeline.run(qdrant_adapter(movies, embed="title"), table_name="movies")
    """

    spec = QdrantDestinationConfiguration

    def __init__(
        self,
        credentials: QdrantClient | QdrantCredentials | dict[str, Any] | str | None = None,
        location: str | None = None,
        path: str | None = None,
        destination_name: str | None = None,
        environment: str | None = None,
        *,
        partition: str | None = None,
        embedding_url: str | None = None,
        embedding_api_key: str | None = None,
        embedding_dimensions: int | None = None,
        **kwargs: Any,
    ) -> None:
        # dlt swallows what is raised here where the type comes from its configuration, and takes
        # its own destination instead. So unknown options are refused when it first asks for more.
        self._given = set(kwargs)
        for section in ("credentials", "options"):
            given = credentials if section == "credentials" else kwargs.get(section)
            if isinstance(given, dict):
                self._given |= {f"{section}.{name}" for name in given}
        super().__init__(
            credentials=_Credentials(credentials) if isinstance(credentials, dict) else credentials,
            destination_name=destination_name,
            environment=environment,
            **kwargs,
        )
        self._own: dict[str, Any] = {
            "location": location,
            "path": path,
            "partition": partition,
            "embedding_url": embedding_url,
            "embedding_api_key": embedding_api_key and Secret(embedding_api_key),
            "embedding_dimensions": embedding_dimensions,
        }

    def capabilities(
        self,
        config: QdrantDestinationConfiguration | None = None,
        naming: NamingConvention | None = None,
    ) -> DestinationCapabilitiesContext:
        """What the destination can do; dlt asks as soon as a pipeline has it."""
        self._refuse_unknown()
        # They do not depend on the configuration, which dlt would resolve for them some twenty
        # times a load.
        return super().capabilities(config or self.spec(), naming)

    def configuration(
        self, initial_config: QdrantDestinationConfiguration | None, accept_partial: bool = False
    ) -> QdrantDestinationConfiguration:
        """The options: what this factory was given, then what dlt's configuration says."""
        self._refuse_unknown()
        config = initial_config or self.spec()
        for name, value in self._own.items():
            setattr(config, name, getattr(config, name) or value)
        return super().configuration(config, accept_partial)

    def delete_rows(
        self, dataset_name: str | None, table: str, row_filter: models.Filter
    ) -> dict[str, int]:
        """Delete the rows of a table that a filter selects, and those nested in them.

        Loads of the table wait meanwhile, and this waits for those that run.

        Args:
            dataset_name: The dataset, or None.
            table: The table, as the source or as dlt names it.
            row_filter: Which rows, by columns as dlt names them.

        Returns:
            How many rows went, by table; none if there were none.

        Raises:
            QdrantTerminalError: If there is no such table, it is a nested one or one of dlt's own,
                or Qdrant refuses the filter.
        """
        from dagster_qdrant.destination.row_deletion import delete_rows

        return delete_rows(self.configuration(self.spec()), dataset_name, table, row_filter)

    def __repr__(self) -> str:
        """The destination without its credentials."""
        secret = ("credentials", "embedding_api_key")
        given = {
            key: value
            for key, value in (self._own | self.config_params).items()
            if value is not None and key not in secret
        }
        return f"qdrant({', '.join(f'{key}={value!r}' for key, value in given.items())})"

    def _refuse_unknown(self) -> None:
        if not self._given:  # looked at already, or none: dlt asks some twenty times a load
            return
        from dagster_qdrant.destination.configured_names import did_you_mean
        from dagster_qdrant.errors import QdrantConfigurationError

        options = {*self.spec.get_resolvable_fields(), *OWN_OPTIONS}
        for section, spec in (("credentials", QdrantCredentials), ("options", QdrantClientOptions)):
            options |= {f"{section}.{name}" for name in spec.get_resolvable_fields()}
        known = {*options, *DestinationCapabilitiesContext.get_resolvable_fields()}
        if unknown := sorted(self._given - known):
            raise QdrantConfigurationError(
                f"The destination has no option {', '.join(f'`{name}`' for name in unknown)}."
                f"{did_you_mean(unknown[0], options)} It has {', '.join(sorted(options))}."
            )
        self._given = set()

    def _raw_capabilities(self) -> DestinationCapabilitiesContext:
        caps = DestinationCapabilitiesContext()
        caps.preferred_loader_file_format = "jsonl"
        caps.supported_loader_file_formats = ["jsonl"]
        caps.has_case_sensitive_identifiers = True
        caps.max_identifier_length = MAX_IDENTIFIER_LENGTH
        caps.max_column_identifier_length = 1024
        caps.max_query_length = 8 * 1024 * 1024
        caps.is_max_query_length_in_bytes = False
        caps.max_text_data_type_length = 8 * 1024 * 1024
        caps.is_max_text_data_type_length_in_bytes = False
        caps.supports_ddl_transactions = False
        caps.supported_merge_strategies = ["upsert", "delete-insert"]
        caps.merge_strategies_selector = _merge_strategies
        caps.supported_replace_strategies = ["truncate-and-insert", "insert-from-staging"]
        # One file of a table at a time: it uses all cores anyway, and rows that come twice are
        # told apart by what is in the collection.
        caps.loader_parallelism_strategy = "table-sequential"
        return caps

    @classmethod
    def adjust_capabilities(
        cls,
        caps: DestinationCapabilitiesContext,
        config: QdrantDestinationConfiguration,
        naming: NamingConvention | None,
    ) -> DestinationCapabilitiesContext:
        """Load one file at a time where Qdrant's local mode is used."""
        caps = super().adjust_capabilities(caps, config, naming)
        if config.is_resolved() and config.connection.is_local:
            caps.loader_parallelism_strategy = "sequential"
            caps.max_parallel_load_jobs = 1
        return caps

    @property
    def client_class(self) -> type[QdrantJobClient]:
        """The job client, imported when a pipeline needs it."""
        from dagster_qdrant.destination.job_client import QdrantJobClient

        return QdrantJobClient


def _merge_strategies(
    supported: Sequence[TLoaderMergeStrategy], /, *, table_schema: TTableSchema
) -> Sequence[TLoaderMergeStrategy]:
    """Refuse other strategies in words that say what to do, when dlt first asks."""
    from dagster_qdrant.destination.refusals import refuse_merge_strategy

    refuse_merge_strategy(table_schema)
    return supported


qdrant.register()
