"""A load's errors as Dagster's failures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dagster import DagsterError, Failure, RetryRequested
from dlt.common.destination.exceptions import DestinationCapabilitiesException
from dlt.common.exceptions import PipelineException, TerminalException
from dlt.common.schema.exceptions import SchemaException
from dlt.extract.exceptions import DltSourceException, PipeException, ResourceExtractionError
from dlt.load.exceptions import LoadClientJobException, LoadPackageAborted
from dlt.normalize.exceptions import NormalizeJobFailed
from dlt.pipeline.exceptions import PipelineStepFailed

from dagster_qdrant.errors import EmbeddingError, QdrantError

# What says in which step of dlt something happened, and what dlt would do in a folder that stays.
_WRAPPERS = (PipelineStepFailed, LoadClientJobException, LoadPackageAborted, NormalizeJobFailed)
# Where trying again comes to the same: a contract, a definition or an option is not kept to.
_TERMINAL = (
    TerminalException,
    SchemaException,
    DltSourceException,
    PipeException,
    PipelineException,
    DestinationCapabilitiesException,
    NormalizeJobFailed,
    EmbeddingError,
)

# Of a float like 1e20 in a column of whole numbers. dlt names neither the row nor the column.
_TOO_LARGE = "Integer exceeds 64-bit range"


@contextmanager
def as_failure(partition: str | None = None) -> Iterator[None]:
    """Say first what happened and what to do, instead of in which step of dlt it was.

    Args:
        partition: The partition that it happens to, in a run over several.

    Raises:
        Failure: Without retries, if the failure is permanent.
    """
    try:
        yield
    except (DagsterError, Failure, RetryRequested):
        raise
    except Exception as error:
        reason, resource = _reason(error)
        words = str(reason) if isinstance(reason, QdrantError) else _named(reason)
        if resource and f"`{resource}`" not in words:
            words = f"Resource `{resource}`: {words}"
        if partition is not None:
            words = f"Partition `{partition}`: {words}"
        # Not from the whole chain: dlt's words about packages that wait are not true of a run,
        # whose folder is gone.
        raise Failure(words, allow_retries=not isinstance(reason, _TERMINAL)) from reason


def _named(error: BaseException) -> str:
    if isinstance(error, NormalizeJobFailed) and _TOO_LARGE in str(error):
        return (
            "A column of whole numbers has a number beyond 64 bits, say 1e20. Declare the column "
            "as `double` or `decimal`: `resource.apply_hints(columns={...})`."
        )
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _reason(error: BaseException) -> tuple[BaseException, str | None]:
    """What made a load fail, and the resource that it came from if that is known."""
    resource = None
    reason = error
    while isinstance(reason, (*_WRAPPERS, ResourceExtractionError)):
        if isinstance(reason, ResourceExtractionError):
            resource = reason.pipe_name
        inner = reason.__cause__ or getattr(reason, "client_exception", None)
        # What was raised in another process has left its cause there.
        if inner is None or type(inner).__module__ == "concurrent.futures.process":
            break
        reason = inner
    cause: BaseException | None = reason
    while cause is not None:  # an error of ours says more than what was made of it
        if isinstance(cause, QdrantError):
            return cause, None
        cause = cause.__cause__
    return reason, resource
