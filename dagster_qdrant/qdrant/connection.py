"""Reach Qdrant: open clients, share a local path, retry.

qdrant-client retries nothing that it waits for, and lets one client at a time use a local path.
Everything in this package that talks to Qdrant does so through `Connection.request`, which evens
that out.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

from dagster_qdrant.errors import QdrantRefusedError
from dagster_qdrant.garbage_collection import none_collected
from dagster_qdrant.qdrant.cluster import cluster_arguments
from dagster_qdrant.qdrant.connection_options import LOCAL_HOSTS, MEMORY, ConnectionOptions
from dagster_qdrant.qdrant.error_translation import translate
from dagster_qdrant.qdrant.local_path import lock_path, open_path, real_path
from dagster_qdrant.qdrant.server_version import version_advice
from dagster_qdrant.retrying import retrying
from dagster_qdrant.stopping import Requests, refuse_if_stopping

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

# Without these, gRPC fails all requests for up to two minutes after it could not connect, without
# trying to. This is less than the wait before our first retry.
_GRPC_OPTIONS = {
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 400,
}

_READS = frozenset(
    (
        "collection_exists",
        "count",
        "facet",
        "get_aliases",
        "get_collection",
        "get_collections",
        "query_points",
        "retrieve",
        "scroll",
    )
)

# How many requests are made at once where none depends on another. A server that makes collections
# waits for its disk, and one of a cluster for the others.
_AT_ONCE = 4

P = ParamSpec("P")
T = TypeVar("T")


class Connection:
    """A client together with the manners to use it: retries, one lock, one family of errors."""

    def __init__(self, options: ConnectionOptions, client: QdrantClient) -> None:
        self.options = options
        self.client = client
        # Local mode is not thread-safe; a server's client is.
        from qdrant_client.local.qdrant_local import QdrantLocal

        self.is_local = isinstance(getattr(client, "_client", None), QdrantLocal)
        self._lock = threading.RLock()
        self._requests = Requests()

    @property
    def has_left_writes(self) -> bool:
        """Whether writes that were not waited for, when told to stop, may still arrive."""
        return self._requests.have_left_writes

    def request(self, operation: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call one operation of the client, and again after a transient failure.

        Waits between tries grow from half a second with jitter; a `Retry-After` of the server is
        kept to, up to 30 seconds.

        Args:
            operation: A bound method of `client`, say `connection.client.upsert`.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Raises:
            QdrantTerminalError: When Qdrant refuses.
            QdrantTransientError: When the last try failed too.
            QdrantStoppedError: When told to stop; it is not waited for longer than a moment.

        Example:
            >>> connection.request(connection.client.count, "movies", exact=True).count
            3
        """
        name = getattr(operation, "__name__", "")
        collection = str(args[0] if args else kwargs.get("collection_name", ""))
        asked: Any = {}  # local mode is no cluster
        if not self.is_local:
            asked = cluster_arguments(name, collection, self.options)

        def attempt() -> T:
            refuse_if_stopping()
            try:
                if self.is_local:
                    with self._lock:
                        return operation(*args, **kwargs)
                return self._requests.answer(
                    lambda: operation(*args, **asked, **kwargs), writes=name not in _READS
                )
            except Exception as error:
                translated = translate(error, self.options)
                if translated is None:
                    raise
                if isinstance(translated, QdrantRefusedError) and not self.is_local:
                    translated = QdrantRefusedError(f"{translated}{version_advice(self.client)}")
                cause = _presentable(error, self.options)
            raise translated from cause

        return retrying(attempt, self.options.max_retries)

    def at_once(self, calls: Iterable[Callable[[], T]]) -> list[T]:
        """Make requests that do not depend on one another, some at a time.

        Local mode does one thing at a time.

        Args:
            calls: Each makes some requests, one after the other.

        Returns:
            What they return, in their order.

        Raises:
            QdrantError: What the first one raised that failed. Those that wait are not begun.
        """
        calls = list(calls)
        if self.is_local or len(calls) < 2:
            return [call() for call in calls]
        with ThreadPoolExecutor(min(_AT_ONCE, len(calls)), thread_name_prefix="requests") as pool:
            futures = [pool.submit(call) for call in calls]
            wait(futures, return_when=FIRST_EXCEPTION)
            pool.shutdown(cancel_futures=True)
        return [future.result() for future in futures if not future.cancelled()]


def _presentable(error: Exception, options: ConnectionOptions) -> Exception | None:
    """An error as a cause to show: without the frames, whose local variables hold the key."""
    if options.hide_key(str(error)) != str(error):
        return None
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error


def open_client(options: ConnectionOptions, *, looks_for_texts: bool = True) -> QdrantClient:
    """Open a new client; the caller closes it.

    Args:
        options: The place and the way to it.
        looks_for_texts: Whether it looks through what it sends for texts that it is to embed
            (`models.Document`). For who sends vectors, that is a tenth of the work of a write.
    """
    with none_collected():
        from qdrant_client import QdrantClient

    if options.is_memory:
        return QdrantClient(MEMORY)
    if options.path is not None:
        return QdrantClient(path=options.path, force_disable_check_same_thread=True)
    parts = urlsplit(options.url)
    grpc_options: dict[str, Any] = dict(_GRPC_OPTIONS)
    http_options: dict[str, Any] = {}
    if parts.hostname in LOCAL_HOSTS:  # a proxy for other machines is not to see the key
        grpc_options["grpc.enable_http_proxy"] = 0
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        http_options["mounts"] = {f"all://{host}": None}
        # Without TLS there are no certificates to check; to read those of the system takes 40 ms.
        http_options["verify"] = parts.scheme == "https"
    return QdrantClient(
        url=f"{parts.scheme}://{parts.netloc}",
        grpc_port=options.grpc_port,
        prefer_grpc=options.prefer_grpc,
        https=parts.scheme == "https",
        check_compatibility=False,  # see `server_version`
        api_key=options.api_key,
        prefix=options.prefix or parts.path.strip("/") or None,
        timeout=options.timeout,
        cloud_inference=not looks_for_texts,
        grpc_options=grpc_options,
        **http_options,
    )


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
        key = (options.location or MEMORY) if options.is_memory else options
        with self._guard:
            if not self._kept:
                # A client that is left to the interpreter's end is closed too late for its library,
                # which then prints a traceback.
                atexit.register(self._close)
            if key not in self._kept:
                client = open_client(options, looks_for_texts=False)
                self._kept[key] = Connection(options, client)
            return self._kept[key]

    def _close(self) -> None:
        with self._guard:
            for connection in self._kept.values():
                connection.client.close()


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
            client = open_path(self._path, lambda: open_client(options), options.lock_timeout)
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
