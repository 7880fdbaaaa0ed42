"""One process at a time on a local path: take turns instead of failing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dagster_qdrant.errors import QdrantConfigurationError, QdrantTransientError

if TYPE_CHECKING:
    from filelock import BaseFileLock
    from qdrant_client import QdrantClient

logger = logging.getLogger(__name__)

_REPORT_INTERVAL = 5.0


def lock_path(path: str, timeout: float) -> BaseFileLock:
    """Take the turn on a local path, waiting for other processes and saying so in the log.

    qdrant-client has a lock of its own, but reads the data before it takes it: a client that
    opens while another writes would go on with, and save, what was there before.
    """
    from filelock import FileLock, Timeout

    try:
        Path(path).mkdir(parents=True, exist_ok=True, mode=0o700)
        # Another thread than the one that opens a path may be the last to leave it.
        lock = FileLock(Path(path) / ".dagster_qdrant.lock", mode=0o600, thread_local=False)
        start = time.monotonic()
        while True:
            waited = time.monotonic() - start
            try:
                lock.acquire(timeout=max(0.0, min(_REPORT_INTERVAL, timeout - waited)))
                return lock
            except Timeout:
                waited = time.monotonic() - start
                if waited >= timeout:
                    raise _path_busy(path, waited) from None
                logger.warning(
                    "Waiting for another process to finish with %s, for %.0f of at most %.0f s.",
                    path,
                    waited,
                    timeout,
                )
    except OSError as error:
        raise QdrantConfigurationError(
            f"`path` {path} cannot be used: {error.strerror or error}. Name a folder that this "
            "process may create and write."
        ) from error


def open_path(path: str, open_client: Callable[[], QdrantClient], timeout: float) -> QdrantClient:
    """Open local mode, waiting for a client that does not know of our lock."""
    start = time.monotonic()
    while True:
        try:
            return open_client()
        except RuntimeError as error:
            if "already accessed" not in str(error):
                raise
            waited = time.monotonic() - start
            if waited >= timeout:
                raise _path_busy(path, waited) from error
            logger.warning(
                "Waiting for another Qdrant client to close %s, for %.0f of at most %.0f s.",
                path,
                waited,
                timeout,
            )
            time.sleep(min(1.0, timeout - waited))


def _path_busy(path: str, waited: float) -> QdrantTransientError:
    return QdrantTransientError(
        f"Another process kept the local Qdrant at {path} for itself for {waited:.0f} s. A path "
        "serves one process at a time: close that client, raise `lock_timeout`, or use a server."
    )
