"""The points of collections: read, counted and deleted, however many there are."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dagster_qdrant.errors import QdrantNotFoundError
from dagster_qdrant.qdrant.connection import Connection

if TYPE_CHECKING:
    from qdrant_client import models

# How many different values of a field to ask for at first.
_FEW_VALUES = 10_000
# How many values to ask for points with at a time.
_VALUES = 500
_PAGE = 1000
_ALL = 10**9


class Points:
    """Access to points through one connection.

    Args:
        connection: The way to Qdrant.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def count(self, collection: str, condition: models.Filter | None = None) -> int:
        """The exact number of points, all or those that a filter selects."""
        return self.connection.request(
            self.connection.client.count, collection, count_filter=condition, exact=True
        ).count

    def payload(self, collection: str, point_id: Any) -> dict[str, Any]:
        """The whole payload of a point; empty if there is none."""
        points = self.retrieve(collection, [point_id], payload=True)
        return dict(points[0].payload or {}) if points else {}

    def retrieve(
        self,
        collection: str,
        point_ids: Sequence[Any],
        *,
        payload: bool | list[str] = False,
        vectors: bool | list[str] = False,
    ) -> list[models.Record]:
        """The points of some ids, as far as they are there."""
        return self.connection.request(
            self.connection.client.retrieve,
            collection,
            ids=point_ids,
            with_payload=payload,
            with_vectors=vectors,
        )

    def values(
        self, collection: str, field_name: str, condition: models.Filter | None = None
    ) -> dict[str, int]:
        """The different values of an indexed payload field, as text, and how often they are."""
        limit = _FEW_VALUES
        while True:
            facet = self.connection.request(
                self.connection.client.facet,
                collection,
                key=field_name,
                facet_filter=condition,
                limit=limit,
                exact=True,
            )
            if len(facet.hits) < limit:
                return {str(hit.value): hit.count for hit in facet.hits}
            limit *= 10  # Qdrant has no pages of values

    def vectors(
        self,
        collection: str,
        vector_name: str,
        field_name: str,
        values: Set[str],
        at_once: int | None = None,
    ) -> dict[str, Any]:
        """Vectors of points by the value that they have in an indexed payload field.

        Not all that could be found are, where very many points share a value.

        Args:
            collection: The collection.
            vector_name: Which of a point's vectors.
            field_name: The payload field.
            values: The values of interest.
            at_once: For how many of them to ask at once. Default: for all.

        Returns:
            For each value that was found an array of shape (vector size,), of a multivector
            (tokens, vector size), or a sparse vector.
        """
        ordered = sorted(values)
        size = at_once or max(1, len(ordered))
        found: dict[str, Any] = {}
        for start in range(0, len(ordered), size):
            some = set(ordered[start : start + size])
            found |= self._vectors(collection, vector_name, field_name, some)
        return found

    def _vectors(
        self, collection: str, vector_name: str, field_name: str, values: Set[str]
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while wanted := sorted(values - set(found)):
            limit = 2 * len(wanted)
            before = len(found)
            records, _ = self.scroll(
                collection,
                matches({field_name: wanted}),
                limit=limit,
                payload=[field_name],
                vectors=[vector_name],
            )
            found |= vectors_by_value(records, vector_name, field_name)
            if len(records) < limit or len(found) - before < len(records) / 10:
                break
        return found

    def delete(self, collection: str, point_ids: Sequence[Any]) -> None:
        """Delete points by their ids."""
        from qdrant_client import models

        for start in range(0, len(point_ids), _PAGE):
            self.connection.request(
                self.connection.client.delete,
                collection,
                points_selector=models.PointIdsList(points=list(point_ids[start : start + _PAGE])),
                wait=True,
            )

    def delete_where(self, collection: str, condition: models.Filter) -> None:
        """Delete the points that a filter selects, if there is such a collection."""
        from qdrant_client import models

        with suppress(QdrantNotFoundError):
            self.connection.request(
                self.connection.client.delete,
                collection,
                points_selector=models.FilterSelector(filter=condition),
                wait=True,
            )

    def delete_payload(self, collection: str, fields: list[str], point_ids: list[Any]) -> None:
        """Take some fields out of the payload of some points."""
        self.connection.request(
            self.connection.client.delete_payload,
            collection,
            keys=fields,
            points=point_ids,
            wait=True,
        )

    def scroll(
        self,
        collection: str,
        condition: models.Filter | None = None,
        *,
        limit: int,
        payload: bool | list[str] = False,
        vectors: bool | list[str] = False,
        offset: Any = None,
        order_by: models.OrderBy | None = None,
    ) -> tuple[list[models.Record], Any]:
        """One page of points, and where the next one begins: None if there is none.

        Args:
            collection: The collection.
            condition: Which points; None: all.
            limit: The most points.
            payload: Whether with the payload, or with which of its fields.
            vectors: Whether with the vectors, or with which of them.
            offset: The id from which on. Points come in the order of their ids.
            order_by: Another order, which has no offset.
        """
        return self.connection.request(
            self.connection.client.scroll,
            collection,
            scroll_filter=condition,
            limit=limit,
            offset=offset,
            order_by=order_by,
            with_payload=payload,
            with_vectors=vectors,
        )

    def pages(
        self,
        collection: str,
        condition: models.Filter | None = None,
        *,
        page: int,
        payload: bool | list[str],
    ) -> Iterator[list[models.Record]]:
        """All points, without their vectors, in pages and in the order of their ids.

        Args:
            collection: The collection.
            condition: Which points; None: all.
            page: How many at a time.
            payload: Whether with the payload, or with which of its fields.
        """
        if self.connection.is_local:  # which looks at all points for each page
            found, _ = self.scroll(collection, condition, limit=_ALL)
            for start in range(0, len(found), page):
                ids = [record.id for record in found[start : start + page]]
                yield self.retrieve(collection, ids, payload=payload)
            return
        offset: Any = None
        while True:
            records, offset = self.scroll(
                collection, condition, limit=page, payload=payload, offset=offset
            )
            if records:
                yield records
            if offset is None:
                return

    def pages_with(
        self, collection: str, field_name: str, values: Iterable[Any], *, payload: list[str]
    ) -> Iterator[list[models.Record]]:
        """The points whose payload field has one of some values, in pages.

        Args:
            collection: The collection.
            field_name: The payload field; needs an index on a server.
            values: The values, any number of them. Of one that is repeated, points may come again.
            payload: The payload fields to bring.
        """
        if self.connection.is_local:  # which compares each point with each value of a condition
            among = set(values)
            fields = [field_name, *payload]
            for records in self.pages(collection, page=_PAGE, payload=fields) if among else ():
                yield [each for each in records if (each.payload or {}).get(field_name) in among]
            return
        wanted = iter(values)
        while some := list(dict.fromkeys(itertools.islice(wanted, _VALUES))):
            yield from self.pages(
                collection, matches({field_name: some}), page=_PAGE, payload=payload
            )

    def newest_first(
        self,
        collection: str,
        condition: models.Filter | None,
        field_name: str,
        *,
        page: int = 10,
        fields: list[str] | None = None,
    ) -> Iterator[list[models.Record]]:
        """Points in pages, from the latest time to the earliest, each page larger than the last.

        Qdrant pages an ordered scroll by value: a page begins with all that have the last value
        of the one before. Points seen are passed over, and since pages grow, this ends however
        many points share a time.

        Args:
            collection: The collection.
            condition: Which points.
            field_name: Payload field with a time; needs an index on a server.
            page: How many points to ask for at first.
            fields: The payload fields beside the time; None: all.

        Raises:
            QdrantNotFoundError: If there is no such collection.
        """
        from qdrant_client import models

        start: Any = None
        payload = True if fields is None else [field_name, *fields]
        seen: set[Any] = set()
        while True:
            # Made anew: of a time as text that is set later, pydantic warns when it is sent.
            order = models.OrderBy(
                key=field_name, direction=models.Direction.DESC, start_from=start
            )
            records, _ = self.scroll(
                collection, condition, limit=page, payload=payload, order_by=order
            )
            fresh = [record for record in records if record.id not in seen]
            if fresh:
                yield fresh
            if len(records) < page:
                return
            seen.update(record.id for record in fresh)
            start = (records[-1].payload or {})[field_name]
            page *= 2


def vectors_by_value(
    records: Iterable[models.Record], vector_name: str, field_name: str
) -> dict[str, Any]:
    """The vectors of points that have one, by the value of a payload field."""
    import numpy as np

    found: dict[str, Any] = {}
    for record in records:
        value = (record.payload or {}).get(field_name)
        if value is None or not isinstance(record.vector, dict):
            continue
        vector: Any = record.vector.get(vector_name)
        if vector is not None:  # a sparse one stays as it is
            is_sparse = hasattr(vector, "indices")
            found[str(value)] = vector if is_sparse else np.asarray(vector, dtype=np.float32)
    return found


def matches(values: Mapping[str, Any]) -> models.Filter:
    """The condition that payload fields have certain values; a list means any of its values."""
    from qdrant_client import models

    return models.Filter(
        must=[
            models.FieldCondition(
                key=name,
                match=models.MatchAny(any=value)
                if isinstance(value, list)
                else models.MatchValue(value=value),
            )
            for name, value in values.items()
        ]
    )


def joined(pages: Iterable[list[models.Record]], size: int) -> Iterator[list[models.Record]]:
    """Pages joined to larger ones, of at least so many points as far as there are."""
    together: list[models.Record] = []
    for page in pages:
        together += page
        if len(together) >= size:
            yield together
            together = []
    if together:
        yield together
