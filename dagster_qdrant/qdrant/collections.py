"""The collections of one dataset: their names, how they are made, read off and dropped."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from dagster_qdrant.errors import QdrantConflictError, QdrantNotFoundError
from dagster_qdrant.qdrant.asked_settings import (
    NamedVectorParams,
    changes,
    named_vector_for,
    settings_for,
    vector_for,
)
from dagster_qdrant.qdrant.collection_settings import (
    index_is_like,
    index_schema,
    index_schemas,
    later_settings_of,
)
from dagster_qdrant.qdrant.connection import Connection
from dagster_qdrant.qdrant.points import Points

if TYPE_CHECKING:
    from qdrant_client import models


# Qdrant's limit is 255. The rest is for the number of a collection that takes another's place.
MAX_NAME_BYTES = 250

# Under this key a collection's metadata says what it holds.
METADATA_KEY = "dagster_qdrant"


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


# In a collection's metadata: for which model its texts were cut into chunks, and the collection
# that these are in.
CUT_FOR, CHUNKS_IN = "cut_for", "chunks_in"
# In that of a collection of chunks, until they go with those of the last row.
ARE_CHUNKS = "are_chunks"
# What nobody says any more does not hold any more, though the points are the same.
_SAID_ANEW = frozenset(
    {"index", "numbers", "collection", "chunk", "chunked", "vectors", CUT_FOR, CHUNKS_IN}
)


class Collections(Points):
    """Access to the collections of a dataset through one connection.

    Args:
        connection: The way to Qdrant.
        dataset_name: The dataset's name as dlt normalized it, or None.
        separator: What stands between dataset and table in a collection's name.
    """

    def __init__(self, connection: Connection, dataset_name: str | None, separator: str) -> None:
        super().__init__(connection)
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

    def changed(self, collection: str | None = None) -> None:
        """Called when a collection was changed here; None: where names lead.

        Whoever remembers what Qdrant said of it forgets that.
        """

    def ensure(
        self,
        collection: str,
        *,
        metadata: Mapping[str, Any],
        vectors: Mapping[str, int],
        named_vectors: Mapping[str, NamedVectorParams] | None = None,
        keyword_vectors: Mapping[str, bool] | None = None,
        indexes: Mapping[str, Mapping[str, Any]],
        settings: Mapping[str, Any] | None = None,
        former: models.CollectionInfo | None = None,
    ) -> None:
        """See that a collection is there, with what our own queries need.

        Another run may create it at the same moment. Another program, say dlt's own destination,
        may have made it, without our indexes and our metadata.

        Args:
            collection: The collection.
            metadata: What this package writes about it.
            vectors: The size of its main vector, if it has one, by name.
            named_vectors: What is asked for of further ones, by name.
            keyword_vectors: Those of keywords, by name, and whether Qdrant weighs by their rarity.
            indexes: Payload fields that are filtered or sorted by, with their index. Those that
                `metadata` has under "index" were asked for, and go when they are no longer.
            settings: What is asked for of the collection and its vectors, by Qdrant's names.
            former: The collection whose place it is going to take. What was set on that, by
                whomever, is set on this one too.
        """
        info, settings = self.describe(collection), settings or {}
        if info is None:
            with suppress(QdrantConflictError):  # another run was faster, with the same request
                self._create(
                    collection,
                    metadata,
                    vectors,
                    named_vectors or {},
                    keyword_vectors or {},
                    settings=settings,
                    former=former,
                )
            self.changed(collection)
        if not self.connection.is_local:  # local mode scans, warns of indexes, keeps no settings
            if info and (changed := changes(settings, info, next(iter(vectors), ""))):
                self._update(collection, **changed)
            self._set_indexes(collection, info, indexes, metadata.get("index") or {}, former)
        # After the indexes: by what is written down, those are known that have to go.
        if info is not None and (news := _news(info, metadata)):
            self.set_about(collection, news)

    def _set_indexes(
        self,
        collection: str,
        info: models.CollectionInfo | None,
        indexes: Mapping[str, Mapping[str, Any]],
        asked: Mapping[str, Any],
        former: models.CollectionInfo | None,
    ) -> None:
        """Make the payload indexes that are missing, and remove those that were asked for once."""
        request, client = self.connection.request, self.connection.client
        there = info.payload_schema if info else {}
        before = dict(about(info).get("index") or {}) if info else {}
        wanted: dict[str, Any] = {name: index_schema(index) for name, index in indexes.items()}
        if former is not None:  # what was set by hand stays, and so do its settings
            asked_before = about(former).get("index") or {}
            for name, schema in index_schemas(former).items():
                if name not in asked_before:
                    wanted.setdefault(name, schema)  # ours are as this version makes them
        outdated = {name for name in before if name in there and name not in wanted}
        for name in asked.keys() & wanted.keys() & there.keys():
            if not index_is_like(
                there[name], asked[name], strictly=asked[name] != before.get(name)
            ):
                outdated.add(name)
        missing = sorted(wanted.keys() - (there.keys() - outdated))
        if outdated or missing:
            self.changed(collection)
        for name in sorted(outdated):
            request(client.delete_payload_index, collection, field_name=name, wait=True)
        self._make_indexes(collection, {name: wanted[name] for name in missing})

    def _make_indexes(self, collection: str, schemas: Mapping[str, Any]) -> None:
        self.connection.at_once(
            partial(
                self.connection.request,
                self.connection.client.create_payload_index,
                collection,
                field_name=name,
                field_schema=schema,
                wait=True,
            )
            for name, schema in schemas.items()
        )

    def restore_indexes(self, collection: str, indexes: Mapping[str, Mapping[str, Any]]) -> bool:
        """Make payload indexes that a collection lacks, say since it was copied without them.

        Returns:
            Whether there were any.
        """
        info = self.describe(collection)
        missing = indexes.keys() - info.payload_schema.keys() if info else set()
        self._make_indexes(collection, {name: index_schema(indexes[name]) for name in missing})
        if missing:
            self.changed(collection)
        return bool(missing)

    def _create(
        self,
        collection: str,
        metadata: Mapping[str, Any],
        vectors: Mapping[str, int],
        named_vectors: Mapping[str, NamedVectorParams],
        keyword_vectors: Mapping[str, bool],
        *,
        settings: Mapping[str, Any],
        former: models.CollectionInfo | None,
    ) -> None:
        from qdrant_client import models

        client = self.connection.client
        before = vector_params(former) if former else {}
        further = (about(former).get("vectors") or {}) if former else {}
        # Of another model, whose vectors have another name, there is no more than one.
        main = [params for name, params in before.items() if name not in further]
        params = {
            name: vector_for(
                size, settings, before.get(name) or (main[0] if len(main) == 1 else None)
            )
            for name, size in vectors.items()
        }
        params |= {name: named_vector_for(v, before.get(name)) for name, v in named_vectors.items()}
        of_keywords = {
            name: models.SparseVectorParams(modifier=models.Modifier.IDF if has_idf else None)
            for name, has_idf in keyword_vectors.items()
        }
        others = dict(former.config.metadata or {}) if former else {}
        self.connection.request(
            client.create_collection,
            collection,
            vectors_config=params,
            sparse_vectors_config=of_keywords or None,
            metadata={**others, METADATA_KEY: dict(metadata)},
            **settings_for(settings, former),
        )
        if former and (later := later_settings_of(former)):
            self.connection.request(client.update_collection, collection, collection_params=later)

    def set_about(self, collection: str, about: Mapping[str, Any]) -> None:
        """Change what a collection's metadata says of it."""
        self._update(collection, metadata={METADATA_KEY: dict(about)})

    def _update(self, collection: str, **changed: Any) -> None:
        """Change a collection, which Qdrant does not do by its alias."""
        aliases = self.connection.request(self.connection.client.get_aliases).aliases
        names = {alias.alias_name: alias.collection_name for alias in aliases}
        self.connection.request(
            self.connection.client.update_collection, names.get(collection, collection), **changed
        )
        self.changed()

    def is_foreign(self, table_name: str) -> bool:
        """Whether a table of a like name in another dataset has a table's collection."""
        info = self.describe(self.name(table_name))
        owner = about(info) if info else {}
        return bool(owner) and (owner["dataset"], owner["table"]) != (self.dataset_name, table_name)

    def drop(self, collection: str) -> None:
        """Delete a collection, if there is one."""
        with suppress(QdrantNotFoundError):
            self.connection.request(self.connection.client.delete_collection, collection)
        self.changed(collection)


def vector_params(info: models.CollectionInfo) -> dict[str, models.VectorParams]:
    """The vectors of a collection by name; the unnamed one is called ""."""
    vectors = info.config.params.vectors
    if vectors is None:
        return {}
    return dict(vectors) if isinstance(vectors, dict) else {"": vectors}


def _news(info: models.CollectionInfo, metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    """What else is to be said of a table's collection that needs no other points, if anything."""
    said = about(info)
    if not said:
        return dict(metadata)
    is_own = all(said.get(name) == metadata.get(name) for name in ("dataset", "table"))
    kept = {name: value for name, value in said.items() if name not in _SAID_ANEW}
    news = {**kept, **metadata}
    return news if is_own and news != said else None


def about(info: models.CollectionInfo) -> dict[str, Any]:
    """What this package wrote about a collection when it made it; empty if it did not."""
    return dict((info.config.metadata or {}).get(METADATA_KEY) or {})
