"""The search of a collection, by what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dagster_qdrant.destination.missing_index import missing_index
from dagster_qdrant.destination.reranking import Rerank
from dagster_qdrant.destination.search_request import Hit, Search
from dagster_qdrant.destination.search_ways import SearchWays
from dagster_qdrant.destination.tables.chunks import TEXT
from dagster_qdrant.embedding.options import EmbeddingOptions
from dagster_qdrant.errors import QdrantTerminalError
from dagster_qdrant.qdrant.connection import Connection
from dagster_qdrant.qdrant.queries import Fused, Rescored, Wanted, query_request

if TYPE_CHECKING:
    from qdrant_client import models


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
    refuse_blank(texts)
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


def refuse_blank(texts: Sequence[str]) -> None:
    """Refuse to search for nothing.

    Raises:
        QdrantTerminalError: If a text is blank.
    """
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
