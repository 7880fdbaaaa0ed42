"""Collections that are described once, however many steps of one piece of work ask."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from dagster_qdrant.qdrant.collections import Collections

if TYPE_CHECKING:
    from qdrant_client import models


class KnownCollections(Collections):
    """The collections of a dataset, each asked about once until it is changed here.

    For work that takes a moment: what others change meanwhile is not seen.

    Args:
        collections: The dataset's collections.

    Example:
        >>> known = KnownCollections(collections)
        >>> known.exists("movies"), known.describe("movies").points_count  # one request
        (True, 5000)
    """

    def __init__(self, collections: Collections) -> None:
        super().__init__(collections.connection, collections.dataset_name, collections.separator)
        self._infos: dict[str, models.CollectionInfo | None] = (
            collections._infos if isinstance(collections, KnownCollections) else {}
        )

    def describe(self, collection: str) -> models.CollectionInfo | None:
        """What Qdrant says of a collection, or None if there is none."""
        try:  # in one step: another thread may forget it
            return self._infos[collection]
        except KeyError:
            info = self._infos[collection] = super().describe(collection)
            return info

    def look_up(self, collections: Iterable[str]) -> None:
        """Ask about some collections ahead, several at a time: a server may be far away."""
        self.connection.at_once(partial(self.describe, collection) for collection in collections)

    def exists(self, collection: str) -> bool:
        """Whether there is such a collection."""
        return self.describe(collection) is not None

    def changed(self, collection: str | None = None) -> None:
        """Forget what was said of a collection, or of all, since a name may lead elsewhere."""
        if collection is None:
            self._infos.clear()
        else:
            self._infos.pop(collection, None)
