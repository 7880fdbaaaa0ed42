"""The collections of one dataset: their names, how they are made, read off and dropped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from dagster_qdrant.client import Connection
from dagster_qdrant.embedding import EmbeddingOptions
from dagster_qdrant.errors import QdrantConflictError, QdrantNotFoundError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from qdrant_client import models

IndexType = Literal["bool", "datetime", "integer", "keyword"]

# Under this key a collection's metadata says what it holds.
METADATA_KEY = "dagster_qdrant"


def collection_name(dataset_name: str | None, separator: str, table_name: str) -> str:
    """Name of the collection of a table; both names as dlt normalized them."""
    return f"{dataset_name}{separator}{table_name}" if dataset_name else table_name


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
        table_name: str,
        collection: str,
        *,
        embedding: EmbeddingOptions | None = None,
        embed: tuple[str, ...] = (),
        indexes: Mapping[str, IndexType] | None = None,
    ) -> None:
        """See that the collection of a table is there, with what our own queries need.

        Another run may create it at the same moment, and another program may have made it without
        our indexes.

        Args:
            table_name: The table.
            collection: The collection; not always the one that its name would give.
            embedding: The model whose vectors it holds; None: no vectors.
            embed: The columns that are embedded.
            indexes: Payload fields that are filtered or sorted by.
        """
        from qdrant_client import models

        client = self.connection.client
        vectors: dict[str, models.VectorParams] = {}
        about: dict[str, Any] = {"dataset": self.dataset_name, "table": table_name}
        if embedding:
            vectors[embedding.vector_name] = models.VectorParams(
                size=embedding.vector_size, distance=models.Distance.COSINE
            )
            about |= {"model": embedding.model, "embed": list(embed)}
        info = self.describe(collection)
        if info is None:
            with suppress(QdrantConflictError):  # another run was faster, with the same request
                self.connection.request(
                    client.create_collection,
                    collection,
                    vectors_config=vectors,
                    metadata={METADATA_KEY: about},
                )
        if not self.connection.is_local:  # local mode scans, and warns of indexes
            there = set(info.payload_schema) if info else set()
            for field_name, kind in (indexes or {}).items():
                if field_name in there:
                    continue
                self.connection.request(
                    client.create_payload_index,
                    collection,
                    field_name=field_name,
                    field_schema=models.PayloadSchemaType(kind),
                    wait=True,
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
        points = self.connection.request(
            self.connection.client.retrieve, collection, ids=[point_id], with_payload=True
        )
        return dict(points[0].payload or {}) if points else {}

    def values(
        self, collection: str, field_name: str, condition: models.Filter | None = None
    ) -> dict[str, int]:
        """The different values of an indexed payload field, as text, and how often they are."""
        facet = self.connection.request(
            self.connection.client.facet,
            collection,
            key=field_name,
            facet_filter=condition,
            limit=10_000,
            exact=True,
        )
        return {str(hit.value): hit.count for hit in facet.hits}

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
        client, request = self.connection.client, self.connection.request
        if not self.connection.is_local:
            return request(
                client.scroll,
                collection,
                scroll_filter=matches({field_name: values}),
                limit=limit,
                with_payload=[field_name],
                with_vectors=[vector_name],
            )[0]
        # Local mode compares each point with each value of a condition; this is far quicker.
        points, _ = request(client.scroll, collection, limit=10**9, with_payload=[field_name])
        by_value = {(point.payload or {}).get(field_name): point.id for point in points}
        ids = [by_value[value] for value in values if value in by_value]
        if not ids:
            return []
        return request(
            client.retrieve,
            collection,
            ids=ids,
            with_payload=[field_name],
            with_vectors=[vector_name],
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

    def pages(
        self,
        collection: str,
        condition: models.Filter | None = None,
        *,
        with_payload: bool | list[str],
        page: int,
    ) -> Iterator[list[models.Record]]:
        """Points without their vectors, so many at a time, in the order of their ids.

        Args:
            collection: The collection.
            condition: Which points; None: all.
            with_payload: Whether with the payload, or with which of its fields.
            page: How many at a time.
        """
        offset: Any = None
        while True:
            records, offset = self.connection.request(
                self.connection.client.scroll,
                collection,
                scroll_filter=condition,
                limit=page,
                offset=offset,
                with_payload=with_payload,
                with_vectors=False,
            )
            if records:
                yield records
            if offset is None:
                return

    def newest_first(
        self,
        collection: str,
        condition: models.Filter | None,
        order_by: str,
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
            order_by: Payload field with a time; needs an index on a server.
            page: How many points to ask for at first.
            fields: The payload fields beside the time; None: all.

        Raises:
            QdrantNotFoundError: If there is no such collection.
        """
        from qdrant_client import models

        seen: set[Any] = set()
        start_from: Any = None
        while True:
            records, _ = self.connection.request(
                self.connection.client.scroll,
                collection,
                scroll_filter=condition,
                order_by=models.OrderBy(
                    key=order_by, direction=models.Direction.DESC, start_from=start_from
                ),
                limit=page,
                with_payload=True if fields is None else [order_by, *fields],
                with_vectors=False,
            )
            fresh = [record for record in records if record.id not in seen]
            if fresh:
                yield fresh
            if len(records) < page:
                return
            seen.update(record.id for record in fresh)
            start_from = (records[-1].payload or {})[order_by]
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


def about(info: models.CollectionInfo) -> dict[str, Any]:
    """What this package wrote about a collection when it made it; empty if it did not."""
    return dict((info.config.metadata or {}).get(METADATA_KEY) or {})
