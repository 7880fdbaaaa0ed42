"""Which point has a value in its payload, in local mode, which looks at all points to find one."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from dagster_qdrant.qdrant.points import Points, vectors_by_value

_ALL = 10**9


class LocalPlaces:
    """Points by the value of a payload field. All points are read once, and not for each question.

    They are read again where a point has another value by then, since others may have that one.

    Args:
        points: Access to points.
        collection: The collection.
        field_name: The payload field.
    """

    def __init__(self, points: Points, collection: str, field_name: str) -> None:
        self._points = points
        self._collection = collection
        self._field_name = field_name
        self._places: dict[Any, Any] | None = None

    def vectors(self, vector_name: str, values: Set[str]) -> dict[str, Any]:
        """The vectors of points, by the values of interest that they have."""
        found: dict[str, Any] = {}
        is_fresh = False
        while values and not is_fresh:
            is_fresh = self._places is None
            places = self._places = self._read() if self._places is None else self._places
            ids = [places[value] for value in values if value in places]
            fields = [self._field_name]
            records = self._points.retrieve(
                self._collection, ids, payload=fields, vectors=[vector_name]
            )
            found |= vectors_by_value(records, vector_name, self._field_name)
            if len(found.keys() & values) == len(ids):
                break
            self._places = places if is_fresh else None
        return {value: vector for value, vector in found.items() if value in values}

    def add(self, value: str, point_id: Any) -> None:
        """Say that a point has a value now."""
        if self._places is not None:
            self._places[value] = point_id

    def _read(self) -> dict[Any, Any]:
        records, _ = self._points.scroll(self._collection, limit=_ALL, payload=[self._field_name])
        return {(record.payload or {}).get(self._field_name): record.id for record in records}
