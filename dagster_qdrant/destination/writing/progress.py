"""Show the progress of long work, where somebody looks."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dlt.common.configuration.container import Container
from dlt.common.pipeline import PipelineContext
from dlt.common.runtime.collector import NULL_COLLECTOR
from dlt.common.storages.load_package import PackageStorage

from dagster_qdrant.destination.tables.names import is_of_dlt
from dagster_qdrant.destination.writing.load_counts import LoadCounts

logger = logging.getLogger(__name__)

_INTERVAL = 5.0  # seconds; of work that takes less, nothing is said
_RECENT = 60.0  # seconds that the speed is measured over


class _Table:
    """The rows of one table in one load, over all of its files.

    dlt makes a job of a file when its turn comes. Until then nobody has counted its rows; they are
    taken to be as long as those of the files that were counted.

    Args:
        folder: The folder of the files that wait for their turn, if there are any.
        name: The table.
    """

    def __init__(self, folder: Path | None, name: str) -> None:
        self._folder = folder
        self._name = name
        self._guard = threading.Lock()
        self._rows: dict[str, int] = {}
        self._bytes: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._recent: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def add(self, file: str, size: int, rows: int) -> None:
        """Take in a file; one that is retried begins anew."""
        with self._guard:
            self._rows[file], self._bytes[file], self._done[file] = rows, size, 0

    def advance(self, file: str, rows: int) -> None:
        """Note how many rows of a file are done."""
        with self._guard:
            self._done[file] = rows

    def progress(self) -> tuple[int, int, float]:
        """Rows done, rows in all, and rows a second of late."""
        with self._guard:
            now, done = time.monotonic(), sum(self._done.values())
            self._recent.append((now, done))
            while len(self._recent) > 2 and self._recent[1][0] < now - _RECENT:
                self._recent.popleft()
            before, done_before = self._recent[0]
            rate = max(0, done - done_before) / max(now - before, 1e-9)
            return done, sum(self._rows.values()) + self._waiting(), rate

    def _waiting(self) -> int:
        rows, size = sum(self._rows.values()), sum(self._bytes.values())
        waiting = 0
        for file in self._folder.glob(f"{self._name}.*") if self._folder else ():
            if file.name not in self._rows:
                try:
                    waiting += file.stat().st_size
                except FileNotFoundError:  # its turn came just now
                    continue
        return round(waiting * rows / size) if size else 0


class _Tables:
    """The tables of the latest loads of this process."""

    _KEPT = 100

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._tables: dict[tuple[Path, str], _Table] = {}

    def of(self, package: Path, name: str) -> _Table:
        with self._guard:
            while len(self._tables) >= self._KEPT and (package, name) not in self._tables:
                self._tables.pop(next(iter(self._tables)))
            folder = package / PackageStorage.NEW_JOBS_FOLDER
            return self._tables.setdefault((package, name), _Table(folder, name))


_tables = _Tables()


class Progress:
    """The progress of rows: those of a file of a table, or others.

    It shows in the display that the pipeline was made with (`dlt.pipeline(progress="log")`) and in
    the log, whose lines are about all files of the table. Where there is neither, a terminal gets a
    bar.

    Args:
        what: What is loaded, say a table's name.
        total: How many rows there are.
        file: The file that they are in, in dlt's package of the load.
    """

    def __init__(self, what: str, total: int, file: Path | None = None) -> None:
        self._what = what
        self._total = total
        self._file = file.name if file else ""
        self._table = _tables.of(file.parents[1], what) if file else _Table(None, what)
        self._table.add(self._file, file.stat().st_size if file else 0, total)
        context = Container()[PipelineContext]
        self._display = context.pipeline().collector if context.is_active() else NULL_COLLECTOR
        # While files are loaded, dlt goes through the counters in another thread. So theirs are
        # made here, where dlt makes the jobs.
        self._display.update(what, inc=0, total=total, inc_total=total)

    @contextmanager
    def shown(self) -> Iterator[Callable[[LoadCounts], None]]:
        """Show it for the time of a `with` block, which gets a function to report counts to."""
        from tqdm import tqdm

        reported = time.monotonic()
        done = 0
        seen_elsewhere = self._display is not NULL_COLLECTOR or logger.isEnabledFor(logging.INFO)
        of_dlt = is_of_dlt(self._what)  # a row or two
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
                self._table.advance(self._file, done)
                now = time.monotonic()
                if now - reported < _INTERVAL:
                    return
                reported = now
                self._log(reused)

            yield report

    def _log(self, reused: str) -> None:
        done, total, rate = self._table.progress()
        left = f"{_duration((total - done) / rate)} to go" if rate else "waiting"
        logger.info(
            "%s: %s of %s rows, %.0f rows/s, %s, %s.",
            self._what,
            f"{done:,}",
            f"{total:,}",
            rate,
            reused,
            left,
        )


def _duration(seconds: float) -> str:
    """A time that is left, as roughly as it is known.

    Example:
        >>> _duration(420.0)
        '7 min'
    """
    if seconds < 100:
        return f"{max(0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
