"""Windows of rows, each with what is there of its points, which is asked for ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

from dagster_qdrant.destination.tables.rows import Row

# How many windows are looked up while another one is worked on: a server may be far away.
AHEAD = 3


@dataclass
class Arrived:
    """A window that has arrived.

    Args:
        rows: Its rows.
        point_ids: The ids of their points.
        brought: Those of them that rows of the load had before.
        existing: What is there of these points, if it is looked up already.
    """

    rows: list[Row]
    point_ids: set[str]
    brought: set[str]
    existing: Future[dict[str, Mapping[str, Any]]] | None = None


class LookAhead:
    """Takes in windows, and looks up some before their turn.

    Args:
        windows: The windows, in their order.
        look_up: Gives the payloads of some points, by their ids, as far as there are any.
        pool: Where look-ups run, `AHEAD` at a time.
    """

    def __init__(
        self,
        windows: Iterator[Arrived],
        look_up: Callable[[Collection[str]], dict[str, Mapping[str, Any]]],
        pool: Executor,
    ) -> None:
        self._windows = windows
        self._look_up = look_up
        self._waiting: deque[Arrived] = deque()
        self._pool = pool

    def take(self, *unsettled: Collection[str]) -> Arrived | None:
        """The next window, or None if there is none.

        A window that has points in common with one before it is looked up when it is its turn.

        Args:
            unsettled: The ids of points that are yet to be written for windows taken before.
        """
        while len(self._waiting) <= AHEAD and (arrived := next(self._windows, None)):
            others = (*unsettled, *(each.point_ids for each in self._waiting))
            if all(map(arrived.point_ids.isdisjoint, others)):
                arrived.existing = self._pool.submit(self._look_up, arrived.point_ids)
            self._waiting.append(arrived)
        return self._waiting.popleft() if self._waiting else None

    def existing(self, arrived: Arrived) -> Mapping[str, Mapping[str, Any]]:
        """What is there of the points of a window whose turn it is."""
        return arrived.existing.result() if arrived.existing else self._look_up(arrived.point_ids)
