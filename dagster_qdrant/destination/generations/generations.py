"""Collections that are built beside the one that is read, and take its place when complete.

The name that readers use is then an alias, and what it stands for has a number: `films` leads to
`films@1`, later to `films@2`. Aliases that somebody else gave to the former collection lead to the
new one too. All aliases of a load change in one request. A collection that was made under its plain
name has to go before an alias can have that name, so the first change leaves a moment in which
there is neither; a load that dies in it is made up for by the next one.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dagster_qdrant.qdrant.collections import METADATA_KEY, Collections, about

if TYPE_CHECKING:
    from qdrant_client import models

logger = logging.getLogger(__name__)

# In a collection's metadata: whether it may take its place, and which other names lead there then.
_COMPLETE = "complete"
_OTHER_NAMES = "aliases"


class Generations:
    """The collections that stood, stand or will stand behind names.

    Args:
        collections: The dataset's collections.
    """

    def __init__(self, collections: Collections) -> None:
        self._collections = collections
        self._client = collections.connection.client
        self._request = collections.connection.request

    def next(self, name: str) -> str:
        """The collection to build, the same one until it takes its place.

        Args:
            name: The name that readers use.
        """
        return f"{name}@{_number(name, self._aliases().get(name, name)) + 1}"

    def leads_to(self, name: str, collection: str) -> bool:
        """Whether a name leads to a collection."""
        return self._aliases().get(name) == collection

    def is_alias(self, name: str) -> bool:
        """Whether a name leads to a collection of another name."""
        return name in self._aliases()

    def is_to_be_recovered(self, name: str) -> bool:
        """Whether a name leads nowhere because a load died while it changed that."""
        return bool(self._complete(name))

    def recover(self, name: str) -> bool:
        """Finish a change that a load died in, if a name leads nowhere because of it.

        Returns:
            Whether the name leads somewhere now.
        """
        complete = self._complete(name)
        if complete:
            newest = max(complete, key=lambda other: _number(name, other))
            there = self._aliases()
            lost = [
                alias for alias in self._about(newest).get(_OTHER_NAMES, []) if alias not in there
            ]
            self._request(
                self._client.update_collection_aliases,
                change_aliases_operations=[_lead(each, newest) for each in (name, *lost)],
            )
            self._collections.changed()
            logger.warning(
                "Alias `%s` points to `%s` now. A load died before it switched it.", name, newest
            )
        return bool(complete)

    def switch(self, targets: Mapping[str, str], keep_former: bool) -> None:
        """Let names lead to the collections that were built for them. May be done again.

        Args:
            targets: The collections by the names that readers use.
            keep_former: Whether to keep the collections that the names led to until now.
        """
        aliases = self._aliases()
        operations: list[models.AliasOperations] = []
        for name, target in targets.items():
            former = aliases.get(name, name)
            if former == target:
                continue
            others = [
                alias
                for alias, collection in aliases.items()
                if collection == former and alias != name
            ]
            if name in aliases:
                operations += map(_unlead, (name, *others))
            elif self._collections.exists(name):
                about = {**self._about(target), _COMPLETE: True, _OTHER_NAMES: others}
                metadata = {METADATA_KEY: about}
                self._request(self._client.update_collection, target, metadata=metadata)
                self._request(self._client.delete_collection, name)
            operations += (_lead(each, target) for each in (name, *others))
        if operations:
            self._request(
                self._client.update_collection_aliases, change_aliases_operations=operations
            )
        self._remove_former(targets, keep_former)
        self._collections.changed()

    def _remove_former(self, targets: Mapping[str, str], keep_former: bool) -> None:
        """Delete the collections that were replaced, but for those that somebody gave a name."""
        named = set(self._aliases().values())
        for name, target in targets.items():
            newest = _number(name, target)
            oldest = newest - 1 if keep_former else newest
            for other in self._all(name):
                if _number(name, other) < oldest and other not in named:
                    self._request(self._client.delete_collection, other)

    def kept(self, names: Iterable[str]) -> list[str]:
        """The collections that stood behind names before, and are still there."""
        aliases = self._aliases()
        return [
            other
            for name in names
            if name in aliases
            for other in self._all(name)
            if _number(name, other) < _number(name, aliases[name])
        ]

    def drop(self, name: str) -> None:
        """Delete what a name leads to, what it led to before, and what is being built."""
        if name in self._aliases():
            gone = [_unlead(name)]
            self._request(self._client.update_collection_aliases, change_aliases_operations=gone)
        for other in self._all(name):
            self._request(self._client.delete_collection, other)
        self._collections.changed()

    def _aliases(self) -> dict[str, str]:
        response = self._request(self._client.get_aliases)
        return {alias.alias_name: alias.collection_name for alias in response.aliases}

    def _all(self, name: str) -> list[str]:
        response = self._request(self._client.get_collections)
        return [entry.name for entry in response.collections if _number(name, entry.name)]

    def _complete(self, name: str) -> list[str]:
        return [other for other in self._all(name) if self._about(other).get(_COMPLETE)]

    def _about(self, collection: str) -> dict[str, Any]:
        info = self._collections.describe(collection)
        return about(info) if info else {}


def _lead(name: str, target: str) -> models.CreateAliasOperation:
    from qdrant_client import models

    return models.CreateAliasOperation(
        create_alias=models.CreateAlias(alias_name=name, collection_name=target)
    )


def _unlead(name: str) -> models.DeleteAliasOperation:
    from qdrant_client import models

    return models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=name))


def _number(name: str, collection: str) -> int:
    """Which generation of a name a collection is; 0 if it is none."""
    match = re.fullmatch(rf"{re.escape(name)}@(\d+)", collection)
    return int(match[1]) if match else 0
