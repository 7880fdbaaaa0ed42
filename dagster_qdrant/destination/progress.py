"""Say how far long work is."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from dagster_qdrant.destination.load_counts import LoadCounts

logger = logging.getLogger(__name__)

_INTERVAL = 5.0  # seconds


class Progress:
    """Says every few seconds how far a table is; nothing of one that takes less.

    Args:
        what: What is loaded, say a table's name.
        count_rows: Counts all rows that there are; called when the number is first wanted.
    """

    def __init__(self, what: str, count_rows: Callable[[], int]) -> None:
        self._what = what
        self._count_rows = count_rows
        self._start = self._reported = time.monotonic()
        self._total: int | None = None

    def report(self, counts: LoadCounts) -> None:
        """Say how far it is, if the last time was long enough ago."""
        now = time.monotonic()
        if now - self._reported < _INTERVAL:
            return
        self._reported = now
        if self._total is None:
            self._total = self._count_rows()
        rate = counts.rows / (now - self._start)
        with_text = counts.embedded + counts.reused
        logger.info(
            "%s: %d of %d rows, %.0f rows/s, %.0f %% of the vectors reused, %.0f s to go.",
            self._what,
            counts.rows,
            self._total,
            rate,
            100 * counts.reused / with_text if with_text else 0,
            max(0, self._total - counts.rows) / rate,
        )
