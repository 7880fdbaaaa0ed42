"""Loads that append are written down from their beginning, so that a crash doubles no row.

A row that is appended gets a new id with each extraction, so a run that starts anew cannot tell the
rows of one that died from its own. That is why a load that appends has a record before its first
row and shows signs of life while it works. The next load of the same pipeline takes back what a
dead one appended, and then counts itself as complete.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from dagster_qdrant.destination.dlt_tables import DltTables, LoadRecord, LoadStatus
from dagster_qdrant.errors import QdrantError, QdrantTransientError

logger = logging.getLogger(__name__)

_HEARTBEAT = 1.0  # seconds


class LoadTakenBackError(QdrantTransientError):
    """Another run took this load for dead, and removed what it had appended."""

    def __init__(self, load_id: str, pipeline_name: str) -> None:
        super().__init__(
            f"Load {load_id} of pipeline `{pipeline_name}` gave no sign of life for a while, so "
            "another run of the pipeline took back what it had appended. Run it again. (Without "
            "Dagster, throw the load away before: `dlt pipeline ... abort-packages`.)"
        )


class LoadLease:
    """The right of one load to append, as long as it shows that it is alive.

    Whether another load is alive is told by its heartbeat moving between two looks. No clock is
    compared with another machine's.

    Args:
        load_id: The load.
        pipeline_name: Its pipeline; loads of other pipelines are left alone.
        tables: The tables that it appends to.
        abandoned_after: Seconds of silence after which another load counts as dead.
    """

    def __init__(
        self, load_id: str, pipeline_name: str, tables: list[str], abandoned_after: float
    ) -> None:
        self._load_id = load_id
        self._pipeline_name = pipeline_name
        self._tables = tables
        self._abandoned_after = abandoned_after
        self._guard = threading.Lock()
        self._begun: float | None = None
        self._former: list[LoadRecord] = []
        self._beats = itertools.count(1)
        self._lost = False

    @classmethod
    def of(
        cls, load_id: str, pipeline_name: str, tables: list[str], abandoned_after: float
    ) -> LoadLease | None:
        """The lease of a load, or None if it appends to no table and needs none."""
        return cls(load_id, pipeline_name, tables, abandoned_after) if tables else None

    def _begin(self, dlt_tables: DltTables) -> None:
        """Write the load down before its first row, and see which others are not complete."""
        with self._guard:
            if self._begun is not None:
                return
            record = dlt_tables.load_record(self._load_id)
            self._lost = record is not None and record.status > LoadStatus.RUNNING
            self.refuse_if_lost()
            others = dlt_tables.unfinished_loads(self._pipeline_name)
            self._former = [other for other in others if other.load_id != self._load_id]
            dlt_tables.begin_load(self._load_id, self._pipeline_name, self._tables)
            self._begun = time.monotonic()

    @contextmanager
    def alive(self, dlt_tables: DltTables) -> Iterator[None]:
        """Show signs of life while something is done for the load.

        Raises:
            LoadTakenBackError: If it is resumed after another load took its rows back.
        """
        self._begin(dlt_tables)
        done = threading.Event()

        def beat() -> None:
            while not done.wait(_HEARTBEAT):
                try:
                    dlt_tables.change_load(
                        self._load_id, LoadStatus.RUNNING, heartbeat=next(self._beats)
                    )
                    record = dlt_tables.load_record(self._load_id)
                    self._lost = record is None or record.status is not LoadStatus.RUNNING
                except QdrantError as error:  # what is being done meets it too, and reports it
                    logger.debug("No sign of life of load %s: %s", self._load_id, error)

        thread = threading.Thread(target=beat, name=f"heartbeat-{self._load_id}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def refuse_if_lost(self) -> None:
        """Write no more for a load that another one took for dead.

        Raises:
            LoadTakenBackError: If that happened.
        """
        if self._lost:
            raise LoadTakenBackError(self._load_id, self._pipeline_name)

    def dead_loads(self, dlt_tables: DltTables) -> list[LoadRecord]:
        """The loads that were not complete when this one began, and never will be.

        Waits until each of them has moved, or was silent for long enough.
        """
        dead: list[LoadRecord] = []
        waiting = {record.load_id: record for record in self._former}
        while waiting:
            now = {
                record.load_id: record
                for record in dlt_tables.unfinished_loads(self._pipeline_name)
            }
            silent = time.monotonic() - (self._begun or 0.0) >= self._abandoned_after
            for load_id, before in list(waiting.items()):
                record = now.get(load_id)
                if record is None or record.heartbeat != before.heartbeat:
                    del waiting[load_id]  # complete by now, or alive
                elif record.status is LoadStatus.FAILED or silent:
                    dead.append(record)
                    del waiting[load_id]
            if waiting:
                time.sleep(_HEARTBEAT / 2)
        return dead


# The leases of this process, None for loads that append to no table. dlt makes a new job client for
# each step of a load.
leases: dict[str, LoadLease | None] = {}
