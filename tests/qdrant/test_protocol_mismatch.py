"""A server that uses another protocol than it is asked in."""

import http.server
import socket
import ssl
import threading
from contextlib import contextmanager

import pytest

from dagster_qdrant.errors import QdrantTerminalError, QdrantTransientError
from dagster_qdrant.qdrant.connection import connect
from dagster_qdrant.qdrant.connection_options import ConnectionOptions
from dagster_qdrant.qdrant.error_translation import translate
from tests.targets import shared_server


def error(**options):
    """What a request ends with."""
    with (
        connect(ConnectionOptions(max_retries=0, timeout=5, **options)) as connection,
        pytest.raises((QdrantTerminalError, QdrantTransientError)) as caught,
    ):
        connection.request(connection.client.count, "films")
    return caught.value


@contextmanager
def answering(answer):
    """A server that reads a request, answers it with some bytes and closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            while True:
                try:
                    client, _ = listening.accept()
                except OSError:
                    return
                with client:
                    client.recv(65536)
                    client.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]


@pytest.mark.parametrize("over_grpc", [False, True])
def test_https_asked_of_a_server_without_tls_is_said_to_be(over_grpc):
    server = shared_server()
    options = {"prefer_grpc": True, "grpc_port": server.grpc_port} if over_grpc else {}
    found = error(location=server.url.replace("http", "https"), **options)
    assert isinstance(found, QdrantTerminalError)
    assert f"does not use TLS, but is asked over https. Set `location` to '{server.url}'" in str(
        found
    )


def test_the_grpc_port_given_as_the_rest_port_is_named():
    found = error(location=f"http://127.0.0.1:{shared_server().grpc_port}")
    assert isinstance(found, QdrantTerminalError)
    assert "does not speak HTTP; it may be Qdrant's gRPC port" in str(found)
    assert "the REST port, 6333 by default" in str(found)


def test_the_rest_port_given_as_the_grpc_port_is_named():
    server = shared_server()
    port = int(server.url.rpartition(":")[2])
    found = error(location=server.url, prefer_grpc=True, grpc_port=port)
    assert isinstance(found, QdrantTerminalError)
    assert f"Port {port} (`grpc_port`)" in str(found)
    assert "does not speak gRPC; it may be Qdrant's REST port. Set `grpc_port`" in str(found)


def test_http_asked_of_a_server_with_tls_is_said_to_be():
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with context.wrap_socket(server.socket, server_side=True) as server.socket:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = error(location=f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert f"set `location` to 'https://127.0.0.1:{server.server_port}'" in str(found)


def refused(words: bytes):
    """A server that refuses what it is asked for."""
    length = str(len(words)).encode()
    return answering(b"HTTP/1.1 400 Bad\r\nContent-Length: " + length + b"\r\n\r\n" + words)


def test_a_proxy_that_takes_tls_only_is_said_to_be():
    with refused(b"The plain HTTP request was sent to HTTPS port") as port:
        found = error(location=f"http://127.0.0.1:{port}")
    assert "takes requests over TLS only" in str(found)
    assert f"Set `location` to 'https://127.0.0.1:{port}'" in str(found)


def test_a_link_in_a_message_says_nothing_of_tls():
    with refused(b"No range index. Check https://qdrant.tech/documentation") as port:
        assert "TLS" not in str(error(location=f"http://127.0.0.1:{port}"))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "gave an answer that is not Qdrant's"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno", "has no Qdrant API under this URL"),
    ],
)
def test_a_server_that_is_not_qdrant_is_said_to_be(answer, said):
    with answering(answer) as port:
        found = error(location=f"http://127.0.0.1:{port}")
    assert isinstance(found, QdrantTerminalError)
    assert said in str(found)
    assert "Set `location`" in str(found)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed", "`SSL_CERT_FILE`"),
        ("[Errno -2] Name or service not known", "Check the host name in `location`"),
        ("[Errno 111] Connection refused", "Start the server, or set `location`"),
    ],
)
def test_what_keeps_a_server_from_being_reached_has_a_remedy(words, said):
    import httpx
    from qdrant_client.http.exceptions import ResponseHandlingException

    failed = ResponseHandlingException(httpx.ConnectError(words))
    assert said in str(translate(failed, ConnectionOptions(location="https://q.example")))
