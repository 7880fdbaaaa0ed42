"""Show how far long work is, where somebody looks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dlt.common.configuration.container import Container
from dlt.common.pipeline import PipelineContext
from dlt.common.runtime.collector import NULL_COLLECTOR

from dagster_qdrant.destination.writing.load_counts import LoadCounts

logger = logging.getLogger(__name__)

_INTERVAL = 5.0  # seconds; of work that takes less, nothing is said


class Progress:
    """How far a table is.

    It shows in the display that the pipeline was made with (`dlt.pipeline(progress="log")`) and in
    the log. Where there is neither, a terminal gets a bar.

    Args:
        what: What is loaded, say a table's name.
        total: How many rows there are.
    """

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        context = Container()[PipelineContext]
        self._display = context.pipeline().collector if context.is_active() else NULL_COLLECTOR
        # While files are loaded, dlt goes through the counters in another thread. So theirs are
        # made here, where dlt makes the jobs.
        self._display.update(what, inc=0, total=total, inc_total=total)

    @contextmanager
    def shown(self) -> Iterator[Callable[[LoadCounts], None]]:
        """Show it for the time of a `with` block, which gets a function to report counts to."""
        from tqdm import tqdm

        start = reported = time.monotonic()
        done = 0
        seen_elsewhere = self._display is not NULL_COLLECTOR or logger.isEnabledFor(logging.INFO)
        of_dlt = self._what.lower().startswith("_dlt")  # a row or two
        with tqdm(
            total=self._total,
            desc=self._what,
            unit=" rows",
            delay=_INTERVAL,
            disable=seen_elsewhere or of_dlt or None,  # None: unless it is a terminal
        ) as bar:

            def report(counts: LoadCounts) -> None:
                nonlocal done, reported
                with_text = counts.embedded + counts.reused
                share = 100 * counts.reused / with_text if with_text else 0
                reused = f"{share:.0f} % of the vectors reused"
                bar.set_postfix_str(reused, refresh=False)
                bar.update(counts.rows - done)
                self._display.update(self._what, inc=counts.rows - done, message=reused)
                done = counts.rows
                now = time.monotonic()
                if now - reported < _INTERVAL:
                    return
                reported = now
                rate = counts.rows / (now - start)
                logger.info(
                    "%s: %d of %d rows, %.0f rows/s, %s, %.0f s to go.",
                    self._what,
                    counts.rows,
                    self._total,
                    rate,
                    reused,
                    max(0, self._total - counts.rows) / rate,
                )

            yield report
