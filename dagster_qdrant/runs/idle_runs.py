"""`qdrant.run(context)` without `yield from` loads nothing, and must not pass for a load."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Iterator
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from dagster import DagsterInvariantViolationError

if TYPE_CHECKING:
    from dagster_qdrant.runs.run_log import Context

T = TypeVar("T")

_WORDS = (
    "`run` was called, but nothing was loaded, because its results were not yielded. Write "
    "`yield from qdrant.run(context)`."
)

# The runs of a context that were made, each as the list that says whether it began.
_made: weakref.WeakKeyDictionary[Context, list[list[bool]]] = weakref.WeakKeyDictionary()


def watched(context: Context, events: Iterator[T]) -> Iterator[T]:
    """The events of a run, which says so in the log if nobody ever asks for the first of them."""
    begun: list[bool] = []

    def run() -> Iterator[T]:
        begun.append(True)
        yield from events

    generator = run()
    _made.setdefault(context, []).append(begun)
    weakref.finalize(generator, _report, context.log, begun).atexit = False
    return generator


def _report(log: Any, begun: list[bool]) -> None:
    if not begun:
        log.error(_WORDS)


def refuse_idle_runs(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of an asset, as one that fails when it makes a run that never begins.

    Dagster would call its assets materialized. A function that yields has to yield something, so
    there the log has to do.
    """
    if not inspect.isfunction(function) or (
        inspect.isgeneratorfunction(function)
        or inspect.iscoroutinefunction(function)
        or inspect.isasyncgenfunction(function)
    ):
        return function

    @wraps(function)
    def body(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        if result is None:
            for context in (*args, *kwargs.values()):
                runs = _made.get(context, ()) if _is_weak(context) else ()
                if any(not begun for begun in runs):
                    raise DagsterInvariantViolationError(_WORDS)
        return result

    return body


def _is_weak(value: Any) -> bool:
    """Whether a value can be looked up among the contexts."""
    try:
        hash(value)
        weakref.ref(value)
    except TypeError:
        return False
    return True
