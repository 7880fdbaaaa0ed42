"""Run something in a process of its own; measure its time, memory and processor time."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]

_INTERVAL = 0.05
_NEW_CHILDREN_EVERY = 5  # samples: to look for processes costs more than to ask them


@dataclass(frozen=True)
class Measured:
    """What one process with all its children took.

    Args:
        seconds: As the process measured itself, without its start; 0 if it did not.
        whole_seconds: From its start to its end.
        cpu_seconds: Processor time, of children too.
        peak_mib: The most memory at one time: resident sizes, summed over the children.
        answer: What else it told.
    """

    seconds: float
    whole_seconds: float
    cpu_seconds: float
    peak_mib: float
    answer: Mapping[str, Any]


def measure(
    arguments: Sequence[str],
    *,
    python: str = sys.executable,
    environment: Mapping[str, str] | None = None,
) -> Measured:
    """Run Python with some arguments. The last line that it prints may be a JSON object.

    Raises:
        RuntimeError: If it fails, with what it wrote.
    """
    # Files and not pipes: nobody reads while it runs.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            [python, *arguments],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdout=out,
            stderr=errors,
        )
        sampler = _Watch(process.pid)
        sampler.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        finally:
            sampler.stop()
        whole = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        errors.seek(0)
        lines = out.read().splitlines()
        if process.returncode:
            command = " ".join(arguments)
            raise RuntimeError(f"`{command}` failed:\n{errors.read()[-4000:]}")
    answer = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
    return Measured(
        seconds=answer.pop("seconds", 0.0),
        whole_seconds=whole,
        # The kernel knows of children that were waited for; a fork server's are not among them.
        cpu_seconds=max(usage.ru_utime + usage.ru_stime, sampler.cpu_seconds),
        # What ends between two looks was never seen; the kernel knows the largest process.
        peak_mib=max(sampler.peak / 2**20, usage.ru_maxrss / 2**10),
        answer=answer,
    )


def rounds(count: int, sides: Mapping[str, Callable[[int], Measured]]) -> dict[str, list[Measured]]:
    """Measure sides in turns, A B A B, so that what slows the machine down hits all of them.

    Args:
        count: How many rounds.
        sides: What to run, given the number of the round.
    """
    measured: dict[str, list[Measured]] = {name: [] for name in sides}
    for number in range(count):
        for name, run in sides.items():
            measured[name].append(run(number))
    return measured


def median(values: Iterable[float]) -> float:
    """The one in the middle."""
    return statistics.median(values)


class _Watch(threading.Thread):
    """Looks at a process and its descendants many times a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self._root = psutil.Process(pid)
        self._cpu_seconds: dict[psutil.Process, float] = {}
        self._done = threading.Event()

    @property
    def cpu_seconds(self) -> float:
        """Of all processes seen, up to when each was last seen."""
        return sum(self._cpu_seconds.values())

    def run(self) -> None:
        family = [self._root]
        samples = 0
        while not self._done.wait(_INTERVAL):
            if samples % _NEW_CHILDREN_EVERY == 0:
                with contextlib.suppress(psutil.Error):
                    family = [self._root, *self._root.children(recursive=True)]
            samples += 1
            size = 0
            for process in family:
                with contextlib.suppress(psutil.Error):
                    size += process.memory_info().rss
                    used = process.cpu_times()
                    self._cpu_seconds[process] = used.user + used.system
            self.peak = max(self.peak, size)

    def stop(self) -> None:
        self._done.set()
        self.join()
