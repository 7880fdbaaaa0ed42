"""Where Qdrant is and how to talk to it, checked before anything is opened."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from dagster_qdrant.errors import QdrantConfigurationError

DEFAULT_PORT = 6333
DEFAULT_GRPC_PORT = 6334
DEFAULT_TIMEOUT = 60
DEFAULT_MAX_RETRIES = 3
DEFAULT_LOCK_TIMEOUT = 600.0
DEFAULT_WRITE_ORDERING = "medium"

WRITE_ORDERINGS = ("weak", "medium", "strong")
READ_CONSISTENCIES = ("majority", "quorum", "all")

MEMORY = ":memory:"
# The pages on which clusters are made. Each cluster has a host of its own below this one.
_CLOUD_CONSOLE = "cloud.qdrant.io"
# What can be sent as a key: HTTP's headers hold visible characters.
_FIT_FOR_A_HEADER = re.compile(r"[!-~]+")
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


def names_no_folder(path: str) -> bool:
    """Whether a path is what belongs into `location`."""
    return "://" in path or path.startswith(MEMORY)


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
        max_retries: How often a request is retried after a transient failure.
        lock_timeout: Seconds to wait for a local path that another process uses.
        write_ordering: Ordering of writes of rows on a cluster: "weak", "medium" or "strong".
        read_consistency: How many replicas have to agree on what is read from a cluster: a
            number as text, "majority", "quorum" or "all". Default: what the collection says.
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
    write_ordering: str = DEFAULT_WRITE_ORDERING
    read_consistency: str | None = None
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
        self._check_cluster_options()
        self._check_key()
        self._check_path()
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

    def _check_key(self) -> None:
        if self.api_key is not None and not _FIT_FOR_A_HEADER.fullmatch(self.api_key):
            raise QdrantConfigurationError(
                "`api_key` holds white space, a line break or another character that no key has. "
                "Set it to the key alone. (`echo` ends a file with a line break; `printf` does "
                "not.)"
            )

    def _check_path(self) -> None:
        if self.path is not None and names_no_folder(self.path):
            raise QdrantConfigurationError(
                "`path` is a URL or ':memory:', not a folder. Set it as `location` instead."
            )

    def _check_cluster_options(self) -> None:
        if self.write_ordering not in WRITE_ORDERINGS:
            raise QdrantConfigurationError(
                f"`write_ordering` is {self.write_ordering!r}; it must be 'weak', 'medium' or "
                "'strong'."
            )
        asked = self.read_consistency
        is_number = asked is not None and asked.isdecimal() and int(asked) > 0
        if asked is not None and asked not in READ_CONSISTENCIES and not is_number:
            raise QdrantConfigurationError(
                f"`read_consistency` is {asked!r}; it must be 'majority', 'quorum', 'all' or a "
                "number of replicas."
            )
        without_effect = {
            "write_ordering": self.write_ordering != DEFAULT_WRITE_ORDERING,
            "read_consistency": asked is not None,
        }
        refused = [f"`{name}`" for name, is_set in without_effect.items() if is_set]
        if refused and self.is_local:
            raise QdrantConfigurationError(
                f"{' and '.join(refused)} cannot take effect with local mode ({self}), which has "
                "no replicas. Remove it, or set `location` to a server's URL."
            )

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
        self._refuse_pages(name, location)
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
        if parts.scheme not in ("", "http", "https") or not (parts.hostname or "").strip(".~"):
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

    def _refuse_pages(self, name: str, location: str) -> None:
        """Take no URL that was copied from a browser: the API is elsewhere."""
        try:
            parts = urlsplit(location if "//" in location else f"//{location}")
            server = f"{parts.scheme or 'http'}://{parts.hostname}:{parts.port or DEFAULT_PORT}"
        except ValueError:
            return  # which is said of it later
        if parts.hostname == _CLOUD_CONSOLE:
            raise QdrantConfigurationError(
                f"`{name}` is a page of Qdrant Cloud's console. Set it to the endpoint of your "
                "cluster, which that page shows: 'https://...cloud.qdrant.io'."
            )
        for page in ("dashboard", "collections"):
            ahead, found, _ = f"{parts.path}/".partition(f"/{page}/")
            if found:
                raise QdrantConfigurationError(
                    f"`{name}` ends with '/{page}', which is not the URL of the server. Set it to "
                    f"'{server}{ahead}'."
                )

    @property
    def is_memory(self) -> bool:
        """Whether the data lives in this process only."""
        return self.location is not None and self.location.startswith(MEMORY)

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
            scheme = "https" if self.api_key and host not in LOCAL_HOSTS else "http"
        name = f"[{host}]" if ":" in host else host
        return f"{scheme}://{name}:{parts.port or self.port}{parts.path.rstrip('/')}"

    def collection_uri(self, collection: str) -> str | None:
        """Where a collection is: in the server's API, or on the disk; None where it is neither."""
        if self.is_memory or self.external_client is not None:
            return None
        if self.path is not None:
            storage = Path(self.path).absolute()
            # Where an alias is read, its collection has another name.
            folder = storage / "collection" / collection
            return (folder if folder.is_dir() else storage).as_uri()
        return f"{self._api_url}/collections/{quote(collection, safe='')}"

    @property
    def _api_url(self) -> str:
        prefix = f"/{self.prefix.strip('/')}" if self.prefix else ""
        return f"{self.url}{prefix}"

    def dashboard_url(self, collection: str) -> str | None:
        """The page of a collection that the server itself shows; None where there is no server."""
        if self.is_local or self.external_client is not None:
            return None
        return f"{self._api_url}/dashboard#/collections/{quote(collection, safe='')}"

    def __str__(self) -> str:
        if self.external_client is not None:
            return "the client given as credentials"
        if self.path is not None:
            return os.fspath(self.path)
        return self.location or "" if self.is_memory else self.url

    def hide_key(self, words: str) -> str:
        """A text of somebody else, say of a proxy that repeats what it got, without the key."""
        return words.replace(self.api_key, "***") if self.api_key else words
