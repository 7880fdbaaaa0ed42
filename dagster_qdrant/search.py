"""Text -> rows: by meaning, by keywords, or by both, as a collection says it can be searched.

Model, prefixes and keywords are those that the collection was loaded with, whatever is configured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, overload

from dagster_qdrant.destination.lookup import collection_names, near_collections, usual_collection
from dagster_qdrant.destination.missing_index import missing_index
from dagster_qdrant.destination.passages import Passage
from dagster_qdrant.destination.reranking import Rerank
from dagster_qdrant.destination.search_ways import SearchWays
from dagster_qdrant.destination.tables.chunks import TEXT
from dagster_qdrant.embedding.options import EmbeddingOptions
from dagster_qdrant.embedding.sparse import KEYWORD_VECTOR
from dagster_qdrant.errors import (
    QdrantConfigurationError,
    QdrantNotFoundError,
    QdrantTerminalError,
)
from dagster_qdrant.qdrant.connection import Connection, connect
from dagster_qdrant.qdrant.queries import Fused, Fusion, Rescored, Wanted, query_request

if TYPE_CHECKING:
    from qdrant_client import models

    from dagster_qdrant.destination import qdrant
    from dagster_qdrant.destination.configuration import QdrantDestinationConfiguration

Mode = Literal["auto", "dense", "keywords", "hybrid"]

_T = TypeVar("_T")


@dataclass(frozen=True)
class Hit:
    """A row that was found.

    Args:
        id: Its point's id.
        score: How well it fits, the best first: cosine similarity (dense), BM25 (keywords), what
            the fusion gives (hybrid), or the reranker's. Comparable within one search only.
        payload: The row.
        passages: Where texts are in chunks, the best ones of the row, the best first.
    """

    id: str
    score: float
    payload: dict[str, Any] = field(default_factory=dict)
    passages: tuple[Passage, ...] = ()


@dataclass(frozen=True)
class Search:
    """How to search.

    Args:
        mode: "dense" (meaning), "keywords", "hybrid" (both), or "auto": hybrid where the collection
            has both, else what it has.
        fusion: How the hits of a hybrid search become one ranking: "rrf" or "dbsf".
        weights: By which the ranks of "dense" and "keywords" are divided before they are fused,
            with "rrf"; 0 leaves a way's ranking out.
        limit: The most hits.
        offset: How many of the first hits to leave out.
        query_filter: A condition on the payload.
        score_threshold: The least score.
        using: The vector that is searched, by its name: one of `vectors`, or "bm25", the keywords.
            It is searched alone, unless `mode` is "hybrid". Default: the main vector, or the only
            one.
        rerank: What puts what was found into a better order: a cross-encoder, or one of `vectors`
            (mostly one of late interaction), by its name, or `Rerank(...)` or its fields. Then more
            rows are fetched, `score` is the reranker's, and `offset` and `score_threshold` are by
            its order and scores.
        passages: The most passages of a row, where texts are in chunks.

    Raises:
        QdrantConfigurationError: For values that cannot work.
    """

    mode: Mode = "auto"
    fusion: Fusion = "rrf"
    weights: Mapping[str, float] | None = None
    limit: int = 10
    offset: int = 0
    query_filter: models.Filter | None = None
    score_threshold: float | None = None
    using: str | None = None
    rerank: str | Rerank | Mapping[str, Any] | None = None
    passages: int = 3

    def __post_init__(self) -> None:
        """Refuse what cannot work or would be ignored."""
        if self.mode not in ("auto", "dense", "keywords", "hybrid"):
            raise QdrantConfigurationError(
                f"`mode` is {self.mode!r}; it must be 'auto', 'dense', 'keywords' or 'hybrid'."
            )
        numbers = (self.limit, self.offset)
        if not all(isinstance(each, int) for each in numbers) or self.limit < 1 or self.offset < 0:
            raise QdrantConfigurationError(
                f"`limit` is {self.limit!r} and `offset` is {self.offset!r}; they must be numbers, "
                "1 or more and 0 or more."
            )
        if isinstance(self.query_filter, (Mapping, str, list)):
            raise QdrantConfigurationError(
                f"`query_filter` is of type {type(self.query_filter).__name__}; it must be a "
                "`qdrant_client.models.Filter`, say `models.Filter(must=[models.FieldCondition("
                "key='year', match=models.MatchValue(value=1982))])`."
            )
        if self.passages < 1:
            raise QdrantConfigurationError(f"`passages` is {self.passages}; it must be 1 or more.")
        if unknown := (self.weights or {}).keys() - {"dense", "keywords"}:
            raise QdrantConfigurationError(
                f"`weights` names {', '.join(map(repr, sorted(unknown)))}; it may name 'dense' and "
                "'keywords'."
            )
        if self.using == KEYWORD_VECTOR and self.mode not in ("auto", "keywords"):
            raise QdrantConfigurationError(
                f"`using` is {self.using!r}, the vector of keywords, and `mode` is {self.mode!r}. "
                "Leave one of them out."
            )
        if self.using and self.using != KEYWORD_VECTOR and self.mode == "keywords":
            raise QdrantConfigurationError(
                f"`using` is {self.using!r}, and `mode` is 'keywords', which are the vector "
                f"{KEYWORD_VECTOR!r}. Leave one of them out."
            )
        Fused(self.fusion, self.weights)
        if rerank := Rerank.of(self.rerank):
            rerank.depth(self.limit, self.offset)

    @property
    def wanted(self) -> Wanted:
        """Which hits are asked for of Qdrant."""
        if rerank := Rerank.of(self.rerank):
            depth = rerank.depth(self.limit, self.offset)
            return Wanted(depth, query_filter=self.query_filter)
        return Wanted(self.limit, self.offset, self.query_filter, self.score_threshold)

    def best(self, hits: list[Hit]) -> list[Hit]:
        """Those of reranked hits that are asked for, the best first."""
        least = float("-inf") if self.score_threshold is None else self.score_threshold
        ranked = sorted(hits, key=lambda hit: -hit.score)
        good = [hit for hit in ranked if hit.score >= least]
        return good[self.offset : self.offset + self.limit]


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
        if unknown := how.keys() - Search.__dataclass_fields__.keys():
            raise QdrantConfigurationError(
                f"`search` has no {' and '.join(f'`{name}`' for name in sorted(unknown))}. It has "
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
            _refuse_blank([text])
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


def search_collection(
    connection: Connection,
    collection: str,
    texts: Sequence[str],
    *,
    embedding: EmbeddingOptions,
    how: Search,
) -> list[list[Hit]]:
    """Find the points that fit texts best.

    Args:
        connection: The way to Qdrant.
        collection: The collection.
        texts: What to look for; all texts are sent in one request.
        embedding: How to load a model. Its `model` gives way to the collection's, and so does its
            prefix of questions, unless it is set.
        how: How to search.

    Returns:
        The hits of each text, the best first.

    Raises:
        QdrantTerminalError: If a text is blank, there is no such collection, it cannot be searched
            in this way, or its model cannot be told or loaded.
    """
    _refuse_blank(texts)
    if not texts:
        return []
    ways = SearchWays.of(connection, collection, embedding, how.using)
    vectors = ways.vectors(texts, ways.chosen(how.mode))
    fused = Fused(how.fusion, ways.weights(how.weights))
    rerank, wanted = Rerank.of(how.rerank), how.wanted
    rescored: list[Rescored | None] = [None] * len(texts)
    if rerank and (vector := ways.reranked_by(rerank)):
        depth = rerank.depth(how.limit, how.offset)
        wanted = replace(how, rerank=None).wanted
        questions = vector.of_questions(texts, embedding)
        rescored = [Rescored(vector.name, question, depth) for question in questions]
        rerank = None
    try:
        asked = _Asked(wanted, fused, rescored, how.passages)
        found = _found(connection, ways, vectors, asked)
    except QdrantTerminalError as error:
        if advice := missing_index(str(error), "`query_filter`", ways.collection):
            raise QdrantTerminalError(f"{error} {advice}") from error
        raise
    if rerank:
        return [
            how.best(_reranked(rerank, ways, text, hits))
            for text, hits in zip(texts, found, strict=True)
        ]
    return found


@dataclass(frozen=True)
class _Asked:
    """What is asked of Qdrant: which hits, how they are ranked, and how many passages of each."""

    wanted: Wanted
    fused: Fused
    rescored: Sequence[Rescored | None]  # for each text
    passages: int


def _found(
    connection: Connection,
    ways: SearchWays,
    vectors: Sequence[Mapping[str, Any]],
    asked: _Asked,
) -> list[list[Hit]]:
    """What Qdrant finds for each text, the best first."""
    if ways.chunked:
        by = [rescored for rescored in asked.rescored if rescored]
        first = Wanted(by[0].depth, query_filter=asked.wanted.query_filter) if by else asked.wanted
        rows = ways.chunked.search(connection, vectors, first, asked.fused, asked.passages)
        if by:
            rows = ways.chunked.rescored(connection, rows, by, asked.wanted)
        return [[Hit(r.id, r.score, r.payload, r.passages) for r in each] for each in rows]
    requests = [
        query_request(each, asked.wanted, asked.fused, rescored)
        for each, rescored in zip(vectors, asked.rescored, strict=True)
        if each
    ]
    responses = iter(
        connection.request(connection.client.query_batch_points, ways.collection, requests=requests)
        if requests
        else []
    )
    return [_hits(next(responses)) if each else [] for each in vectors]


def _reranked(rerank: Rerank, ways: SearchWays, text: str, hits: list[Hit]) -> list[Hit]:
    """Hits with the scores of a reranker, in the order that they had."""
    if ways.chunked and not rerank.columns:
        return _reranked_by_passages(rerank, ways, text, hits)
    scores = rerank.scores(
        text,
        [hit.payload for hit in hits],
        collection=ways.collection,
        columns=ways.columns,
        configured=ways.configured,
    )
    return [replace(hit, score=score) for hit, score in zip(hits, scores, strict=True)]


def _refuse_blank(texts: Sequence[str]) -> None:
    if blank := [text for text in texts if not text.strip()]:
        raise QdrantTerminalError(
            f"There is no text to search for: {blank[0]!r}. Give `text` at least one word."
        )


def _reranked_by_passages(
    rerank: Rerank, ways: SearchWays, text: str, hits: list[Hit]
) -> list[Hit]:
    """The same of rows whose texts are in chunks: a row is as good as its best passage."""
    scores = iter(
        rerank.scores(
            text,
            [{TEXT: passage.text} for hit in hits for passage in hit.passages],
            collection=ways.collection,
            columns=[TEXT],
            configured=ways.configured,
        )
    )
    reranked = []
    for hit in hits:
        scored = [replace(passage, score=next(scores)) for passage in hit.passages]
        passages = tuple(sorted(scored, key=lambda passage: -passage.score))
        score = passages[0].score if passages else float("-inf")
        reranked.append(replace(hit, score=score, passages=passages))
    return reranked


def _hits(response: models.QueryResponse) -> list[Hit]:
    return [Hit(str(hit.id), hit.score, dict(hit.payload or {})) for hit in response.points]
