"""A load that several steps of a run share, each in a process of its own, perhaps elsewhere.

One step begins the load: it writes it down, waits for its turn and makes the collections. Others
load a part of its rows each. The last one ends it. Each has a dlt package of its own, under the
same id, whose state says which of these it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import Enum

from dlt.common.storages.exceptions import CurrentLoadPackageStateNotAvailable
from dlt.common.storages.load_package import commit_load_package_state, destination_state

from dagster_qdrant.destination.writing.loaded_ids import IdSet

_SHARE = "qdrant_share"


@dataclass(frozen=True)
class Share:
    """What a process does of a load.

    Args:
        owner: Whose load it is: a name that those who know it can tell more of.
        begun: Whether the load is begun already, and the process joins in.
        part: The number of the part that it loads; None: it begins the load, or ends it.
    """

    owner: str
    begun: bool = False
    part: int | None = None


def share_of_load() -> Share | None:
    """The share of this process in the load under way; None if it has all of it."""
    try:
        written = destination_state().get(_SHARE)
    except CurrentLoadPackageStateNotAvailable:  # nothing is loaded at the moment
        return None
    return Share(**written) if written else None


def set_share(share: Share) -> None:
    """Write a share into the package of the load under way."""
    destination_state()[_SHARE] = asdict(share)
    commit_load_package_state()


class OwnerState(Enum):
    """What is known of the owner of a load."""

    ALIVE = "alive"  # its steps may wait in a queue
    ENDING = "ending"  # it was told to stop
    OVER = "over"


OwnerTeller = Callable[[str], "OwnerState | None"]

# Those who know owners. Loads wait for one another in threads of dlt's.
_tellers: list[OwnerTeller] = []


@contextmanager
def owners_known(tell: OwnerTeller) -> Iterator[None]:
    """Let loads of this process know of owners, for the time of a `with` block.

    Args:
        tell: Tells what is known of an owner by its name; None if it does not know it.
    """
    _tellers.append(tell)
    try:
        yield
    finally:
        _tellers.remove(tell)


def state_of_owner(owner: str) -> OwnerState | None:
    """What is known of an owner; None if nobody here knows it."""
    states = (tell(owner) for tell in tuple(_tellers))
    return next((state for state in states if state is not None), None)


@dataclass(frozen=True)
class PartRows:
    """What has to be known of the rows of a part when the load ends.

    Args:
        ids: The ids of their points, by table, where it matters which rows the load brought.
        row_ids: The ids that dlt gave them, by table, where nested rows hang on them.
        failed: The tables of which a file could not be loaded, and that dlt was told to pass over.
    """

    ids: dict[str, IdSet] = field(default_factory=dict)
    row_ids: dict[str, list[str]] = field(default_factory=dict)
    failed: frozenset[str] = frozenset()


class _PartsOfLoads:
    """The rows of parts by load, until somebody takes them."""

    def __init__(self) -> None:
        self._rows: dict[str, list[PartRows]] = {}

    def add(self, load_id: str, rows: PartRows) -> None:
        self._rows.setdefault(load_id, []).append(rows)

    def of(self, load_id: str) -> list[PartRows]:
        return list(self._rows.get(load_id, ()))

    def take(self, load_id: str) -> list[PartRows]:
        return self._rows.pop(load_id, [])


part_rows = _PartsOfLoads()
