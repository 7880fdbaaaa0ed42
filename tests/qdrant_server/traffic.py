"""What every request passes whichever protocol brought it: keys, faults and counts."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

from .errors import ApiError, ConnectionCut
from .faults import MESSAGES, Fault
from .operations import Call, Operation


@dataclass(frozen=True)
class Keys:
    """The keys that a client may show; with neither set all is open."""

    full: str | None = None
    read_only: str | None = None

    def check(self, key: str | None, operation: Operation) -> None:
        """Refuse who shows no key, a wrong one, or one that may only read."""
        known = [known for known in (self.full, self.read_only) if known]
        if not known or operation.open:
            return
        if key is None:
            raise ApiError(401, "Must provide an API key or an Authorization bearer token")
        if key not in known:
            raise ApiError(401, "Invalid API key or JWT")
        if operation.writes and key != self.full:
            raise ApiError(403, "Forbidden: Global manage access is required")


class Traffic:
    """Counts the requests and makes those go wrong that were told to."""

    def __init__(self) -> None:
        """Begin with no faults and counts of zero."""
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._upserts_in_flight = 0
        self._away_until = 0.0
        self.close_listeners: Callable[[], None] = lambda: None
        """Ends the serving of new connections; `__main__` opens them again when `away` is over."""
        self.reset_counts()

    def add_fault(self, fault: Fault) -> None:
        """Misbehave in one way more."""
        with self._lock:
            self._faults.append(fault)

    def clear_faults(self) -> None:
        """Behave again."""
        with self._lock:
            self._faults.clear()

    def faults(self) -> list[dict[str, Any]]:
        """The faults with how many requests each has seen and struck."""
        with self._lock:
            return [asdict(fault) for fault in self._faults]

    def reset_counts(self) -> None:
        """Count from zero."""
        with self._lock:
            self._counts: dict[str, Any] = {
                "operations": {},
                "points_upserted": 0,
                "max_upserts_in_flight": 0,
                "writes_without_wait": 0,
                "asked_of_replicas": [],
                "bytes_received": 0,
                "bytes_sent": 0,
            }

    def counts(self) -> dict[str, Any]:
        """What was counted."""
        with self._lock:
            return {
                **self._counts,
                "operations": {k: dict(v) for k, v in self._counts["operations"].items()},
            }

    def count_bytes(self, received: int, sent: int) -> None:
        """Count the bodies of a request and its answer; only REST's."""
        with self._lock:
            self._counts["bytes_received"] += received
            self._counts["bytes_sent"] += sent

    @property
    def away(self) -> float:
        """For how many seconds yet the server is to refuse connections."""
        return max(0.0, self._away_until - time.monotonic())

    @contextmanager
    def request(
        self, operation: Operation, protocol: str, path: str, call: Call
    ) -> Iterator[list[Fault]]:
        """Count a request while it lasts; gives the faults that it meets."""
        if self.away:
            raise ConnectionCut
        upsert = operation.name == "upsert"
        with self._lock:
            counts = self._counts
            by_protocol = counts["operations"].setdefault(operation.name, {"rest": 0, "grpc": 0})
            by_protocol[protocol] += 1
            counts["writes_without_wait"] += operation.waits and not call.wait
            asked = [operation.name, call.name, call.ordering, call.consistency]
            if asked not in counts["asked_of_replicas"]:
                counts["asked_of_replicas"].append(asked)
            self._upserts_in_flight += upsert
            in_flight = max(counts["max_upserts_in_flight"], self._upserts_in_flight)
            counts["max_upserts_in_flight"] = in_flight
            access = "write" if operation.writes else "read"
            struck = [
                fault
                for fault in self._faults
                if fault.strikes(operation.name, path, call.name, access, protocol)
            ]
        try:
            yield struck
        finally:
            with self._lock:
                self._upserts_in_flight -= upsert
                self._counts["points_upserted"] += call.points

    def perform(self, faults: list[Fault], when: Literal["before", "after"]) -> None:
        """Do what the faults say for this stage of a request."""
        for fault in faults:
            if fault.when != when:
                continue
            if fault.action == "delay":
                time.sleep(fault.seconds)
            elif fault.action == "answer":
                message = fault.message or MESSAGES.get(fault.status, "Caused by a fault")
                raise ApiError(fault.status, message, retry_after=fault.retry_after)
            elif fault.action == "die":
                os._exit(1)
            else:
                if fault.action == "refuse":
                    self._away_until = time.monotonic() + fault.seconds
                    self.close_listeners()
                raise ConnectionCut
