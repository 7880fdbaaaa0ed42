"""Qdrant's errors, over REST, over gRPC and in local mode, as those of this package.

qdrant-client raises three unrelated kinds of exceptions (with httpx's inside, gRPC's own, and local
mode's `ValueError`), some of which cannot be pickled, so that Dagster's executors lose them.
"""

from __future__ import annotations

import json
from typing import Any

from dagster_qdrant.errors import (
    QdrantConflictError,
    QdrantError,
    QdrantNotFoundError,
    QdrantRefusedError,
    QdrantTerminalError,
    QdrantTooLargeError,
    QdrantTransientError,
    QdrantUnsendableError,
)
from dagster_qdrant.qdrant.connection_options import ConnectionOptions
from dagster_qdrant.qdrant.protocol_mismatch import advice, expects_tls, mismatch


def translate(error: Exception, options: ConnectionOptions) -> QdrantError | None:
    """The error of this package for one of qdrant-client's, or None if it is neither's."""
    import grpc
    from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    if isinstance(error, UnexpectedResponse):
        words = options.hide_key(_words(error.content))
        if error.status_code == 404 and _qdrants_words(error.content) is None:
            return _no_api(options)
        return _from_status(error.status_code or 0, words, error.headers, options)
    if isinstance(error, ResourceExhaustedResponse):
        return QdrantTransientError(
            f"Qdrant at {options} is overloaded: {options.hide_key(str(error))}.",
            float(error.retry_after_s),
        )
    if isinstance(error, ResponseHandlingException):
        return _from_transport(error.source, options)
    if isinstance(error, grpc.RpcError):
        return _from_grpc(error, options)
    if options.prefer_grpc and isinstance(error, (ValueError, TypeError)):
        return QdrantUnsendableError(f"gRPC: {error}")
    if options.is_local or options.external_client is not None:
        return _from_local(error, options)
    if isinstance(error, json.JSONDecodeError):
        return _not_qdrants(f"it is no JSON ({error})", options)
    return None


def _words(content: bytes) -> str:
    """What the server said, without its wrapping."""
    return _qdrants_words(content) or content.decode(errors="replace").strip()[:500]


def _qdrants_words(content: bytes) -> str | None:
    """The words in an answer of Qdrant's API, or None for the answer of anything else."""
    try:
        return str(json.loads(content)["status"]["error"])
    except (ValueError, KeyError, TypeError):
        return None


def _from_status(status: int, words: str, headers: Any, options: ConnectionOptions) -> QdrantError:
    if status in (401, 403):
        return _refused(words, options)
    if status == 404:
        return QdrantNotFoundError(f"Qdrant at {options}: {words or 'not found'}")
    if status == 409 or "already exists" in words:
        return QdrantConflictError(f"Qdrant at {options}: {words}")
    if status == 413 or "larger than allowed" in words:
        return QdrantTooLargeError(f"Qdrant at {options}: {words}")
    if status == 507 or _says_disk_is_full(words):
        return _disk_full(words, options)
    if 300 <= status < 400:
        return QdrantTerminalError(
            f"Qdrant at {options} answers with a redirect ({status}), which is not followed, since "
            "the API key must go nowhere else. Set `location` to the server's own URL."
        )
    if status in (408, 429) or status >= 500:
        try:
            retry_after = float(headers.get("retry-after"))
        except (TypeError, ValueError, AttributeError):
            retry_after = None
        return QdrantTransientError(f"Qdrant at {options} answered {status}: {words}", retry_after)
    if status == 400 and (tls := expects_tls(words, options)):
        return QdrantTerminalError(tls)
    return QdrantRefusedError(f"Qdrant at {options} answered {status}: {words}")


def _no_api(options: ConnectionOptions) -> QdrantTerminalError:
    prefix = options.prefix and " and `prefix`"
    return QdrantTerminalError(
        f"The server at {options} has no Qdrant API under this URL: it answered 404. Set "
        f"`location`{prefix or ''} to where the API is, say 'http://localhost:6333', without the "
        "path of a page. (A server that is older than 1.16 has not all of the API.)"
    )


def _refused(words: str, options: ConnectionOptions) -> QdrantTerminalError:
    given = "the API key it was given" if options.api_key else "a request without an API key"
    return QdrantTerminalError(
        f"Qdrant at {options} refused {given}: {words}. Set `api_key` to a key that may write."
    )


def _from_transport(source: Exception, options: ConnectionOptions) -> QdrantError:
    import httpx

    if isinstance(source, httpx.TimeoutException) and not isinstance(source, httpx.ConnectTimeout):
        return _too_slow(options)
    words = options.hide_key(str(source))
    if isinstance(source, httpx.TransportError):
        return _unreachable(words or type(source).__name__, options)
    return _not_qdrants(words, options)


def _not_qdrants(words: str, options: ConnectionOptions) -> QdrantTerminalError:
    return QdrantTerminalError(
        f"The server at {options} gave an answer that is not Qdrant's: {words}. Set `location` to "
        "the URL of a Qdrant server, say 'http://localhost:6333'."
    )


def _unreachable(
    words: str, options: ConnectionOptions, *, by_grpc: bool = False
) -> QdrantTransientError | QdrantTerminalError:
    if permanent := mismatch(words, options, by_grpc=by_grpc):
        return QdrantTerminalError(permanent)
    over = f" (over gRPC, port {options.grpc_port})" if by_grpc else ""
    return QdrantTransientError(
        f"No Qdrant could be reached at {options}: {words}{over}. "
        f"{advice(words, options, by_grpc=by_grpc)}"
    )


def _too_slow(options: ConnectionOptions) -> QdrantTransientError:
    return QdrantTransientError(
        f"Qdrant at {options} did not answer within {options.timeout} s. Raise `timeout`."
    )


def _says_disk_is_full(words: str) -> bool:
    # Qdrant says so with the status of an internal error, and gRPC with that of a rate limit.
    return "No space left" in words


def _disk_full(words: str, options: ConnectionOptions) -> QdrantTerminalError:
    return QdrantTerminalError(f"Qdrant at {options} has no space left: {words}")


def _from_grpc(error: Any, options: ConnectionOptions) -> QdrantError:
    from grpc import StatusCode

    code, words = error.code(), options.hide_key(str(error.details() or ""))
    if code in (StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED):
        return _refused(words, options)
    if code == StatusCode.NOT_FOUND:
        return QdrantNotFoundError(f"Qdrant at {options}: {words}")
    if code == StatusCode.ALREADY_EXISTS or "already exists" in words:
        return QdrantConflictError(f"Qdrant at {options}: {words}")
    if code == StatusCode.UNAVAILABLE:
        return _unreachable(words, options, by_grpc=True)
    if code == StatusCode.DEADLINE_EXCEEDED:
        return _too_slow(options)
    if _says_disk_is_full(words):
        return _disk_full(words, options)
    if code == StatusCode.OUT_OF_RANGE or "larger than max" in words:
        return QdrantTooLargeError(f"Qdrant at {options}: {words}")
    if code in (
        StatusCode.INTERNAL,
        StatusCode.ABORTED,
        StatusCode.CANCELLED,
        StatusCode.RESOURCE_EXHAUSTED,
        StatusCode.UNKNOWN,
    ):
        return QdrantTransientError(f"Qdrant at {options} answered {code.name}: {words}")
    return QdrantRefusedError(f"Qdrant at {options} answered {code.name}: {words}")


def _from_local(error: Exception, options: ConnectionOptions) -> QdrantError | None:
    words = str(error)
    if isinstance(error, ValueError) and "not found" in words:
        return QdrantNotFoundError(f"Qdrant at {options}: {words}")
    if isinstance(error, ValueError) and "already exists" in words:
        return QdrantConflictError(f"Qdrant at {options}: {words}")
    if isinstance(error, OSError):
        return QdrantTerminalError(f"Qdrant at {options} could not write: {words}")
    if isinstance(error, (ValueError, KeyError, AssertionError)):
        return QdrantTerminalError(f"Qdrant at {options} refused: {words}")
    return None
