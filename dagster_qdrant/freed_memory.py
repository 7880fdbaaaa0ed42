"""Give memory that is no longer used back to the machine.

glibc keeps much of what a program frees, for what the program may ask for next. Most programs ask
for it. What it took to load a model is asked for never again: some 50 MiB for a small one, for the
rest of the process.
"""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Give freed memory back. It takes some milliseconds; other systems need no such call."""
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # musl has none
        trim(ctypes.c_size_t(0))
