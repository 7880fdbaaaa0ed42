"""Retry transient failures, with waits that grow."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from dagster_qdrant.errors import QdrantTransientError
from dagster_qdrant.stopping import pause

if TYPE_CHECKING:
    from tenacity import RetryCallState

logger = logging.getLogger(__name__)

_MAX_WAIT = 30.0

T = TypeVar("T")


def retrying(
    attempt: Callable[[], T], max_retries: int, sleep: Callable[[float], None] | None = None
) -> T:
    """Call something, and again after a transient failure.

    Waits between tries grow from half a second with jitter; what a server asks for as
    `Retry-After` is kept to, up to 30 seconds.

    Args:
        attempt: What to do. A `QdrantTransientError` is retried.
        max_retries: How often it is retried.
        sleep: Waits for some seconds. Default: until told to stop.

    Raises:
        QdrantTransientError: When the last try failed too.
        QdrantStoppedError: When told to stop between two tries.
    """
    import tenacity

    return tenacity.Retrying(
        stop=tenacity.stop_after_attempt(max_retries + 1),
        wait=_wait,
        retry=tenacity.retry_if_exception_type(QdrantTransientError),
        before_sleep=_report_retry,
        sleep=sleep or pause,
        reraise=True,
    )(attempt)


def _wait(state: RetryCallState) -> float:
    import tenacity

    error = state.outcome.exception() if state.outcome else None
    asked = getattr(error, "retry_after", None)
    backoff = tenacity.wait_exponential_jitter(initial=0.5, max=_MAX_WAIT, jitter=0.5)
    return min(asked, _MAX_WAIT) if asked is not None else backoff(state)


def _report_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    pause = state.next_action.sleep if state.next_action else 0.0
    logger.warning("%s Trying again in %.1f s (try %d).", error, pause, state.attempt_number + 1)
