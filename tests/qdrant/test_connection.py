"""The way to Qdrant: shared clients, retries and what a server says."""

import ssl
import threading
from functools import partial

import pytest

from dagster_qdrant.errors import (
    QdrantRefusedError,
    QdrantTerminalError,
    QdrantTransientError,
)
from dagster_qdrant.qdrant.connection import _SharedClients, connect, open_client
from dagster_qdrant.qdrant.connection_options import ConnectionOptions


def test_a_memory_lives_as_long_as_the_process_and_is_told_apart_by_name():
    one, other = (ConnectionOptions(location=f":memory:{name}") for name in ("one", "other"))
    with connect(one) as connection:
        connection.client.create_collection("films", vectors_config={})
    with connect(one) as connection:
        assert connection.client.collection_exists("films")
    with connect(other) as connection:
        assert not connection.client.collection_exists("films")


def test_clients_that_stay_open_are_closed_when_the_process_ends(monkeypatch):
    at_the_end = []
    monkeypatch.setattr("atexit.register", at_the_end.append)
    clients = _SharedClients()
    for port in (9, 10):
        with clients.lease(ConnectionOptions(location=f"http://127.0.0.1:{port}")) as connection:
            assert not connection.client._client.closed
    [close] = at_the_end
    close()
    assert connection.client._client.closed


def unexpected(status: int, content: bytes = b"", **headers: str):
    import httpx
    from qdrant_client.http.exceptions import UnexpectedResponse

    return UnexpectedResponse(status, "", content, httpx.Headers(headers))


def failing(connection, errors):
    """An operation that raises one error after another, then succeeds."""
    remaining = list(errors)

    def operation():
        if remaining:
            raise remaining.pop(0)
        return "done"

    return operation


@pytest.fixture
def connection():
    with connect(ConnectionOptions(location="http://127.0.0.1:9", max_retries=2)) as connection:
        yield connection


@pytest.fixture
def waits(monkeypatch):
    """The waits that would have been made."""
    made: list[float] = []
    monkeypatch.setattr("dagster_qdrant.retrying.pause", made.append)
    return made


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_failures_are_tried_again_with_growing_waits(connection, waits, status):
    errors = [unexpected(status), unexpected(status)]
    assert connection.request(failing(connection, errors)) == "done"
    assert 0.5 <= waits[0] <= 1.0 <= waits[1] <= 1.5


def test_a_server_that_asks_for_time_gets_it_up_to_a_limit(connection, waits):
    errors = [unexpected(429, **{"retry-after": "7"}), unexpected(429, **{"retry-after": "900"})]
    connection.request(failing(connection, errors))
    assert waits == [7.0, 30.0]


def test_retries_have_an_end(connection, waits):
    with pytest.raises(QdrantTransientError, match="answered 503: busy"):
        connection.request(failing(connection, [unexpected(503, b"busy")] * 3))
    assert len(waits) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 507])
def test_refusals_are_final(connection, waits, status):
    with pytest.raises(QdrantTerminalError):
        connection.request(failing(connection, [unexpected(status)]))
    assert waits == []


def test_the_servers_own_words_are_kept(connection):
    words = b'{"status":{"error":"Wrong input: expected dim: 4, got 3"},"time":0.0}'
    with pytest.raises(QdrantTerminalError, match="answered 400: Wrong input: expected dim: 4"):
        connection.request(failing(connection, [unexpected(400, words)]))


def test_a_wrong_key_is_said_to_be_one_and_not_shown():
    options = ConnectionOptions(location="http://127.0.0.1:9", api_key="very-secret")
    with (
        connect(options) as connection,
        pytest.raises(QdrantTerminalError, match="refused the API key.*Set `api_key`") as caught,
    ):
        connection.request(failing(connection, [unexpected(401, b"Invalid API key")]))
    assert "very-secret" not in str(caught.value)


def test_errors_of_the_program_are_not_hidden(connection):
    with pytest.raises(ZeroDivisionError):
        connection.request(lambda: 1 // 0)


@pytest.mark.parametrize(
    ("theirs", "told"),
    [("1.2.3", "The server is version 1.2.3, and qdrant-client"), ("unknown", "Unknown field$")],
)
def test_a_refusal_says_when_the_versions_are_too_far_apart(connection, monkeypatch, theirs, told):
    from qdrant_client.models import VersionInfo

    monkeypatch.setattr(
        connection.client, "info", lambda: VersionInfo(title="qdrant", version=theirs)
    )
    with pytest.raises(QdrantRefusedError, match=told):
        connection.request(failing(connection, [unexpected(400, b"Unknown field")]))


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_certificates_are_read_where_there_is_tls(monkeypatch, scheme):
    read = []
    ssl.create_default_context.cache_clear()  # tests keep what was read: `tests/once.py`
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: read.append(1))
    open_client(ConnectionOptions(location=f"{scheme}://localhost:1")).close()
    ssl.create_default_context.cache_clear()
    assert bool(read) is (scheme == "https")


def test_only_a_client_of_the_users_own_looks_for_texts_to_embed_in_what_it_writes(monkeypatch):
    from qdrant_client.models import PointStruct

    options = ConnectionOptions(location="http://127.0.0.1:9")

    def looks(client) -> int:
        looked = []
        monkeypatch.setattr(client._inference_inspector, "inspect", looked.append)
        monkeypatch.setattr(client._client, "upsert", lambda **_: None)
        client.upsert("films", [PointStruct(id=1, vector=[1.0])])
        return len(looked)

    with connect(options) as connection:
        assert looks(connection.client) == 0
    users = open_client(options)
    assert looks(users) == 1
    users.close()


class TestRequestsAtOnce:
    def test_some_run_at_a_time_and_come_back_in_their_order(self, connection):
        together = threading.Barrier(4, timeout=30)

        def call(number):
            return lambda: (together.wait(), number)[1]

        assert connection.at_once(map(call, range(8))) == list(range(8))

    def test_after_a_failure_those_that_wait_are_not_begun(self, connection):
        begun = []

        def call(number):
            begun.append(number)
            if number == 0:
                raise QdrantTerminalError("no")
            threading.Event().wait(0.3)

        with pytest.raises(QdrantTerminalError, match="no"):
            connection.at_once(partial(call, number) for number in range(200))
        assert len(begun) < 200

    def test_local_mode_does_one_thing_after_the_other(self):
        with connect(ConnectionOptions(location=":memory:")) as connection:
            threads = connection.at_once([threading.current_thread] * 3)
        assert threads == [threading.current_thread()] * 3
