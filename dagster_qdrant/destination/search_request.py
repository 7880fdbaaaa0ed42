"""What a search asks for, and what it finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from dagster_qdrant.destination.passages import Passage
from dagster_qdrant.destination.reranking import Rerank
from dagster_qdrant.embedding.sparse import KEYWORD_VECTOR
from dagster_qdrant.errors import QdrantConfigurationError
from dagster_qdrant.qdrant.queries import Fused, Fusion, Wanted

if TYPE_CHECKING:
    from qdrant_client import models

Mode = Literal["auto", "dense", "keywords", "hybrid"]


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
