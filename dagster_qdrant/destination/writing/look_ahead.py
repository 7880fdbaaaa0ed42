"""Windows of rows, each with what is there of its points, which is asked for ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from dagster_qdrant.destination.tables.rows import Row

# How many windows are looked up while another one is worked on: a server may be far away.
_AHEAD = 3


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
    """

    def __init__(
        self,
        windows: Iterator[Arrived],
        look_up: Callable[[Collection[str]], dict[str, Mapping[str, Any]]],
    ) -> None:
        self._windows = windows
        self._look_up = look_up
        self._waiting: deque[Arrived] = deque()
        self._pool = ThreadPoolExecutor(_AHEAD, thread_name_prefix="look-up")

    def __enter__(self) -> LookAhead:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def take(self, *unsettled: Collection[str]) -> Arrived | None:
        """The next window, or None if there is none.

        A window that has points in common with one before it is looked up when it is its turn.

        Args:
            unsettled: The ids of points that are yet to be written for windows taken before.
        """
        while len(self._waiting) <= _AHEAD and (arrived := next(self._windows, None)):
            others = (*unsettled, *(each.point_ids for each in self._waiting))
            if all(map(arrived.point_ids.isdisjoint, others)):
                arrived.existing = self._pool.submit(self._look_up, arrived.point_ids)
            self._waiting.append(arrived)
        return self._waiting.popleft() if self._waiting else None

    def existing(self, arrived: Arrived) -> Mapping[str, Mapping[str, Any]]:
        """What is there of the points of a window whose turn it is."""
        return arrived.existing.result() if arrived.existing else self._look_up(arrived.point_ids)
