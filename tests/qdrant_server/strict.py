"""Strict mode: which conditions of a filter lack a payload index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from qdrant_client.http import models as m

from .convert import listed
from .errors import ApiError

_ANY_TYPE = [kind.value for kind in m.PayloadSchemaType]


def check(filter_: m.Filter | None, types: Mapping[str, str]) -> None:
    """Refuse a filter on a field that has no index of a fitting type (`types`: those there are)."""
    for key, fitting in _needs(filter_):
        if types.get(key) not in fitting:
            names = ", ".join(sorted(fitting))
            raise ApiError(
                400,
                f'Bad request: Index required but not found for "{key}" of one of the following '
                f"types: [{names}]. Help: Create an index for this key or use a different filter.",
            )


def _needs(filter_: m.Filter | None, prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    if filter_ is None:
        return
    least = filter_.min_should.conditions if filter_.min_should else []
    for clause in (filter_.must, filter_.should, filter_.must_not, least):
        for condition in listed(clause):
            match condition:
                case m.FieldCondition():
                    yield prefix + condition.key, _fitting(condition)
                case m.IsEmptyCondition(is_empty=field) | m.IsNullCondition(is_null=field):
                    yield prefix + field.key, _ANY_TYPE
                case m.NestedCondition(nested=nested):
                    yield from _needs(nested.filter, f"{prefix}{nested.key.removesuffix('[]')}[].")
                case m.Filter():
                    yield from _needs(condition, prefix)


def _fitting(condition: m.FieldCondition) -> list[str]:
    match condition.match:
        case m.MatchText() | m.MatchTextAny() | m.MatchPhrase():
            return ["text"]
        case m.MatchPrefix() | m.MatchSubstring():
            return ["keyword"]
        case None:
            pass
        case match:
            return _types_of(next(iter(vars(match).values())))
    if condition.range:
        dates = isinstance(condition.range, m.DatetimeRange)
        return ["datetime"] if dates else ["float", "integer"]
    return _ANY_TYPE


def _types_of(wanted: Any) -> list[str]:
    values = listed(wanted)
    if any(isinstance(value, str) for value in values):
        return ["keyword", "uuid"] if all(map(_is_uuid, values)) else ["keyword"]
    return ["bool"] if isinstance(wanted, bool) else ["integer"]


def _is_uuid(value: str) -> bool:
    try:
        return bool(UUID(value))
    except ValueError:
        return False
