"""Queries of one vector, or of several whose hits are fused, as Qdrant takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from dagster_qdrant.errors import QdrantConfigurationError

if TYPE_CHECKING:
    from qdrant_client import models

Fusion = Literal["rrf", "dbsf"]

# Reciprocal rank fusion with 60, as it was published (Cormack et al., 2009), ranks better than with
# Qdrant's default of 2 where one of the ways finds much less than the other.
_RRF_K = 60
# How many hits of each way are fused, at least and as a multiple of those that are asked for.
_LEAST_FUSED, _FUSED_FACTOR = 100, 4


@dataclass(frozen=True)
class Fused:
    """How the hits of several vectors become one ranking.

    Args:
        fusion: "rrf" (by rank) or "dbsf" (by score, each way's scores brought to one scale).
        weights: By vector: what the ranks of its hits are divided by, 1 where it has none; 0
            leaves them out. By rank only.

    Raises:
        QdrantConfigurationError: For values that cannot work.
    """

    fusion: Fusion = "rrf"
    weights: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work or would be ignored."""
        if self.fusion not in ("rrf", "dbsf"):
            raise QdrantConfigurationError(
                f"`fusion` is {self.fusion!r}; it must be 'rrf' or 'dbsf'."
            )
        if self.weights and self.fusion != "rrf":
            raise QdrantConfigurationError(
                f"`weights` have no effect with the fusion '{self.fusion}'. Remove them, or use "
                "'rrf'."
            )
        if any(weight < 0 for weight in (self.weights or {}).values()):
            raise QdrantConfigurationError("`weights` must be 0 or more.")


@dataclass(frozen=True)
class Wanted:
    """Which hits are asked for.

    Args:
        limit: The most.
        offset: How many of the first to leave out.
        query_filter: A condition on the payload.
        score_threshold: The least score.
        payload: Whether with the payload, or with which of its fields.
    """

    limit: int
    offset: int = 0
    query_filter: models.Filter | None = None
    score_threshold: float | None = None
    payload: bool | list[str] = True


@dataclass(frozen=True)
class Rescored:
    """A vector by which what others found is put into a better order.

    Args:
        name: Its name.
        question: What is compared with it.
        depth: How many points the others find.
    """

    name: str
    question: Any
    depth: int


def query_request(
    vectors: Mapping[str, Any], wanted: Wanted, fused: Fused, rescored: Rescored | None = None
) -> models.QueryRequest:
    """A query for the points that are nearest to one vector, or to several in one ranking.

    Args:
        vectors: What is searched for, by the name of the vector that it is compared with.
        wanted: Which hits.
        fused: How those of several vectors become one ranking.
        rescored: By which vector they are put into a better order, if by one.
    """
    from qdrant_client import models

    common: dict[str, Any] = {
        "limit": wanted.limit,
        "offset": wanted.offset or None,
        "score_threshold": wanted.score_threshold,
        "with_payload": wanted.payload,
    }
    if rescored:
        first = _prefetch(vectors, wanted.query_filter, rescored.depth, fused)
        return models.QueryRequest(
            prefetch=first, query=rescored.question, using=rescored.name, **common
        )
    if len(vectors) == 1:
        [(name, vector)] = vectors.items()
        return models.QueryRequest(query=vector, using=name, filter=wanted.query_filter, **common)
    prefetch = _each(vectors, wanted.query_filter, wanted.limit + wanted.offset)
    return models.QueryRequest(prefetch=prefetch, query=_fusion(list(vectors), fused), **common)


def _prefetch(
    vectors: Mapping[str, Any], query_filter: models.Filter | None, limit: int, fused: Fused
) -> models.Prefetch:
    """The points that are nearest to one vector, or to several in one ranking."""
    from qdrant_client import models

    if len(vectors) == 1:
        [(name, vector)] = vectors.items()
        return models.Prefetch(query=vector, using=name, filter=query_filter, limit=limit)
    ways = _each(vectors, query_filter, limit)
    return models.Prefetch(prefetch=ways, query=_fusion(list(vectors), fused), limit=limit)


def _each(
    vectors: Mapping[str, Any], query_filter: models.Filter | None, limit: int
) -> list[models.Prefetch]:
    """The points that are nearest to each of several vectors, for as many as are to be fused."""
    from qdrant_client import models

    depth = max(_LEAST_FUSED, _FUSED_FACTOR * limit)
    return [
        models.Prefetch(query=vector, using=name, filter=query_filter, limit=depth)
        for name, vector in vectors.items()
    ]


def fused_scores(
    rankings: Mapping[str, Mapping[Any, float]], fused: Fused
) -> list[tuple[Any, float]]:
    """What was found by several vectors in one ranking, reckoned as Qdrant does; of one, as it is.

    Args:
        rankings: By vector, the scores of what it found, the best first.
        fused: How they become one ranking.

    Returns:
        What was found with its score, the best first.
    """
    if len(rankings) < 2:
        return [found for ranking in rankings.values() for found in ranking.items()]
    from qdrant_client import models
    from qdrant_client.hybrid.fusion import (
        distribution_based_score_fusion,
        reciprocal_rank_fusion,
    )

    points = [
        [models.ScoredPoint(id=id_, version=0, score=score) for id_, score in scores.items()]
        for scores in rankings.values()
    ]
    most = sum(map(len, points))
    if fused.fusion == "dbsf":
        found = distribution_based_score_fusion(points, most)
    else:
        weights = _weights(list(rankings), fused)
        found = reciprocal_rank_fusion(points, most, ranking_constant_k=_RRF_K, weights=weights)
    return [(point.id, point.score) for point in found]


def _fusion(names: Sequence[str], fused: Fused) -> models.FusionQuery | models.RrfQuery:
    from qdrant_client import models

    if fused.fusion == "dbsf":
        return models.FusionQuery(fusion=models.Fusion.DBSF)
    return models.RrfQuery(rrf=models.Rrf(k=_RRF_K, weights=_weights(names, fused)))


def _weights(names: Sequence[str], fused: Fused) -> list[float] | None:
    """The weights of vectors, in their order; None if nobody gave any."""
    weights = fused.weights or {}
    if unknown := weights.keys() - set(names):
        raise QdrantConfigurationError(
            f"`weights` names {', '.join(f'`{name}`' for name in sorted(unknown))}, which this "
            f"search does not use. It uses {', '.join(f'`{name}`' for name in names)}."
        )
    return [float(weights.get(name, 1.0)) for name in names] if weights else None
