"""This package's log among the events of a Dagster run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Union

from dagster import AssetExecutionContext, OpExecutionContext

Context = Union[AssetExecutionContext, OpExecutionContext]


class _DagsterLogHandler(logging.Handler):
    """Shows this package's log, waits and retries above all, among the events of the run."""

    def __init__(self, context: Context) -> None:
        super().__init__(logging.INFO)
        self._log = context.log
        self.partition: str | None = None  # the one at work, in a run over several
        self.part: str | None = None  # the one that a step loads, "2 of 4"
        self._managed = tuple(context.instance.managed_python_loggers)

    def filter(self, record: logging.LogRecord) -> bool:
        """Leave out what Dagster shows itself: the loggers that an instance manages."""
        return not any(
            name == "root" or f"{record.name}.".startswith(f"{name}.") for name in self._managed
        )

    def emit(self, record: logging.LogRecord) -> None:
        of_partition = "" if self.partition is None else f"Partition `{self.partition}`: "
        of_part = "" if self.part is None else f"Part {self.part}: "
        self._log.log(record.levelno, f"{of_partition}{of_part}{record.getMessage()}")


class _LogLevel:
    """Keeps this package's logger at INFO while any run of the process shows its log."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._runs = 0
        self._before = logging.NOTSET

    @contextmanager
    def lowered(self, logger: logging.Logger) -> Iterator[None]:
        with self._guard:
            if self._runs == 0:
                self._before = logger.level
                logger.setLevel(logging.INFO)
            self._runs += 1
        try:
            yield
        finally:
            with self._guard:
                self._runs -= 1
                if self._runs == 0:
                    logger.setLevel(self._before)


_log_level = _LogLevel()


@contextmanager
def logs_shown(context: Context) -> Iterator[_DagsterLogHandler]:
    """Show the log among the run's events for the time of a `with` block."""
    logger = logging.getLogger("dagster_qdrant")
    handler = _DagsterLogHandler(context)
    logger.addHandler(handler)
    try:
        with _log_level.lowered(logger):
            yield handler
    finally:
        logger.removeHandler(handler)
