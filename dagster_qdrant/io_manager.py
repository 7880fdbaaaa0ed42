"""`QdrantIOManager`: an asset takes the collection of an asset upstream as its argument."""

# No `from __future__ import annotations` here: Dagster reads the fields' types.

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Optional, Union

from dagster import (
    AssetKey,
    AssetRecordsFilter,
    ConfigurableIOManager,
    DagsterInvariantViolationError,
    InputContext,
    OutputContext,
    ResourceDependency,
)

from dagster_qdrant.destination.tables.table_plan import PARTITION
from dagster_qdrant.errors import QdrantConfigurationError, QdrantNotFoundError
from dagster_qdrant.pages.metadata import ROWS_BY_TABLE
from dagster_qdrant.qdrant.collections import Collections, about
from dagster_qdrant.qdrant.connection import connect
from dagster_qdrant.qdrant.points import matches
from dagster_qdrant.resource import QdrantResource

if TYPE_CHECKING:
    from qdrant_client import models

    from dagster_qdrant.search import Hit


@dataclass(frozen=True)
class QdrantCollection:
    """A collection that was loaded, to be searched and read.

    On a local path, wrap several calls in `with collection.qdrant.get_client():`; else each of them
    opens the path anew.

    Args:
        qdrant: The resource that leads to it.
        dataset_name: Its dataset, as dlt writes the name; None if it has none.
        table: Its table, as dlt writes the name.
        partitions: The partitions whose rows it gives; None: all rows.
        tables: The tables that were loaded with it, nested ones too.
    """

    qdrant: QdrantResource = field(repr=False)
    dataset_name: Optional[str]
    table: str
    partitions: Optional[tuple[str, ...]] = None
    tables: tuple[str, ...] = field(default=(), repr=False)

    @property
    def name(self) -> str:
        """The collection's name in Qdrant."""
        return self.qdrant.configuration().collection_name(self.dataset_name, self.table)

    def search(
        self,
        text: Union[str, Sequence[str]],
        limit: int = 10,
        query_filter: "Optional[models.Filter]" = None,
        **how: Any,
    ) -> "Union[list[Hit], list[list[Hit]]]":
        """Find the rows that fit a text best, as `QdrantResource.search` does.

        Args:
            text: What to look for; several texts go in one request, and give a list of hits each.
            limit: The most rows to return.
            query_filter: A condition on the payload.
            **how: What else `QdrantResource.search` takes.

        Raises:
            QdrantTerminalError: If there is no such collection, or it cannot be searched so.
        """
        asked = self._asked(query_filter)
        return self.qdrant.search(self.dataset_name, self.table, text, limit, asked, **how)

    def scroll(
        self, query_filter: "Optional[models.Filter]" = None, *, page: int = 1000
    ) -> Iterator[dict[str, Any]]:
        """All rows, in the order of their points' ids, as they are asked for.

        Args:
            query_filter: A condition on the payload.
            page: How many rows are fetched at a time.

        Yields:
            Rows: the payloads of points.

        Examples:
            >>> pandas.DataFrame(films.scroll())
        """
        with self._collections() as (collections, collection):
            for records in collections.pages(
                collection, self._asked(query_filter), page=page, payload=True
            ):
                for record in records:
                    yield dict(record.payload or {})

    def count(self, query_filter: "Optional[models.Filter]" = None) -> int:
        """The number of rows.

        Args:
            query_filter: A condition on the payload.
        """
        with self._collections() as (collections, collection):
            return collections.count(collection, self._asked(query_filter))

    def of(self, table: str) -> "QdrantCollection":
        """The collection of another table that was loaded with it, say of a list in its rows.

        Args:
            table: The table, as dlt names it.

        Raises:
            QdrantConfigurationError: If there is none.
        """
        if table not in self.tables:
            raise QdrantConfigurationError(
                f"`{self.name}` was not loaded with a table `{table}`. There are "
                f"{', '.join(f'`{name}`' for name in self.tables)}."
            )
        return replace(self, table=table)

    @contextmanager
    def _collections(self) -> Iterator[tuple[Collections, str]]:
        config = self.qdrant.configuration()
        with connect(config.connection) as connection:
            collections = Collections(connection, self.dataset_name, config.dataset_separator)
            yield collections, collections.name(self.table)

    def _asked(self, query_filter: "Optional[models.Filter]") -> "Optional[models.Filter]":
        """A condition, and that rows are of the partitions."""
        if self.partitions is None:
            return query_filter
        of_partitions = matches({PARTITION: list(self.partitions)})
        if query_filter is not None:
            of_partitions.must = [*(of_partitions.must or ()), query_filter]
        return of_partitions


class QdrantIOManager(ConfigurableIOManager):
    """Gives an asset the collection of an asset upstream, as a `QdrantCollection`.

    It knows the collection from the latest materialization of the asset upstream, so keys,
    translators and copies of definitions make no difference. Of a partition it gives the rows of
    that partition, where rows carry it (replaced tables); else it gives all rows, and the log says
    so. It stores nothing: rows get into Qdrant with the assets that this package makes.

    For example:

        import dagster as dg
        from dagster_qdrant import QdrantCollection, QdrantIOManager, QdrantResource

        FILMS = dg.AssetIn(["movies_dataset", "films"], input_manager_key="qdrant_io_manager")

        @dg.asset(ins={"films": FILMS})
        def answer(films: QdrantCollection) -> str:
            [hit] = films.search("robots", limit=1)
            return hit.payload["title"]

        qdrant = QdrantResource(path="data")
        defs = dg.Definitions(
            assets=[film_assets, answer],
            resources={"qdrant": qdrant, "qdrant_io_manager": QdrantIOManager(qdrant=qdrant)},
        )
    """

    qdrant: ResourceDependency[QdrantResource]

    def load_input(self, context: InputContext) -> QdrantCollection:
        """The collection of an asset upstream.

        Raises:
            DagsterInvariantViolationError: If nothing of it was materialized, or the input is no
                asset.
            QdrantNotFoundError: If there is no such collection.
        """
        if not context.has_asset_key:
            raise DagsterInvariantViolationError(
                f"Input `{context.name}` is no asset. `QdrantIOManager` gives the collections of "
                "assets."
            )
        shown = self._shown(context)
        config = self.qdrant.configuration()
        with connect(config.connection) as connection:
            collections = Collections(connection, None, "")
            info = collections.describe(shown.collection)
            made = about(info) if info else {}
            partitions = _partitions(context)
            if made and partitions and not _bears_partitions(collections, shown.collection):
                partitions = None
                context.log.warning(
                    "The rows of %s do not carry their partition; those of replaced tables do. "
                    "Input `%s` is all of its rows. Filter them by a column.",
                    context.asset_key.to_user_string(),
                    context.name,
                )
        key = context.asset_key.to_user_string()
        if not made:
            raise QdrantNotFoundError(
                f"Qdrant at {config.connection} has no collection `{shown.collection}` that this "
                f"package made for the asset {key}. Does the resource of `QdrantIOManager` lead to "
                "the Qdrant that it was loaded into? If so, materialize the asset again."
            )
        return QdrantCollection(
            self.qdrant,
            made["dataset"],
            str(made["table"]),
            partitions=partitions,
            tables=shown.tables or (str(made["table"]),),
        )

    def handle_output(self, context: OutputContext, obj: Any) -> None:
        """Refuse a value: this stores none.

        Raises:
            DagsterInvariantViolationError: Always, but for None.
        """
        if obj is not None:
            raise DagsterInvariantViolationError(
                f"`QdrantIOManager` stores no values, and `{context.name}` returned one of type "
                f"{type(obj).__name__}. To load rows, use `@qdrant_assets`. To store the value, "
                "give the asset another `io_manager_key`, and name this one in "
                "`AssetIn(input_manager_key=...)` only."
            )

    def _shown(self, context: InputContext) -> "_Shown":
        """What the latest materialization says of the collection, or else the definition."""
        latest = _latest(context)
        if latest is not None and (shown := _Shown.of(latest)):
            return shown
        key = context.asset_key.to_user_string()
        if latest is not None:
            raise DagsterInvariantViolationError(
                f"The asset {key} was materialized without a collection: "
                + (
                    "its source has given no row so far. Let the asset downstream run when there "
                    "are some."
                    if "rows_loaded" in latest
                    else "it was not loaded by this package."
                )
            )
        upstream = context.upstream_output
        named = (upstream.definition_metadata if upstream else {}) or {}
        if named.get("dagster/table_name") and self._is_there(named["dagster/table_name"]):
            return _Shown(str(named["dagster/table_name"]))
        which = ""
        if context.has_asset_partitions:
            keys = list(context.asset_partition_keys)
            which = f" in partition {', '.join(keys[:3])}{' ...' if len(keys) > 3 else ''}"
        raise DagsterInvariantViolationError(
            f"The asset {key} was not materialized{which}, so there is no collection for input "
            f"`{context.name}`. Materialize {key} first."
        )

    def _is_there(self, collection: str) -> bool:
        with connect(self.qdrant.configuration().connection) as connection:
            return Collections(connection, None, "").exists(collection)


@dataclass(frozen=True)
class _Shown:
    """What a materialization shows of where rows went.

    Args:
        collection: The collection of the main table.
        tables: The tables.
    """

    collection: str
    tables: tuple[str, ...] = ()

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> "Optional[_Shown]":
        """Read it off; None if there is no collection."""
        shown = {name: getattr(entry, "value", entry) for name, entry in metadata.items()}
        if not shown.get("dagster/table_name"):
            return None
        return cls(
            str(shown["dagster/table_name"]),
            tuple(shown.get(ROWS_BY_TABLE) or ()),
        )


def _latest(context: InputContext) -> Optional[Mapping[str, Any]]:
    """The metadata of the latest materialization of the partitions asked for, or of the asset."""
    partitions = list(context.asset_partition_keys) if context.has_asset_partitions else None
    wanted = AssetRecordsFilter(AssetKey(context.asset_key.path), asset_partitions=partitions)
    for record in context.instance.fetch_materializations(wanted, limit=1).records:
        if record.asset_materialization:
            return record.asset_materialization.metadata
    return None


def _partitions(context: InputContext) -> Optional[tuple[str, ...]]:
    """The partitions whose rows are asked for; None: all rows."""
    if not context.has_asset_partitions:
        return None
    keys = [str(key) for key in context.asset_partition_keys]
    known = context.asset_partitions_def.get_partition_keys(
        dynamic_partitions_store=context.instance
    )
    return None if set(keys) >= set(map(str, known)) else tuple(keys)


def _bears_partitions(collections: Collections, collection: str) -> bool:
    """Whether rows carry their partition. Either all of a collection do, or none."""
    points, _ = collections.scroll(collection, limit=1, payload=[PARTITION])
    return all(PARTITION in (point.payload or {}) for point in points)
