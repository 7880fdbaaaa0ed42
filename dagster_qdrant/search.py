"""Text -> rows: by meaning, by keywords, or by both, as a collection says it can be searched.

Model, prefixes and keywords are those that the collection was loaded with, whatever is configured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from dagster_qdrant.destination.collection_search import refuse_blank, search_collection
from dagster_qdrant.destination.configured_names import did_you_mean
from dagster_qdrant.destination.lookup import collection_names, near_collections, usual_collection
from dagster_qdrant.destination.search_request import Hit, Search
from dagster_qdrant.destination.search_ways import SearchWays
from dagster_qdrant.errors import QdrantConfigurationError, QdrantNotFoundError
from dagster_qdrant.qdrant.connection import Connection, connect

if TYPE_CHECKING:
    from qdrant_client import models

    from dagster_qdrant.destination import qdrant
    from dagster_qdrant.destination.configuration import QdrantDestinationConfiguration

__all__ = ["Hit", "QdrantSearch", "Search", "TableSearch"]

_T = TypeVar("_T")


class _Configured(Protocol):
    """What knows where to search, and how models are loaded."""

    def configuration(self) -> QdrantDestinationConfiguration: ...


class TableSearch:
    """What `QdrantResource` and `QdrantSearch` have in common: the search of tables."""

    @overload
    def search(
        self: _Configured,
        dataset_name: str | None,
        table: str,
        text: str,
        limit: int = 10,
        query_filter: models.Filter | None = None,
        **how: Any,
    ) -> list[Hit]: ...

    @overload
    def search(
        self: _Configured,
        dataset_name: str | None,
        table: str,
        text: Sequence[str],
        limit: int = 10,
        query_filter: models.Filter | None = None,
        **how: Any,
    ) -> list[list[Hit]]: ...

    def search(
        self: _Configured,
        dataset_name: str | None,
        table: str,
        text: str | Sequence[str],
        limit: int = 10,
        query_filter: models.Filter | None = None,
        **how: Any,
    ) -> list[Hit] | list[list[Hit]]:
        """Find the rows of a table that fit a text best, by meaning, keywords, or both.

        A local path is read anew for each search, unless a client of it stays open: for several
        searches, give several texts, or wrap them in `with qdrant.get_client():`.

        Args:
            dataset_name: The dataset as it was given to the assets or to the load, or None.
            table: The table, as the source or as dlt names it; that of a list in rows is
                `parent__list`.
            text: What to look for; several texts go in one request.
            limit: The most rows to return.
            query_filter: A condition on the payload.
            **how: The other fields of `dagster_qdrant.search.Search`: `mode` ("auto", "dense",
                "keywords", "hybrid"), `fusion` ("rrf", "dbsf"), `weights`, `offset`,
                `score_threshold`, `using`, `rerank`, `passages`.

        Returns:
            Hits with `score` (the best first) and `payload` (the row), and `passages` where texts
            are in chunks; of several texts a list for each.

        Raises:
            QdrantTerminalError: If there is no such collection, or it cannot be searched so.

        Examples:
            >>> [hit.payload["title"] for hit in qdrant.search("films", "movies", "robots", 1)]
            ['Blade Runner']
        """
        config = self.configuration()
        if unknown := sorted(how.keys() - Search.__dataclass_fields__.keys()):
            raise QdrantConfigurationError(
                f"`search` has no {' and '.join(f'`{name}`' for name in unknown)}."
                f"{did_you_mean(unknown[0], Search.__dataclass_fields__)} It has "
                f"{', '.join(f'`{name}`' for name in Search.__dataclass_fields__)}."
            )
        asked = Search(limit=limit, query_filter=query_filter, **how)
        texts = _texts(text)

        def found_in(connection: Connection, collection: str) -> list[list[Hit]]:
            return search_collection(
                connection, collection, texts, embedding=config.embedding, how=asked
            )

        found = _in_collection(config, dataset_name, table, found_in)
        return found[0] if isinstance(text, str) else found

    def query_vectors(
        self: _Configured,
        dataset_name: str | None,
        table: str,
        text: str,
        using: str | None = None,
    ) -> dict[str, Any]:
        """What a text that is searched for is compared with, for another client of the collection.

        It is made with the model and the prefix that the collection was loaded with.

        Args:
            dataset_name: The dataset as it was given to the assets or to the load, or None.
            table: The table, as the source or as dlt names it.
            text: What to look for.
            using: One of the collection's further `vectors`. Default: the main one, and keywords.

        Returns:
            By the name of a vector of the collection, a list of numbers; for keywords a
            `models.SparseVector`. A text of stopwords alone has none of keywords.

        Raises:
            QdrantTerminalError: If there is no such collection, it has no vectors, or its model
                cannot be loaded.

        Examples:
            >>> vectors = qdrant.query_vectors("films", "movies", "robots")
            >>> client.query_points("films_movies", vectors["bm25"], using="bm25")
        """
        config = self.configuration()

        def made_for(connection: Connection, collection: str) -> dict[str, Any]:
            refuse_blank([text])
            ways = SearchWays.of(connection, collection, config.embedding, using)
            return ways.vectors([text], ways.chosen("auto"))[0]

        return _in_collection(config, dataset_name, table, made_for)


class QdrantSearch(TableSearch):
    """Search what was loaded, in an app that has no Dagster.

    Args:
        destination: Where to search; by default the destination that the options describe.
        **options: Options of `dagster_qdrant.destination.qdrant`, say `location` or `path`.

    Examples:
        >>> films = QdrantSearch(path="data")
        >>> [hit.payload["title"] for hit in films.search("cinema", "films", "robots", limit=1)]
        ['Blade Runner']
    """

    def __init__(self, destination: qdrant | None = None, **options: Any) -> None:
        from dagster_qdrant.destination import qdrant

        if destination is not None and not isinstance(destination, qdrant):
            raise TypeError(
                f"`destination` is of type {type(destination).__name__}; it must be a "
                "`dagster_qdrant.destination.qdrant`. Name the place by an option, say "
                "`QdrantSearch(path=...)`. (A `QdrantResource` has `search` itself.)"
            )
        destination = destination or qdrant(**options)
        self._config = destination.configuration(destination.spec())

    def configuration(self) -> QdrantDestinationConfiguration:
        """All options, with what dlt's configuration and the defaults add."""
        return self._config


def _in_collection(
    config: QdrantDestinationConfiguration,
    dataset_name: str | None,
    table: str,
    do: Callable[[Connection, str], _T],
) -> _T:
    """Do something in the collection of a table that somebody names."""
    with connect(config.connection) as connection:
        for collection in collection_names(connection, config, dataset_name, table):
            try:
                return do(connection, collection)
            except QdrantNotFoundError:
                continue
        collection = usual_collection(config, dataset_name, table)
        there = near_collections(connection, collection)
    raise QdrantNotFoundError(
        f"Qdrant at {config.connection} has no collection `{collection}`. Was table `{table}` "
        f"loaded, and under this dataset name? {there}"
    )


def _texts(text: Any) -> list[str]:
    texts = list(text) if isinstance(text, Iterable) and not isinstance(text, str) else [text]
    for each in texts:
        if not isinstance(each, str):
            raise QdrantConfigurationError(
                f"`text` is {each!r:.100}; it must be what to look for: a text, or a list of texts."
            )
    return texts
