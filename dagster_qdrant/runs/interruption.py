"""A run that is told to stop stops at once, says what it did, and is not retried.

Dagster has a run's main thread raise an error when a signal comes, wherever it is: in the middle of
the books of a load too. dlt keeps signals from it while it loads, and forgets them afterwards. So a
load of ours has handlers of its own. They keep the signal for all threads (`stopping`), and raise
only where nothing but a temporary folder is at work: while a source is read and normalized.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import dagster as dg
from dlt.common.runtime import signals

from dagster_qdrant.stopping import is_stopping


class DagsterExecutionInterruptedError(dg.DagsterExecutionInterruptedError, dg.DagsterError):
    """Dagster's error, as one that no retry policy retries.

    Executors know an interruption by the name of its class.
    """


class Interruption:
    """Watches for signals that tell a run to stop, and says what was done until then."""

    def __init__(self) -> None:
        self.so_far = "Nothing was written."
        self._former: dict[int, Any] = {}
        self._raises = False

    @contextmanager
    def raised_at_once(self) -> Iterator[None]:
        """Have a signal raise where it comes, for the time of a `with` block."""
        self._raises = True
        try:
            yield
        finally:
            self._raises = False

    def install(self) -> None:
        """Take over the signals that somebody handles."""
        for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
            number = getattr(signal, name, None)
            if number is not None and callable(signal.getsignal(number)):
                self._former[number] = signal.signal(number, self._receive)

    def remove(self) -> None:
        """Give the signals back."""
        for number, handler in self._former.items():
            signal.signal(number, handler)
        if self._former:
            signals.set_received_signal(0)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        signals.set_received_signal(number)
        signals.wake_all()
        # dlt normalizes in processes where it is told to, and looks after them.
        if self._raises and not multiprocessing.active_children():
            self._raises = False
            self._former[number](number, frame)

    def error(self) -> DagsterExecutionInterruptedError:
        """The error that ends the run."""
        return DagsterExecutionInterruptedError(f"The load was told to stop. {self.so_far}")


@contextmanager
def interruption_heeded() -> Iterator[Interruption]:
    """Stop within moments when the process gets a signal.

    Only the main thread can be told. In any other this does nothing.

    Raises:
        DagsterExecutionInterruptedError: If told to stop, whatever the `with` block came to.
    """
    interruption = Interruption()
    if threading.current_thread() is threading.main_thread():
        interruption.install()
    try:
        yield interruption
    except BaseException:
        if is_stopping():
            raise interruption.error() from None
        raise
    else:
        if is_stopping():
            raise interruption.error()
    finally:
        interruption.remove()
