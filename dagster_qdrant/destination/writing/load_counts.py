"""What a load did, counted by table, for whoever reports it."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass
class LoadCounts:
    """What a load did to one table.

    Args:
        rows: Rows read.
        embedded: Rows whose vector was made by this load.
        texts: Texts that went through the model; rows with the same text share one.
        tokens: Tokens of these texts, without those beyond the model's limit.
        reused: Rows with text whose vector was there already.
        written: Points written with their vector.
        payload_only: Points whose payload changed and whose vector stayed.
        unchanged: Points that stayed as they were.
        deleted: Rows that asked for their point to be deleted.
        outdated: Points removed because the load outdates them.
        points: Points that bear the load's id; at least so many when a file was tried twice.
        seconds_embedding: Time in the model.
        seconds_writing: Time in requests that write.
    """

    rows: int = 0
    embedded: int = 0
    texts: int = 0
    tokens: int = 0
    reused: int = 0
    written: int = 0
    payload_only: int = 0
    unchanged: int = 0
    deleted: int = 0
    outdated: int = 0
    points: int = 0
    seconds_embedding: float = 0.0
    seconds_writing: float = 0.0

    @property
    def changed(self) -> int:
        """How many points are not what they were before the load."""
        return self.written + self.payload_only + self.deleted + self.outdated

    @property
    def rows_per_second(self) -> float:
        """Rows embedded in a second of embedding; 0 if none were."""
        return self._per_second(self.embedded)

    @property
    def tokens_per_second(self) -> float:
        """Tokens embedded in a second of embedding; 0 if none were."""
        return self._per_second(self.tokens)

    def _per_second(self, count: int) -> float:
        return count / self.seconds_embedding if self.seconds_embedding else 0.0

    def add(self, other: LoadCounts) -> None:
        """Add the counts of another file of the same table."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)


class _LoadReports:
    """Counts of the loads of this process, by load and table, until somebody takes them."""

    _KEPT_LOADS = 100

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._counts: dict[str, dict[str, LoadCounts]] = {}

    def add(self, load_id: str, table_name: str, counts: LoadCounts) -> None:
        with self._guard:
            while len(self._counts) >= self._KEPT_LOADS and load_id not in self._counts:
                self._counts.pop(next(iter(self._counts)))
            tables = self._counts.setdefault(load_id, defaultdict(LoadCounts))
            tables[table_name].add(counts)

    def take(self, load_id: str) -> Mapping[str, LoadCounts]:
        with self._guard:
            return self._counts.pop(load_id, {})


load_reports = _LoadReports()
