"""A load's errors as Dagster's failures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dagster import Failure
from dlt.pipeline.exceptions import PipelineStepFailed

from dagster_qdrant.errors import QdrantError, QdrantTerminalError


@contextmanager
def as_failure() -> Iterator[None]:
    """Say first what happened and what to do, instead of in which step of dlt it was."""
    try:
        yield
    except (PipelineStepFailed, QdrantError) as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, QdrantError):
            cause = cause.__cause__
        if cause is None:
            raise
        raise Failure(
            description=str(cause), allow_retries=not isinstance(cause, QdrantTerminalError)
        ) from error
