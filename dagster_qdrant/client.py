"""Reach Qdrant: open clients, share a local path, retry, and speak one family of errors.

qdrant-client raises three unrelated kinds of exceptions (httpx's, gRPC's and local mode's
`ValueError`), retries nothing, and lets one client at a time use a local path. Everything in this
package that talks to Qdrant does so through `Connection.request`, which evens that out.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

from dlt.common.destination.exceptions import (
    DestinationException,
    DestinationTerminalException,
    DestinationTransientException,
    DestinationUndefinedEntity,
)

if TYPE_CHECKING:
    from qdrant_client import QdrantClient
    from tenacity import RetryCallState

logger = logging.getLogger(__name__)

DEFAULT_PORT = 6333
DEFAULT_GRPC_PORT = 6334
DEFAULT_TIMEOUT = 60
DEFAULT_MAX_RETRIES = 3
DEFAULT_LOCK_TIMEOUT = 600.0

_LOCK_REPORT_INTERVAL = 5.0
_MAX_WAIT = 30.0
_MEMORY = ":memory:"
_LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1"}

P = ParamSpec("P")
T = TypeVar("T")


class QdrantError(DestinationException):
    """Any failure of this package or of the Qdrant it talks to. Carries one message."""


class QdrantTerminalError(QdrantError, DestinationTerminalException):
    """Trying again cannot help: a wrong key, a wrong option, refused data."""


class QdrantNotFound(QdrantTerminalError, DestinationUndefinedEntity):
    """The collection does not exist."""


class QdrantConflict(QdrantTerminalError):
    """The collection exists already."""


class QdrantConfigurationError(QdrantTerminalError):
    """An option has a value that cannot work, or that cannot take effect."""


class QdrantTransientError(QdrantError, DestinationTransientException):
    """Trying again may help: no connection, a time-out, an overloaded server.

    Args:
        message: What happened, where, and what to do.
        retry_after: Seconds that the server asked to wait, if it did.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after)
        self.message = message
        self.retry_after = retry_after

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class ConnectionOptions:
    """Where Qdrant is and how to talk to it; checked when it is made.

    Args:
        location: URL of a server, or ":memory:" (also ":memory:some-name", a separate one).
        path: Folder of qdrant-client's local mode. Excludes every option about a server.
        api_key: Key of the server. Never shown.
        host: Name of the server, in place of `location`.
        port: REST port, used when `location` names none.
        grpc_port: gRPC port.
        prefer_grpc: Write and read over gRPC where the client can.
        https: Use TLS. Default: what `location` says, else true when an API key goes to another
            machine.
        prefix: Path before the API's, for a server behind a proxy.
        timeout: Seconds for one request.
        max_retries: How often a request that failed in passing is tried again.
        lock_timeout: Seconds to wait for a local path that another process uses.
        external_client: A client that its owner opens and closes.

    Raises:
        QdrantConfigurationError: For values that contradict each other or cannot take effect.

    Example:
        >>> ConnectionOptions(location="https://qdrant.example", api_key="k").url
        'https://qdrant.example:6333'
    """

    location: str | None = None
    path: str | None = None
    api_key: str | None = field(default=None, repr=False)
    host: str | None = None
    port: int = DEFAULT_PORT
    grpc_port: int = DEFAULT_GRPC_PORT
    prefer_grpc: bool = False
    https: bool | None = None
    prefix: str | None = None
    timeout: int = DEFAULT_TIMEOUT
    max_retries: int = DEFAULT_MAX_RETRIES
    lock_timeout: float = DEFAULT_LOCK_TIMEOUT
    external_client: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuse what cannot work or would be ignored."""
        places = {
            "location": self.location,
            "path": self.path,
            "host": self.host,
            "credentials (a client)": self.external_client,
        }
        given = [f"`{name}`" for name, value in places.items() if value is not None]
        if len(given) > 1:
            raise QdrantConfigurationError(
                f"{' and '.join(given)} are both set, and each names the place where Qdrant is. "
                "Keep one of them."
            )
        if self.max_retries < 0:
            raise QdrantConfigurationError(
                f"`upload_max_retries` is {self.max_retries}; it must be 0 or more."
            )
        if self.timeout <= 0:
            raise QdrantConfigurationError(
                f"`timeout` is {self.timeout}; it must be a positive number of seconds."
            )
        if self.is_local or self.external_client is not None:
            self._refuse_server_options()
        elif self.location is not None:
            self._check_url(self.location)

    def _refuse_server_options(self) -> None:
        without_effect = {
            "api_key": self.api_key is not None,
            "prefer_grpc": self.prefer_grpc,
            "https": bool(self.https),
            "prefix": self.prefix is not None,
            "port": self.port != DEFAULT_PORT,
            "grpc_port": self.grpc_port != DEFAULT_GRPC_PORT,
        }
        refused = [f"`{name}`" for name, is_set in without_effect.items() if is_set]
        if refused:
            kind = "a client of your own" if self.external_client is not None else "local mode"
            raise QdrantConfigurationError(
                f"{', '.join(refused)} cannot take effect with {kind} ({self}): only a server "
                "that this package connects to has them. Remove it, or set `location` to the "
                "server's URL."
            )

    def _check_url(self, location: str) -> None:
        parts = urlsplit(location if "//" in location else f"//{location}")
        try:
            port = parts.port
        except ValueError as error:
            raise QdrantConfigurationError(f"`location` has no valid port: {error}.") from None
        if parts.username or parts.password:
            raise QdrantConfigurationError(
                "`location` holds a user name or a password. Put a key into `api_key` instead, "
                "where it is kept secret."
            )
        if parts.scheme not in ("", "http", "https") or not parts.hostname:
            raise QdrantConfigurationError(
                f"`location` is {location!r}, which is no URL of a server. Use something like "
                "'http://localhost:6333', or `path` for a local folder."
            )
        if parts.scheme and self.https is not None and self.https != (parts.scheme == "https"):
            raise QdrantConfigurationError(
                f"`https` is {self.https}, but `location` starts with '{parts.scheme}://'. "
                "Remove one of them."
            )
        if port is not None and self.port not in (DEFAULT_PORT, port):
            raise QdrantConfigurationError(
                f"`location` names port {port} and `port` is {self.port}. Remove one of them."
            )
        if parts.path.strip("/") and self.prefix:
            raise QdrantConfigurationError(
                f"`location` ends with '{parts.path}' and `prefix` is '{self.prefix}'. "
                "Remove one of them."
            )

    @property
    def is_memory(self) -> bool:
        """Whether the data lives in this process only."""
        return self.location is not None and self.location.startswith(_MEMORY)

    @property
    def is_local(self) -> bool:
        """Whether qdrant-client's local mode is used: in memory or on a path."""
        return self.path is not None or self.is_memory

    @property
    def url(self) -> str:
        """URL of the server, without the key."""
        location = self.location or self.host or "localhost"
        parts = urlsplit(location if "//" in location else f"//{location}")
        host = parts.hostname or "localhost"
        if parts.scheme:
            scheme = parts.scheme
        elif self.https is not None:
            scheme = "https" if self.https else "http"
        else:
            scheme = "https" if self.api_key and host not in _LOCAL_HOSTS else "http"
        name = f"[{host}]" if ":" in host else host
        return f"{scheme}://{name}:{parts.port or self.port}{parts.path.rstrip('/')}"

    def __str__(self) -> str:
        if self.external_client is not None:
            return "the client given as credentials"
        if self.path is not None:
            return os.fspath(self.path)
        return self.location or "" if self.is_memory else self.url

    def open_client(self) -> QdrantClient:
        """Open a new client; the caller closes it."""
        from qdrant_client import QdrantClient

        if self.is_memory:
            return QdrantClient(_MEMORY)
        if self.path is not None:
            return QdrantClient(path=self.path, force_disable_check_same_thread=True)
        parts = urlsplit(self.url)
        return QdrantClient(
            url=f"{parts.scheme}://{parts.netloc}",
            grpc_port=self.grpc_port,
            prefer_grpc=self.prefer_grpc,
            https=parts.scheme == "https",
            api_key=self.api_key,
            prefix=self.prefix or parts.path.strip("/") or None,
            timeout=self.timeout,
        )


class Connection:
    """A client together with the manners to use it: retries, one lock, one family of errors."""

    def __init__(self, options: ConnectionOptions, client: QdrantClient) -> None:
        self.options = options
        self.client = client
        # Local mode is not thread-safe; a server's client is.
        from qdrant_client.local.qdrant_local import QdrantLocal

        self.is_local = isinstance(getattr(client, "_client", None), QdrantLocal)
        self._lock: contextlib.AbstractContextManager[Any] = (
            threading.RLock() if self.is_local else contextlib.nullcontext()
        )

    def request(self, operation: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call one operation of the client, again if it failed in passing.

        Waits between tries grow from half a second with jitter; a `Retry-After` of the server is
        kept to, up to 30 seconds.

        Args:
            operation: A bound method of `client`, say `connection.client.upsert`.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Raises:
            QdrantTerminalError: When Qdrant refuses.
            QdrantTransientError: When the last try failed too.

        Example:
            >>> connection.request(connection.client.count, "movies", exact=True).count
            3
        """
        import tenacity

        def attempt() -> T:
            try:
                with self._lock:
                    return operation(*args, **kwargs)
            except Exception as error:
                translated = translate(error, self.options)
                if translated is None:
                    raise
                raise translated from error

        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.options.max_retries + 1),
            wait=_wait,
            retry=tenacity.retry_if_exception_type(QdrantTransientError),
            before_sleep=_report_retry,
            reraise=True,
        )
        return retrying(attempt)


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


class _SharedClients:
    """The clients that this process has open, each shared by all who ask for the same place.

    A server's client stays open (its connections are reused), and so does a `:memory:`, which
    would lose its data. A path is closed when its last user leaves, so that other processes get
    their turn.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._kept: dict[ConnectionOptions | str, Connection] = {}
        self._paths: dict[str, _SharedPath] = {}

    @contextlib.contextmanager
    def lease(self, options: ConnectionOptions) -> Iterator[Connection]:
        if options.external_client is not None:
            yield Connection(options, options.external_client)
        elif options.path is None:
            yield self._keep(options)
        else:
            path = os.path.realpath(options.path)
            with self._guard:
                shared = self._paths.setdefault(path, _SharedPath(path))
            with shared.lease(options) as connection:
                yield connection

    def _keep(self, options: ConnectionOptions) -> Connection:
        key = (options.location or _MEMORY) if options.is_memory else options
        with self._guard:
            if key not in self._kept:
                self._kept[key] = Connection(options, options.open_client())
            return self._kept[key]


class _SharedPath:
    """One local path: open while anybody in this process uses it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._guard = threading.Lock()
        self._users = 0
        self._connection: Connection | None = None
        self._lock: Any = None

    @contextlib.contextmanager
    def lease(self, options: ConnectionOptions) -> Iterator[Connection]:
        with self._guard:
            if self._connection is None:
                self._connection = self._open(options)
            connection = self._connection
            self._users += 1
        try:
            yield connection
        finally:
            with self._guard:
                self._users -= 1
                if self._users == 0:
                    self._connection = None
                    connection.client.close()
                    self._lock.release()

    def _open(self, options: ConnectionOptions) -> Connection:
        self._lock = _lock_path(self._path, options.lock_timeout)
        try:
            return Connection(options, _open_path(self._path, options))
        except BaseException:
            self._lock.release()
            raise


def _lock_path(path: str, timeout: float) -> Any:
    """Take the turn on a local path.

    qdrant-client has a lock of its own, but reads the data before it takes it: a client that
    opens while another writes would go on with, and save, what was there before.
    """
    from filelock import FileLock, Timeout

    try:
        Path(path).mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = FileLock(os.path.join(path, ".dagster_qdrant.lock"), mode=0o600)
        start = time.monotonic()
        while True:
            waited = time.monotonic() - start
            try:
                lock.acquire(timeout=max(0.0, min(_LOCK_REPORT_INTERVAL, timeout - waited)))
                return lock
            except Timeout:
                waited = time.monotonic() - start
                if waited >= timeout:
                    raise _path_busy(path, waited) from None
                logger.warning(
                    "Waiting for another process to finish with %s, for %.0f of at most %.0f s.",
                    path,
                    waited,
                    timeout,
                )
    except OSError as error:
        raise QdrantConfigurationError(
            f"`path` {path} cannot be used: {error.strerror or error}. Name a folder that this "
            "process may create and write."
        ) from error


def _open_path(path: str, options: ConnectionOptions) -> QdrantClient:
    """Open local mode, waiting for a client that does not know of our lock."""
    start = time.monotonic()
    while True:
        try:
            return options.open_client()
        except RuntimeError as error:
            waited = time.monotonic() - start
            if waited >= options.lock_timeout:
                raise _path_busy(path, waited) from error
            logger.warning(
                "Waiting for another Qdrant client to close %s, for %.0f of at most %.0f s.",
                path,
                waited,
                options.lock_timeout,
            )
            time.sleep(min(1.0, options.lock_timeout - waited))


def _path_busy(path: str, waited: float) -> QdrantTransientError:
    return QdrantTransientError(
        f"Another process kept the local Qdrant at {path} for itself for {waited:.0f} s. A path "
        "serves one process at a time: close that client, raise `lock_timeout`, or use a server."
    )


_shared = _SharedClients()


def connect(options: ConnectionOptions) -> contextlib.AbstractContextManager[Connection]:
    """Lease the client of this process for a place.

    Args:
        options: The place and the way to it.

    Returns:
        A context manager that gives a `Connection`.

    Example:
        >>> with connect(ConnectionOptions(location=":memory:")) as qdrant:
        ...     qdrant.request(qdrant.client.get_collections)
        CollectionsResponse(collections=[])
    """
    return _shared.lease(options)


def translate(error: Exception, options: ConnectionOptions) -> QdrantError | None:
    """The error of this package for one of qdrant-client's, or None if it is neither's."""
    import grpc
    from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    if isinstance(error, UnexpectedResponse):
        return _from_status(error.status_code or 0, _words(error.content), error.headers, options)
    if isinstance(error, ResourceExhaustedResponse):
        return QdrantTransientError(
            f"Qdrant at {options} is overloaded: {error}.", float(error.retry_after_s)
        )
    if isinstance(error, ResponseHandlingException):
        return _from_transport(error.source, options)
    if isinstance(error, grpc.RpcError):
        return _from_grpc(error, options)
    if options.is_local or options.external_client is not None:
        return _from_local(error, options)
    return None


def _words(content: bytes) -> str:
    """What the server said, without its wrapping."""
    import json

    try:
        return str(json.loads(content)["status"]["error"])
    except (ValueError, KeyError, TypeError):
        return content.decode(errors="replace").strip()[:500]


def _from_status(status: int, words: str, headers: Any, options: ConnectionOptions) -> QdrantError:
    if status in (401, 403):
        return _refused(words, options)
    if status == 404:
        return QdrantNotFound(f"Qdrant at {options}: {words or 'not found'}")
    if status == 409 or "already exists" in words:
        return QdrantConflict(f"Qdrant at {options}: {words}")
    if status == 507:
        return QdrantTerminalError(f"Qdrant at {options} has no space left: {words}")
    if status in (408, 429) or status >= 500:
        try:
            retry_after = float(headers.get("retry-after"))
        except (TypeError, ValueError, AttributeError):
            retry_after = None
        return QdrantTransientError(f"Qdrant at {options} answered {status}: {words}", retry_after)
    return QdrantTerminalError(f"Qdrant at {options} answered {status}: {words}")


def _refused(words: str, options: ConnectionOptions) -> QdrantTerminalError:
    given = "the API key it was given" if options.api_key else "a request without an API key"
    return QdrantTerminalError(
        f"Qdrant at {options} refused {given}: {words}. Set `api_key` to a key that may write."
    )


def _from_transport(source: Exception, options: ConnectionOptions) -> QdrantError:
    import httpx

    if isinstance(source, httpx.TimeoutException) and not isinstance(source, httpx.ConnectTimeout):
        return QdrantTransientError(
            f"Qdrant at {options} did not answer within {options.timeout} s. Raise `timeout`."
        )
    if isinstance(source, httpx.TransportError):
        return _unreachable(str(source) or type(source).__name__, options)
    return QdrantTerminalError(f"Qdrant at {options} gave an answer that is not Qdrant's: {source}")


def _unreachable(words: str, options: ConnectionOptions) -> QdrantTransientError:
    return QdrantTransientError(
        f"No Qdrant could be reached at {options}: {words}. Start the server, or set `location` "
        "to its URL (or `path` to a local folder)."
    )


def _from_grpc(error: Any, options: ConnectionOptions) -> QdrantError:
    from grpc import StatusCode

    code, words = error.code(), str(error.details() or "")
    if code in (StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED):
        return _refused(words, options)
    if code == StatusCode.NOT_FOUND:
        return QdrantNotFound(f"Qdrant at {options}: {words}")
    if code == StatusCode.ALREADY_EXISTS or "already exists" in words:
        return QdrantConflict(f"Qdrant at {options}: {words}")
    if code == StatusCode.UNAVAILABLE:
        return _unreachable(words, options)
    if code in (
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.INTERNAL,
        StatusCode.ABORTED,
        StatusCode.CANCELLED,
        StatusCode.RESOURCE_EXHAUSTED,
        StatusCode.UNKNOWN,
    ):
        return QdrantTransientError(f"Qdrant at {options} answered {code.name}: {words}")
    return QdrantTerminalError(f"Qdrant at {options} answered {code.name}: {words}")


def _from_local(error: Exception, options: ConnectionOptions) -> QdrantError | None:
    words = str(error)
    if isinstance(error, ValueError) and "not found" in words:
        return QdrantNotFound(f"Qdrant at {options}: {words}")
    if isinstance(error, ValueError) and "already exists" in words:
        return QdrantConflict(f"Qdrant at {options}: {words}")
    if isinstance(error, OSError):
        return QdrantTerminalError(f"Qdrant at {options} could not write: {words}")
    if isinstance(error, (ValueError, KeyError, AssertionError)):
        return QdrantTerminalError(f"Qdrant at {options} refused: {words}")
    return None
