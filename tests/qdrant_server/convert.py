"""The REST models of qdrant-client to the engine's objects, and back."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import qdrant_edge as edge
from qdrant_client.http import models as m

from .errors import ApiError

# The engine takes Python's bools for integers, and for bools only what looks like numpy's.
_BOOLS: dict[bool, Any] = {
    value: type("bool_", (), {"__module__": "numpy", "__bool__": lambda _, value=value: value})()
    for value in (False, True)
}


def point_id(value: int | str | UUID) -> int | str:
    """A point id, refused as Qdrant's JSON reader does."""
    try:
        return value if isinstance(value, int) and value >= 0 else str(UUID(str(value)))
    except ValueError:
        rule = "valid values are either an unsigned integer or a UUID"
        text = f"value {value} is not a valid point ID, {rule}"
        raise ApiError(400, f"Format error in JSON body: {text}") from None


def vector(value: Any) -> Any:
    """A vector, or several by name. Of texts the engine can embed those for BM25."""
    if isinstance(value, dict):
        return {name: vector(item) for name, item in value.items()}
    if isinstance(value, m.SparseVector):
        return edge.SparseVector(value.indices, value.values)
    if isinstance(value, m.Document) and value.model.lower() == "qdrant/bm25":
        return edge.Bm25().embed_document(value.text)
    if isinstance(value, list):
        return value
    raise ApiError(500, "Service internal error: InferenceService is not initialized.")


def _vector_output(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _vector_output(item) for name, item in value.items()}
    if isinstance(value, edge.SparseVector):
        return m.SparseVector(indices=value.indices, values=value.values)
    return value


def _fields(point: edge.Record | edge.ScoredPoint) -> dict[str, Any]:
    return {
        "id": point_id(point.id),
        "payload": point.payload,
        "vector": _vector_output(point.vector),
        "order_value": point.order_value,
    }


def record(point: edge.Record) -> m.Record:
    """A point as it is stored; the engine's own output needs no validation."""
    return m.Record.model_construct(**_fields(point))


def scored_point(point: edge.ScoredPoint) -> m.ScoredPoint:
    """A point as it was found."""
    return m.ScoredPoint.model_construct(version=point.version, score=point.score, **_fields(point))


def with_payload(value: Any, default: bool) -> Any:
    """Which part of the payload to return."""
    if isinstance(value, m.PayloadSelectorInclude):
        return edge.PayloadSelector.Include(value.include)
    if isinstance(value, m.PayloadSelectorExclude):
        return edge.PayloadSelector.Exclude(value.exclude)
    return default if value is None else value


def order_by(value: str | m.OrderBy | None) -> edge.OrderBy | None:
    """An order by a payload field."""
    if not isinstance(value, m.OrderBy):
        return None if value is None else edge.OrderBy(value)
    start: Any = value.start_from
    return edge.OrderBy(
        value.key,
        edge.Direction.Desc if value.direction == m.Direction.DESC else edge.Direction.Asc,
        start.isoformat() if hasattr(start, "isoformat") else start,
    )


def index_schema(value: Any) -> Any:
    """The schema of a payload index: a type, or a type with parameters."""
    if isinstance(value, m.PayloadSchemaType):
        return getattr(edge.PayloadSchemaType, value.capitalize())
    plain = {key: item for key, item in vars(value).items() if type(item) in (bool, int)}
    if tokenizer := getattr(value, "tokenizer", None):
        plain["tokenizer"] = getattr(edge.TokenizerType, tokenizer.capitalize())
    return getattr(edge, type(value).__name__)(**plain)


def listed(clause: Any) -> list[Any]:
    """A clause as a list: it may also be a single condition, or none."""
    return clause if isinstance(clause, list) else [] if clause is None else [clause]


def filter_(value: m.Filter | None) -> edge.Filter | None:
    """A filter with all that is nested in it."""
    if value is None:
        return None
    least = value.min_should
    try:
        return edge.Filter(
            must=_conditions(value.must),
            should=_conditions(value.should),
            must_not=_conditions(value.must_not),
            min_should=edge.MinShould(_conditions(least.conditions) or [], least.min_count)
            if least
            else None,
        )
    except ValueError as error:  # a malformed path or date
        raise ApiError(400, f"Format error in JSON body: {error}") from None


def _conditions(clause: Any) -> list[Any] | None:
    return [_condition(item) for item in listed(clause)] or None


def _condition(value: Any) -> Any:
    match value:
        case m.FieldCondition(geo_bounding_box=None, geo_radius=None, geo_polygon=None):
            number = value.values_count
            return edge.FieldCondition(
                value.key,
                match=_match(value.match),
                range=_range(value.range),
                values_count=edge.ValuesCount(**vars(number)) if number else None,
                is_empty=value.is_empty,
                is_null=value.is_null,
            )
        case m.IsEmptyCondition():
            return edge.IsEmptyCondition(value.is_empty.key)
        case m.IsNullCondition():
            return edge.IsNullCondition(value.is_null.key)
        case m.HasIdCondition():
            return edge.HasIdCondition({point_id(id_) for id_ in value.has_id})
        case m.HasVectorCondition():
            return edge.HasVectorCondition(value.has_vector)
        case m.NestedCondition():
            inner = filter_(value.nested.filter) or edge.Filter()
            return edge.NestedCondition(value.nested.key, inner)
        case m.Filter():
            return filter_(value)
    raise ApiError(501, f"The test server has no {type(value).__name__} of this kind")


def _match(value: Any) -> Any:
    """Each has a namesake in the engine, and one field."""
    if isinstance(value, m.MatchValue) and isinstance(value.value, bool):
        return edge.MatchValue(_BOOLS[value.value])
    return value and getattr(edge, type(value).__name__)(*vars(value).values())


def _range(value: m.Range | m.DatetimeRange | None) -> Any:
    if isinstance(value, m.DatetimeRange):
        bounds = {key: bound and bound.isoformat() for key, bound in vars(value).items()}
        return edge.RangeDateTime(**bounds)
    return value and edge.RangeFloat(**vars(value))
