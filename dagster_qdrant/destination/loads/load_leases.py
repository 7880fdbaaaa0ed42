"""Loads are written down from their beginning, so that others know what is under way and what died.

Each load has a record before its first row, with what it claims, and shows signs of life while it
works. Loads whose claims conflict wait for one another. A row that is appended gets a new id with
each extraction, so a run that starts anew cannot tell the rows of one that died from its own: the
next load of the same pipeline takes back what a dead one appended, and then counts itself as
complete.

Whether another load is alive is told by its heartbeat moving between two looks. No clock is
compared with another machine's. A load that several steps of a run share is silent while these wait
in a queue, so whether it is alive is told by its owner, the run.
"""

from __future__ import annotations

import itertools
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress

from dagster_qdrant.destination.loads.dead_loads import (
    PAUSED,
    about_owner,
    give_up,
    is_dead,
    take_back,
)
from dagster_qdrant.destination.loads.dlt_tables import DltTables
from dagster_qdrant.destination.loads.load_claims import Claim, in_line, is_behind
from dagster_qdrant.destination.loads.load_record import LoadRecord, LoadStatus
from dagster_qdrant.destination.loads.schema_table import KeptSchema
from dagster_qdrant.destination.loads.shared_load import OwnerState, Share, state_of_owner
from dagster_qdrant.errors import (
    QdrantError,
    QdrantNotFoundError,
    QdrantTerminalError,
    QdrantTransientError,
)
from dagster_qdrant.qdrant.collections import Collections
from dagster_qdrant.qdrant.connection import Connection
from dagster_qdrant.stopping import is_stopping, last_words, pause

logger = logging.getLogger(__name__)

_HEARTBEAT = 1.0  # seconds, at most
_REPORT_INTERVAL = 5.0
# Seconds for which a load is waited for whose run goes on, and whose steps are silent: they wait in
# a queue, and who waits for them may be in their way there.
_QUEUED = 900.0


class LoadTakenBackError(QdrantTransientError):
    """Another run declared this load dead, and what it wrote is not safe."""

    def __init__(self, load_id: str, pipeline_name: str) -> None:
        super().__init__(
            f"Load {load_id} of pipeline `{pipeline_name}` stalled. Another run declared it dead, "
            "and may have removed what it wrote. Run it again. (Without Dagster, drop the load "
            "first: `dlt pipeline ... abort-packages`.)"
        )


class LoadOverError(QdrantTerminalError):
    """A step is to go on with a load that is over."""

    def __init__(self, load_id: str, why: str) -> None:
        super().__init__(
            f"Load {load_id}, to which this step belongs, {why}. It cannot continue. Materialize "
            "the assets again, from their first step. Texts that are embedded already are not "
            "embedded again."
        )


class LoadLease:
    """The right of one load to write, as long as it shows that it is alive.

    Args:
        load: The load as it is to be written down.
        abandoned_after: Seconds of silence after which another load counts as dead.
        connect: Opens a connection that the load keeps, whoever else comes and goes: on a local
            path, no other process gets in between two files of it and finds it silent.
        is_new: Whether the load has written no row yet. Then it does not matter what was written
            down of it before.
        share: What this process does of the load, if it does not do all of it.
    """

    def __init__(
        self,
        load: LoadRecord,
        abandoned_after: float,
        connect: Callable[[], AbstractContextManager[Connection]],
        *,
        is_new: bool = False,
        share: Share | None = None,
    ) -> None:
        self._share = share
        self._load = load
        self._is_new = is_new
        self._load_id = load.load_id
        self._claims = load.claims
        self._abandoned_after = abandoned_after
        self._interval = min(_HEARTBEAT, abandoned_after / 4)
        self._connect = connect
        self._kept = ExitStack()
        self._is_kept = False
        self._guard = threading.Lock()
        self._begun: float | None = None
        self._is_granted = False
        self.had_to_wait = False
        # The schema that was stored last, if nobody can have stored another one since.
        self.stored_schema: KeptSchema | None = None
        self.is_complete = False  # which dlt need not have noticed when it died
        self._former: list[LoadRecord] = []
        # Those of several processes are not to look like one that stands still.
        self._beats = itertools.count(1 + (secrets.randbelow(1 << 40) if share else 0))
        self._lost = False
        self._looked_up: dict[str, bool] = {}  # whether other loads are complete

    @property
    def is_joined(self) -> bool:
        """Whether another process began the load, and perhaps others load parts of it."""
        return self._share is not None and self._share.begun

    @contextmanager
    def alive(self, dlt_tables: DltTables) -> Iterator[None]:
        """Show signs of life while something is done for the load, once it is its turn.

        Raises:
            LoadTakenBackError: If it is resumed after another load took it for dead.
            QdrantStoppedError: If told to stop.
        """
        try:
            with self._guard:
                if not self._is_kept:
                    self._kept.enter_context(self._connect())
                    self._is_kept = True
                if self._begun is None:
                    self._begin(dlt_tables)
            with self._beating(dlt_tables):
                with self._guard:
                    if not self._is_granted:
                        self._former = self._others(dlt_tables)
                        self._wait_for_turn(self._claims, self._former, dlt_tables)
                        self._is_granted = True
                yield
        except BaseException:
            if is_stopping():
                self._pause(dlt_tables)
            self.release()
            raise

    def _pause(self, dlt_tables: DltTables) -> None:
        """Say that nobody is at work for the load any more, so that others need not find out."""
        if self._begun is None or self.is_complete or dlt_tables.has_left_writes:
            return
        if self._share and state_of_owner(self._share.owner) is not OwnerState.ENDING:
            return  # other steps may be at work, and this one may be tried again
        with last_words():
            try:
                dlt_tables.loads.change(self._load_id, LoadStatus.RUNNING, heartbeat=PAUSED)
            except QdrantError as error:
                logger.warning("Other loads may wait for load %s. %s", self._load_id, error)

    def release(self) -> None:
        """Close the connection that the load keeps; it is complete, or will go on later if ever."""
        with self._guard:
            self._is_kept = False
            self._kept.close()

    def claim(self, claim: Claim, dlt_tables: DltTables) -> None:
        """Have something more for the load, which is shown to be alive; waits until it is free."""
        self._claims = (*self._claims, claim)
        dlt_tables.loads.claim(self._load_id, self._claims)
        self._wait_for_turn((claim,), self._others(dlt_tables), dlt_tables)

    def _begin(self, dlt_tables: DltTables) -> None:
        """Write the load down, with its claims, before others are looked at."""
        if self._share and self._share.begun:
            self._join(self._share, dlt_tables)
            return
        record = None if self._is_new else dlt_tables.loads.record(self._load_id)
        if record is not None and record.status > LoadStatus.RUNNING:
            raise self._taken_back()
        self.is_complete = record is not None and record.status is LoadStatus.COMPLETE
        self._is_granted = self.is_complete
        if not self.is_complete:
            dlt_tables.loads.begin(self._load)
        self._begun = time.monotonic()

    def _join(self, share: Share, dlt_tables: DltTables) -> None:
        """Join a load that another process began."""
        record = None
        with suppress(QdrantNotFoundError):
            record = dlt_tables.loads.record(self._load_id)
        if record is None:
            raise LoadOverError(
                self._load_id,
                "is not known to this process's Qdrant. Its dataset was deleted, or it is a "
                "`:memory:`, which serves one process alone; take a `path` or a server, or the "
                "in-process executor",
            )
        if record.status > LoadStatus.RUNNING:
            raise LoadOverError(self._load_id, "was given up, and another load has taken its turn")
        self.is_complete = record.status is LoadStatus.COMPLETE
        if self.is_complete and share.part is not None:
            raise LoadOverError(self._load_id, "is complete")
        self._load, self._claims = record, record.claims
        is_left = record.owner != share.owner or record.heartbeat == PAUSED
        if is_left and not self.is_complete:  # a run goes on with what another one left
            begun = {"owner": share.owner, "heartbeat": next(self._beats)}
            dlt_tables.loads.change(self._load_id, LoadStatus.RUNNING, **begun)
        if share.part is None:
            self._former = self._others(dlt_tables)
        self._is_granted = True
        self._begun = time.monotonic()

    @contextmanager
    def _beating(self, dlt_tables: DltTables) -> Iterator[None]:
        done = threading.Event()

        def keep_beating() -> None:
            with last_words():
                while not done.wait(self._interval):
                    self._beat(dlt_tables)

        name = f"heartbeat-{self._load_id}"
        thread = threading.Thread(target=keep_beating, name=name, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _beat(self, dlt_tables: DltTables) -> None:
        """Send a heartbeat, and see whether another load has seen none for too long."""
        try:
            dlt_tables.loads.change(self._load_id, LoadStatus.RUNNING, heartbeat=next(self._beats))
            record = dlt_tables.loads.record(self._load_id)
            self._lost = record is None or record.status > LoadStatus.RUNNING
        except QdrantError as error:  # what is being done meets it too, and reports it
            logger.debug("The heartbeat of load %s failed: %s", self._load_id, error)

    def _wait_for_turn(
        self, claims: tuple[Claim, ...], others: list[LoadRecord], dlt_tables: DltTables
    ) -> None:
        """Wait until no other load that comes first claims the same. The silent ones are dead.

        Args:
            claims: What is waited for, written down already.
            others: The loads that were there afterwards.
            dlt_tables: dlt's tables.
        """
        running = [other for other in others if other.status is LoadStatus.RUNNING]
        tickets = in_line(claims, [claim for other in running for claim in other.claims])
        if tickets == claims:
            return
        self.had_to_wait = True
        held = tuple(claim for claim in self._claims if claim not in claims)
        self._claims = held + tickets
        dlt_tables.loads.claim(self._load_id, self._claims)
        heartbeats: dict[str, tuple[int, float]] = {}
        reported = 0.0
        while first := [
            other
            for other in self._others(dlt_tables)
            if other.status is LoadStatus.RUNNING
            and is_behind(tickets, self._load_id, other.claims, other.load_id)
        ]:
            self.refuse_if_lost()
            now = time.monotonic()
            for other in first:
                heartbeat, since = heartbeats.get(other.load_id, (None, now))
                if heartbeat != other.heartbeat:
                    since = now
                    heartbeats[other.load_id] = (other.heartbeat, now)
                if self._is_dead(other, now - since):
                    logger.warning(
                        "Load %s has no heartbeat. It is declared dead and no longer waited for.",
                        other.load_id,
                    )
                    give_up(other, dlt_tables)
                elif other.owner and now - since >= _QUEUED:
                    raise _queued(other)
            if now - reported >= _REPORT_INTERVAL:
                reported = now
                _report_wait(first[0], tickets)
            pause(self._interval / 2)

    def _is_dead(self, other: LoadRecord, silence: float) -> bool:
        own = self._load.owner
        return is_dead(other, silence, abandoned_after=self._abandoned_after, own=own)

    def _others(self, dlt_tables: DltTables) -> list[LoadRecord]:
        unfinished = dlt_tables.loads.unfinished()
        return [other for other in unfinished if other.load_id != self._load_id]

    def refuse_if_lost(self) -> None:
        """Write no more for a load that another one took for dead.

        Raises:
            LoadTakenBackError: If that happened.
        """
        if self._lost:
            raise self._taken_back()

    def _taken_back(self) -> LoadTakenBackError:
        return LoadTakenBackError(self._load_id, self._load.pipeline_name)

    def incomplete(self, load_ids: Set[str], dlt_tables: DltTables) -> Set[str]:
        """Which of some loads are not complete; each is looked up once."""
        if unknown := load_ids - self._looked_up.keys():
            completed = dlt_tables.loads.completed(unknown)
            self._looked_up |= {load_id: load_id in completed for load_id in unknown}
        return {load_id for load_id in load_ids if not self._looked_up[load_id]}

    def complete(self, dlt_tables: DltTables, removed: Mapping[str, int] | None = None) -> None:
        """Write down that the load is complete; with this its rows count.

        Args:
            dlt_tables: dlt's tables.
            removed: How many rows it removed, by table, if it did nothing else.

        Raises:
            LoadTakenBackError: If another load has taken it for dead.
        """
        if not dlt_tables.loads.complete(self._load_id, removed):
            raise self._taken_back()

    def take_back_dead_loads(self, dlt_tables: DltTables, collections: Collections) -> None:
        """Remove what loads of the pipeline appended that were not complete when this one began.

        Waits until each of them has moved, or was silent for long enough.
        """
        waiting = {
            record.load_id: record
            for record in self._former
            if record.tables and record.pipeline_name == self._load.pipeline_name
        }
        while waiting:
            now = {other.load_id: other for other in self._others(dlt_tables)}
            watched = time.monotonic() - (self._begun or 0.0)
            for load_id, before in list(waiting.items()):
                record = now.get(load_id)
                if record is None:
                    del waiting[load_id]  # complete by now
                elif record.status is LoadStatus.FAILED or self._is_dead(
                    record, watched if record.heartbeat == before.heartbeat else 0.0
                ):
                    take_back(record, dlt_tables, collections)
                    del waiting[load_id]
                elif record.owner or record.heartbeat != before.heartbeat:
                    del waiting[load_id]  # alive
            if waiting:
                pause(self._interval / 2)


def _report_wait(other: LoadRecord, claims: tuple[Claim, ...]) -> None:
    claimed = {
        theirs.name for theirs in other.claims for mine in claims if mine.conflicts_with(theirs)
    }
    logger.warning(
        "Waiting for load %s of pipeline `%s`%s, which writes to %s too.",
        other.load_id,
        other.pipeline_name,
        f" ({about_owner(other)})" if other.owner else "",
        ", ".join(f"`{name}`" for name in sorted(claimed)),
    )


def _queued(other: LoadRecord) -> QdrantTransientError:
    return QdrantTransientError(
        f"Load {other.load_id} of pipeline `{other.pipeline_name}` comes first, and has been "
        f"silent for {_QUEUED / 60:.0f} minutes ({about_owner(other)}). Its steps may be in a "
        "queue, waiting for the place that this step takes. So this load stops waiting. Run it "
        "again when that load is complete."
    )


# The leases of this process. dlt makes a new job client for each step of a load.
_leases: dict[str, LoadLease] = {}


def lease_of(load_id: str) -> LoadLease | None:
    """The lease of a load in this process; None if there is none yet."""
    return _leases.get(load_id)


def keep_lease(load_id: str, lease: LoadLease) -> LoadLease:
    """Keep the lease of a load until the load ends."""
    return _leases.setdefault(load_id, lease)


def end_lease(load_id: str) -> None:
    """Let a lease go; its load is complete, or will never be."""
    if (lease := _leases.pop(load_id, None)) is not None:
        lease.release()
