"""Told to stop: Ctrl-C, SIGTERM, or Terminate on Dagster's pages.

A load works in many threads, and only the main one gets a signal. dlt keeps the signal for the
others to look at (`dlt.common.runtime.signals`); it does so while a pipeline loads, and a Dagster
run does so all the time (`runs/interruption.py`). Whatever waits or works for long asks here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from typing import Any, TypeVar

from dlt.common.runtime import signals

from dagster_qdrant.errors import QdrantStoppedError

T = TypeVar("T")

_TICK = 0.1  # seconds between two looks
# Seconds that a request under way gets to come back. It may be a write, and who takes over has to
# know that it is over.
_GRACE = 0.7

_last_words = threading.local()


def is_stopping() -> bool:
    """Whether this process was told to stop what it does."""
    return signals.was_signal_received()


def refuse_if_stopping() -> None:
    """Go no further if told to stop.

    Raises:
        QdrantStoppedError: If so. It is no terminal error, for which dlt might give up the rows.
    """
    if is_stopping() and not getattr(_last_words, "are_said", False):
        raise QdrantStoppedError("The load was told to stop.")


@contextmanager
def last_words() -> Iterator[None]:
    """Let this thread finish something short though it is told to stop."""
    before = getattr(_last_words, "are_said", False)
    _last_words.are_said = True
    try:
        yield
    finally:
        _last_words.are_said = before


def pause(seconds: float) -> None:
    """Sleep, until told to stop.

    Raises:
        QdrantStoppedError: If told to stop.
    """
    end = time.monotonic() + seconds
    refuse_if_stopping()
    while (left := end - time.monotonic()) > 0:
        signals.sleep(min(_TICK, left))
        refuse_if_stopping()


def wait_for(future: Future[T], grace: float = 0.0) -> T:
    """The result of something that goes on in another thread, which is left alone if told to stop.

    Args:
        future: The result to come.
        grace: Seconds to wait for it all the same.

    Raises:
        QdrantStoppedError: If told to stop, and it did not come in time.
    """
    end: float | None = None
    while True:
        try:
            return future.result(_TICK)
        except FutureTimeoutError:
            if future.done():  # the time-out is what came of it
                return future.result()
        if is_stopping():
            end = end or time.monotonic() + grace
            if time.monotonic() >= end:
                raise QdrantStoppedError("The load was told to stop.")


def begin(call: Callable[[], T], name: str, *, daemon: bool) -> Future[T]:
    """Call something in a thread of its own.

    Args:
        call: What to call.
        name: The thread's name.
        daemon: Whether the process may end before it is done.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # it is raised where the result is waited for
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=daemon).start()
    return future


class Requests:
    """Requests to another machine, which may be slow or silent.

    Python cannot end one from outside. So each has a thread of its own, which is left behind when
    the process is told to stop, and does not keep it from ending.
    """

    def __init__(self) -> None:
        self._left: list[Future[Any]] = []

    def answer(self, request: Callable[[], T], *, writes: bool) -> T:
        """Make a request and wait for the answer.

        Args:
            request: Makes it.
            writes: Whether it changes something.

        Raises:
            QdrantStoppedError: If told to stop before it came.
        """
        future = begin(request, "request", daemon=True)
        try:
            return wait_for(future, _GRACE)
        except BaseException:
            if writes and not future.done():
                self._left.append(future)
            raise

    @property
    def have_left_writes(self) -> bool:
        """Whether a write that was left behind may still have an effect."""
        self._left = [future for future in self._left if not future.done()]
        return bool(self._left)
