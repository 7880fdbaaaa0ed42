"""One process at a time on a local path: take turns instead of failing."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dagster_qdrant.errors import QdrantConfigurationError, QdrantTransientError
from dagster_qdrant.stopping import pause, refuse_if_stopping

if TYPE_CHECKING:
    from filelock import BaseFileLock
    from qdrant_client import QdrantClient

logger = logging.getLogger(__name__)

_REPORT_INTERVAL = 5.0
_ATTEMPT = 0.25  # seconds; between two of them, we may be told to stop

T = TypeVar("T")


def real_path(path: str) -> str:
    """The folder that a path leads to, by links perhaps, whether it is there yet or not.

    Args:
        path: The path as it was given.

    Raises:
        QdrantConfigurationError: If it leads to a file, or is a link to nothing.
    """
    target = os.path.realpath(path)
    if Path(target).is_file():
        raise _unfit(path, "it is a file" if target == path else f"it is a file, {target}")
    if Path(path).is_symlink() and not Path(target).is_dir():
        # Made now, the folder might be in the way of the one that is to be there, say a mount.
        raise _unfit(path, f"it is a link to {target}, which does not exist")
    return target


class _BusyError(Exception):
    """Somebody else has the path."""


def lock_path(path: str, timeout: float) -> BaseFileLock:
    """Take the turn on a local path, waiting for other processes and saying so in the log.

    qdrant-client has a lock of its own, but reads the data before it takes it: a client that
    opens while another writes would go on with, and save, what was there before.

    Args:
        path: The folder; made if there is none.
        timeout: Seconds to wait at most.

    Raises:
        QdrantConfigurationError: If the folder cannot be made or written.
        QdrantTransientError: If the wait was in vain.
        QdrantStoppedError: If told to stop meanwhile.
    """
    from filelock import FileLock, Timeout

    def acquire(patience: float) -> None:
        try:
            lock.acquire(timeout=min(_ATTEMPT, patience))
        except Timeout as error:
            raise _BusyError from error

    try:
        Path(path).mkdir(parents=True, exist_ok=True, mode=0o700)
        # In a folder that others may read, the rows are not for them either.
        (Path(path) / "collection").mkdir(exist_ok=True, mode=0o700)
        # Another thread than the one that opens a path may be the last to leave it.
        lock = FileLock(Path(path) / ".dagster_qdrant.lock", mode=0o600, thread_local=False)
        _wait_for(acquire, path, timeout)
    except OSError as error:
        raise _unfit(path, error.strerror or str(error)) from error
    return lock


def open_path(path: str, open_client: Callable[[], QdrantClient], timeout: float) -> QdrantClient:
    """Open local mode, waiting for a client that does not know of our lock.

    Args:
        path: The folder.
        open_client: Opens a client of it.
        timeout: Seconds to wait at most.

    Raises:
        QdrantTransientError: If the wait was in vain.
    """

    def open_once(patience: float) -> QdrantClient:
        try:
            return open_client()
        except RuntimeError as error:
            if "already accessed" not in str(error):
                raise
            pause(min(1.0, patience))
            raise _BusyError from error

    return _wait_for(open_once, path, timeout)


def _wait_for(attempt: Callable[[float], T], path: str, timeout: float) -> T:
    """Try until it works or the time is over; an attempt is told how long it may take."""
    start = time.monotonic()
    report_at = min(1.0, _REPORT_INTERVAL)
    while True:
        refuse_if_stopping()
        left = timeout - (time.monotonic() - start)
        try:
            return attempt(max(0.0, left))
        except _BusyError as error:
            waited = time.monotonic() - start
            if waited >= timeout:
                raise _path_busy(path, waited) from error
            if waited >= report_at:
                report_at = waited + _REPORT_INTERVAL
                logger.warning(
                    "Another process or client uses %s. Waiting for it, %.0f of at most %.0f s.",
                    path,
                    waited,
                    timeout,
                )


def _unfit(path: str, reason: str) -> QdrantConfigurationError:
    return QdrantConfigurationError(
        f"`path` {path} cannot be used: {reason}. Name a folder that this process may create and "
        "write."
    )


def _path_busy(path: str, waited: float) -> QdrantTransientError:
    return QdrantTransientError(
        f"The local Qdrant at {path} was in use for {waited:.0f} s. A path serves one process at a "
        "time. Close the other client, raise `lock_timeout`, or use a server."
    )
