"""The collections of one dataset: their names, how they are made, read off and dropped."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from dagster_qdrant.errors import QdrantConflictError, QdrantNotFoundError
from dagster_qdrant.qdrant.collection_settings import (
    index_schemas,
    later_settings_of,
    settings_of,
    vector_like,
)
from dagster_qdrant.qdrant.connection import Connection

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from qdrant_client import models

IndexType = Literal["bool", "datetime", "integer", "keyword"]

# Qdrant's limit is 255. The rest is for the number of a collection that takes another's place.
MAX_NAME_BYTES = 250

# Under this key a collection's metadata says what it holds.
METADATA_KEY = "dagster_qdrant"

# How many different values of a field to ask for at first.
_FEW_VALUES = 10_000
# How many values to ask for points with at a time.
_VALUES = 500
_PAGE = 1000
_ALL = 10**9


def collection_name(dataset_name: str | None, separator: str, table_name: str) -> str:
    """Name of the collection of a table; both names as dlt normalized them."""
    return f"{dataset_name}{separator}{table_name}" if dataset_name else table_name


def why_unfit(collection: str) -> str | None:
    """Why Qdrant takes no collection of a name, and what to do; None if it does."""
    if (size := len(collection.encode())) <= MAX_NAME_BYTES:
        return None
    return (
        f"Its collection would be named `{collection}`, which has {size} bytes; a name may have "
        f"{MAX_NAME_BYTES}. Shorten the dataset's name or the table's (`table_name=...`)."
    )


class Collections:
    """Access to the collections of a dataset through one connection.

    Args:
        connection: The way to Qdrant.
        dataset_name: The dataset's name as dlt normalized it, or None.
        separator: What stands between dataset and table in a collection's name.
    """

    def __init__(self, connection: Connection, dataset_name: str | None, separator: str) -> None:
        self.connection = connection
        self.dataset_name = dataset_name
        self.separator = separator

    def name(self, table_name: str) -> str:
        """The collection's name for a table."""
        return collection_name(self.dataset_name, self.separator, table_name)

    def describe(self, collection: str) -> models.CollectionInfo | None:
        """What Qdrant says of a collection, or None if there is none."""
        try:
            return self.connection.request(self.connection.client.get_collection, collection)
        except QdrantNotFoundError:
            return None

    def exists(self, collection: str) -> bool:
        """Whether there is such a collection."""
        return self.connection.request(self.connection.client.collection_exists, collection)

    def ensure(
        self,
        collection: str,
        *,
        metadata: Mapping[str, Any],
        vectors: Mapping[str, int],
        keyword_vectors: Sequence[str] = (),
        indexes: Mapping[str, IndexType],
        former: models.CollectionInfo | None = None,
    ) -> None:
        """See that a collection is there, with what our own queries need.

        Another run may create it at the same moment. Another program, say dlt's own destination,
        may have made it, without our indexes and our metadata.

        Args:
            collection: The collection.
            metadata: What this package writes about it.
            vectors: The sizes of its vectors, by name.
            keyword_vectors: The names of those of keywords, whose rarity Qdrant reckons.
            indexes: Payload fields that are filtered or sorted by.
            former: The collection whose place it is going to take. What was set on that, by
                whomever, is set on this one too.
        """
        from qdrant_client import models

        client = self.connection.client
        info = self.describe(collection)
        if info is None:
            with suppress(QdrantConflictError):  # another run was faster, with the same request
                self._create(collection, metadata, vectors, keyword_vectors, former)
        elif not about(info):
            self.set_about(collection, metadata)
        elif _is_other_news(info, metadata):
            self.set_about(collection, {**about(info), **metadata})
        if not self.connection.is_local:  # local mode scans, and warns of indexes
            schemas: dict[str, Any] = {
                name: models.PayloadSchemaType(kind) for name, kind in indexes.items()
            }
            schemas |= index_schemas(former) if former else {}
            there = set(info.payload_schema) if info else set()
            for field_name in schemas.keys() - there:
                self.connection.request(
                    client.create_payload_index,
                    collection,
                    field_name=field_name,
                    field_schema=schemas[field_name],
                    wait=True,
                )

    def _create(
        self,
        collection: str,
        metadata: Mapping[str, Any],
        vectors: Mapping[str, int],
        keyword_vectors: Sequence[str],
        former: models.CollectionInfo | None,
    ) -> None:
        from qdrant_client import models

        client = self.connection.client
        before = vector_params(former) if former else {}
        # Of another model, whose vectors have another name, there is no more than one.
        params = {
            name: vector_like(
                models.VectorParams(size=size, distance=models.Distance.COSINE),
                before.get(name) or (next(iter(before.values())) if len(before) == 1 else None),
            )
            for name, size in vectors.items()
        }
        of_keywords = models.SparseVectorParams(modifier=models.Modifier.IDF)
        others = dict(former.config.metadata or {}) if former else {}
        self.connection.request(
            client.create_collection,
            collection,
            vectors_config=params,
            sparse_vectors_config=dict.fromkeys(keyword_vectors, of_keywords) or None,
            metadata={**others, METADATA_KEY: dict(metadata)},
            **(settings_of(former) if former else {}),
        )
        if former and (later := later_settings_of(former)):
            self.connection.request(client.update_collection, collection, collection_params=later)

    def set_about(self, collection: str, about: Mapping[str, Any]) -> None:
        """Change what a collection's metadata says of it."""
        aliases = self.connection.request(self.connection.client.get_aliases).aliases
        names = {alias.alias_name: alias.collection_name for alias in aliases}
        self.connection.request(
            self.connection.client.update_collection,
            names.get(collection, collection),
            metadata={METADATA_KEY: dict(about)},
        )

    def is_foreign(self, table_name: str) -> bool:
        """Whether a table of a like name in another dataset has a table's collection."""
        info = self.describe(self.name(table_name))
        owner = about(info) if info else {}
        return bool(owner) and (owner["dataset"], owner["table"]) != (self.dataset_name, table_name)

    def drop(self, collection: str) -> None:
        """Delete a collection, if there is one."""
        with suppress(QdrantNotFoundError):
            self.connection.request(self.connection.client.delete_collection, collection)

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
        self, collection: str, vector_name: str, field_name: str, values: Set[str]
    ) -> dict[str, NDArray[np.float32]]:
        """Vectors of points by the value that they have in an indexed payload field.

        Not all that could be found are, where very many points share a value.

        Args:
            collection: The collection.
            vector_name: Which of a point's vectors.
            field_name: The payload field.
            values: The values of interest.

        Returns:
            An array of shape (vector size,) for each value that was found.
        """
        import numpy as np

        found: dict[str, NDArray[np.float32]] = {}
        while wanted := sorted(values - set(found)):
            limit = 2 * len(wanted)
            before = len(found)
            records = self._points_with(collection, vector_name, field_name, wanted, limit)
            for record in records:
                if isinstance(record.vector, dict) and vector_name in record.vector:
                    value = str((record.payload or {})[field_name])
                    found[value] = np.asarray(record.vector[vector_name], dtype=np.float32)
            if len(records) < limit or len(found) - before < len(records) / 10:
                break
        return found

    def _points_with(
        self, collection: str, vector_name: str, field_name: str, values: list[str], limit: int
    ) -> list[models.Record]:
        fields = [field_name]
        if not self.connection.is_local:
            condition = matches({field_name: values})
            return self.scroll(
                collection, condition, limit=limit, payload=fields, vectors=[vector_name]
            )[0]
        # Local mode compares each point with each value of a condition; this is far quicker.
        points, _ = self.scroll(collection, limit=_ALL, payload=fields)
        by_value = {(point.payload or {}).get(field_name): point.id for point in points}
        ids = [by_value[value] for value in values if value in by_value]
        if not ids:
            return []
        return self.retrieve(collection, ids, payload=fields, vectors=[vector_name])

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
            values: The values, any number of them.
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

        order = models.OrderBy(key=field_name, direction=models.Direction.DESC)
        payload = True if fields is None else [field_name, *fields]
        seen: set[Any] = set()
        while True:
            records, _ = self.scroll(
                collection, condition, limit=page, payload=payload, order_by=order
            )
            fresh = [record for record in records if record.id not in seen]
            if fresh:
                yield fresh
            if len(records) < page:
                return
            seen.update(record.id for record in fresh)
            order.start_from = (records[-1].payload or {})[field_name]
            page *= 2


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


def vector_params(info: models.CollectionInfo) -> dict[str, models.VectorParams]:
    """The vectors of a collection by name; the unnamed one is called ""."""
    vectors = info.config.params.vectors
    if vectors is None:
        return {}
    return dict(vectors) if isinstance(vectors, dict) else {"": vectors}


def _is_other_news(info: models.CollectionInfo, metadata: Mapping[str, Any]) -> bool:
    """Whether something else is said of a table's collection that needs no other points."""
    said = about(info)
    is_own = bool(said) and all(said.get(name) == metadata[name] for name in ("dataset", "table"))
    return is_own and said != {**said, **metadata}


def about(info: models.CollectionInfo) -> dict[str, Any]:
    """What this package wrote about a collection when it made it; empty if it did not."""
    return dict((info.config.metadata or {}).get(METADATA_KEY) or {})
