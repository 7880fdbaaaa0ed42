"""Spare Python's garbage collector work that finds nothing.

Now and then it looks through all objects: some hundred thousand, once Dagster and dlt are imported.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def none_collected() -> Iterator[None]:
    """Import a large library. What it defines stays, and to look through it takes a quarter."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@functools.cache
def end_at_once() -> None:
    """Have this process look through its objects once when it ends, not several times.

    That takes up to a second of a core. Dagster waits for the process of each step, and its run
    with it.
    """
    atexit.register(_last_look)


def _last_look() -> None:
    gc.collect()  # what is garbage may have something to finish
    gc.freeze()


class _Loads:
    """The loads that are under way in this process."""

    guard = threading.Lock()
    count = 0
    have_frozen = False
    found_frozen = False  # by somebody else


@contextlib.contextmanager
def only_new_collected() -> Iterator[None]:
    """Load rows, and have what was there before not looked through, which takes a quarter.

    It is again when the last load under way ends. What somebody else froze stays frozen.
    """
    with _Loads.guard:
        _Loads.count += 1
        if _Loads.count == 1 and not _is_frozen_by_others():
            gc.freeze()
            _Loads.have_frozen = True
    try:
        yield
    finally:
        with _Loads.guard:
            _Loads.count -= 1
            if not _Loads.count and _Loads.have_frozen:
                gc.unfreeze()
                _Loads.have_frozen = False


def _is_frozen_by_others() -> bool:
    """Whether somebody else froze something: asked until it is so, for then it is slow to ask.

    Python counts the frozen objects one by one, some 30 ms.
    """
    _Loads.found_frozen = _Loads.found_frozen or gc.get_freeze_count() > 0
    return _Loads.found_frozen
