"""A server that uses another protocol than the client: TLS, plain HTTP, or gRPC.

The words that TLS, HTTP and gRPC libraries have for it name none of the options that are wrong.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from dagster_qdrant.qdrant.connection_options import (
    DEFAULT_GRPC_PORT,
    DEFAULT_PORT,
    ConnectionOptions,
)

# What a TLS library says when the answer is not TLS.
_NOT_TLS = ("WRONG_VERSION_NUMBER", "UNEXPECTED_MESSAGE", "record layer failure")
# What h11 says of an answer that does not begin as one of HTTP/1.1 does.
_NOT_HTTP = ("illegal request line", "illegal status line")
# What gRPC says of an answer that is not of HTTP/2.
_NOT_GRPC = ("Failed parsing HTTP/2", "Expected SETTINGS frame", "Trying to connect an http1.x")
# Not the beginning of a link: Qdrant's own messages name pages of its manual.
_SAYS_HTTPS = re.compile(r"https\b(?!://)", re.IGNORECASE)
_NOT_VERIFIED = ("CERTIFICATE_VERIFY_FAILED", "Hostname Verification Check failed")
# Where gRPC, or httpx, reads the file of certificate authorities.
_CERTIFICATES = {True: "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", False: "SSL_CERT_FILE"}
_NO_SUCH_HOST = (
    "Name or service not known",
    "nodename nor servname",
    "getaddrinfo failed",
    "No address associated",
    "Temporary failure in name resolution",
    "DNS resolution failed",
)
_BROKEN_OFF = ("Server disconnected", "Connection reset", "Socket closed", "EOF occurred")


def mismatch(words: str, options: ConnectionOptions, *, by_grpc: bool = False) -> str | None:
    """Which option does not fit the server, if that is what is wrong.

    Args:
        words: What went wrong, in the words of whoever noticed.
        options: The place and the way to it.
        by_grpc: Whether the request went over gRPC.
    """
    place = _place(options, by_grpc=by_grpc)
    if _says(words, _NOT_TLS):
        return (
            f"{place} does not use TLS, but is asked over https. Set `location` to "
            f"{_other_url(options)!r}, without `https`.{_port_advice(options, by_grpc)}"
        )
    if _says(words, _NOT_VERIFIED):
        return (
            f"{place} has a TLS certificate that cannot be verified: {words}. Use the host name "
            "that it was issued for, or name the file of your certificate authority in the "
            f"environment variable `{_CERTIFICATES[by_grpc]}`."
        )
    if not by_grpc and _says(words, _NOT_HTTP):
        return (
            f"{place} does not speak HTTP; it may be Qdrant's gRPC port. Give `location` (or "
            f"`port`) the REST port, {DEFAULT_PORT} by default, and `grpc_port` the other."
        )
    if by_grpc and _says(words, _NOT_GRPC):
        return (
            f"{place} does not speak gRPC; it may be Qdrant's REST port. Set `grpc_port` to the "
            f"gRPC port, {DEFAULT_GRPC_PORT} by default, or remove `prefer_grpc`."
        )
    return None


def expects_tls(words: str, options: ConnectionOptions) -> str | None:
    """What to do if a server answers that it takes requests over TLS alone."""
    if _SAYS_HTTPS.search(words) and not _is_tls(options):
        return (
            f"The server at {options} takes requests over TLS only: {words}. Set `location` to "
            f"{_other_url(options)!r}."
        )
    return None


def advice(words: str, options: ConnectionOptions, *, by_grpc: bool = False) -> str:
    """What to do about a server that is not reached, as far as the words tell why."""
    if _says(words, _NO_SUCH_HOST):
        return "Check the host name in `location`. (A local folder is a `path`.)"
    if _says(words, _BROKEN_OFF):
        tls = f" If it takes TLS only, set `location` to {_other_url(options)!r}."
        over_tls = "" if _is_tls(options) else tls
        port = _port_advice(options, by_grpc)
        return f"It broke off the connection; look into its log.{over_tls}{port}"
    return "Start the server, or set `location` to its URL (or `path` to a local folder)."


def _place(options: ConnectionOptions, *, by_grpc: bool) -> str:
    """The server, with the port that is spoken to."""
    if not by_grpc:
        return f"The server at {options}"
    return f"Port {options.grpc_port} (`grpc_port`) of the server at {options}"


def _says(words: str, sayings: tuple[str, ...]) -> bool:
    return any(saying in words for saying in sayings)


def _is_tls(options: ConnectionOptions) -> bool:
    return options.url.startswith("https:")


def _other_url(options: ConnectionOptions) -> str:
    scheme, _, rest = options.url.partition("://")
    return f"{'http' if scheme == 'https' else 'https'}://{rest}"


def _port_advice(options: ConnectionOptions, by_grpc: bool) -> str:
    if by_grpc or urlsplit(options.url).port != DEFAULT_GRPC_PORT:
        return ""
    return f" Port {DEFAULT_GRPC_PORT} is Qdrant's gRPC port by default; REST's is {DEFAULT_PORT}."
