"""Reach Qdrant: open clients, share a local path, retry.

qdrant-client retries nothing that it waits for, and lets one client at a time use a local path.
Everything in this package that talks to Qdrant does so through `Connection.request`, which evens
that out.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from urllib.parse import quote, urlsplit

from dagster_qdrant.errors import QdrantConfigurationError, QdrantTransientError, translate
from dagster_qdrant.local_path import lock_path, open_path, real_path

if TYPE_CHECKING:
    from qdrant_client import QdrantClient
    from tenacity import RetryCallState

logger = logging.getLogger(__name__)

DEFAULT_PORT = 6333
DEFAULT_GRPC_PORT = 6334
DEFAULT_TIMEOUT = 60
DEFAULT_MAX_RETRIES = 3
DEFAULT_LOCK_TIMEOUT = 600.0

_MAX_WAIT = 30.0
_MEMORY = ":memory:"
_LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1"}
# Without these, gRPC fails all requests for up to two minutes after it could not connect, without
# trying to. This is less than the wait before our first retry.
_GRPC_OPTIONS = {
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 400,
}

P = ParamSpec("P")
T = TypeVar("T")


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
            return
        if self.prefix and not set(self.prefix).isdisjoint("?#@"):
            raise QdrantConfigurationError(
                "`prefix` holds a '?', '#' or '@'; it must be a path alone. Put a key into "
                "`api_key`, where it is kept secret."
            )
        for name, place in {"location": self.location, "host": self.host}.items():
            if place is not None:
                self._check_url(name, place)

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

    def _check_url(self, name: str, location: str) -> None:
        if "@" in location or "?" in location or "#" in location:  # not shown: it may be secret
            raise QdrantConfigurationError(
                f"`{name}` holds a user name, a password or a query, which a server's URL has not. "
                "Put a key into `api_key` instead, where it is kept secret."
            )
        try:
            parts = urlsplit(location if "//" in location else f"//{location}")
            port = parts.port
        except ValueError as error:
            raise QdrantConfigurationError(
                f"`{name}` is {location!r}, which is no URL: {error}."
            ) from None
        if parts.scheme not in ("", "http", "https") or not parts.hostname:
            raise QdrantConfigurationError(
                f"`{name}` is {location!r}, which is no URL of a server. Use something like "
                "'http://localhost:6333', or `path` for a local folder."
            )
        if parts.scheme and self.https is not None and self.https != (parts.scheme == "https"):
            raise QdrantConfigurationError(
                f"`https` is {self.https}, but `{name}` starts with '{parts.scheme}://'. "
                "Remove one of them."
            )
        if port is not None and self.port not in (DEFAULT_PORT, port):
            raise QdrantConfigurationError(
                f"`{name}` names port {port} and `port` is {self.port}. Remove one of them."
            )
        if parts.path.strip("/") and self.prefix:
            raise QdrantConfigurationError(
                f"`{name}` ends with '{parts.path}' and `prefix` is '{self.prefix}'. "
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

    def dashboard_url(self, collection: str) -> str | None:
        """The page of a collection that the server itself shows; None where there is no server."""
        if self.is_local or self.external_client is not None:
            return None
        prefix = f"/{self.prefix.strip('/')}" if self.prefix else ""
        return f"{self.url}{prefix}/dashboard#/collections/{quote(collection, safe='')}"

    def __str__(self) -> str:
        if self.external_client is not None:
            return "the client given as credentials"
        if self.path is not None:
            return os.fspath(self.path)
        return self.location or "" if self.is_memory else self.url

    def hide_key(self, words: str) -> str:
        """A text of somebody else, say of a proxy that repeats what it got, without the key."""
        return words.replace(self.api_key, "***") if self.api_key else words

    def open_client(self) -> QdrantClient:
        """Open a new client; the caller closes it."""
        from qdrant_client import QdrantClient

        if self.is_memory:
            return QdrantClient(_MEMORY)
        if self.path is not None:
            return QdrantClient(path=self.path, force_disable_check_same_thread=True)
        parts = urlsplit(self.url)
        grpc_options: dict[str, Any] = dict(_GRPC_OPTIONS)
        http_options: dict[str, Any] = {}
        if parts.hostname in _LOCAL_HOSTS:  # a proxy for other machines is not to see the key
            grpc_options["grpc.enable_http_proxy"] = 0
            host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            http_options["mounts"] = {f"all://{host}": None}
        return QdrantClient(
            url=f"{parts.scheme}://{parts.netloc}",
            grpc_port=self.grpc_port,
            prefer_grpc=self.prefer_grpc,
            https=parts.scheme == "https",
            api_key=self.api_key,
            prefix=self.prefix or parts.path.strip("/") or None,
            timeout=self.timeout,
            grpc_options=grpc_options,
            **http_options,
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
                cause = _presentable(error, self.options)
            raise translated from cause

        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.options.max_retries + 1),
            wait=_wait,
            retry=tenacity.retry_if_exception_type(QdrantTransientError),
            before_sleep=_report_retry,
            reraise=True,
        )
        return retrying(attempt)


def _presentable(error: Exception, options: ConnectionOptions) -> Exception | None:
    """An error as a cause to show: without the frames, whose local variables hold the key."""
    if options.hide_key(str(error)) != str(error):
        return None
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error


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
            path = real_path(options.path)
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
        self._lock = lock_path(self._path, options.lock_timeout)
        try:
            client = open_path(self._path, options.open_client, options.lock_timeout)
            return Connection(options, client)
        except BaseException:
            self._lock.release()
            raise


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
