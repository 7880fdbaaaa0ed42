"""The way to Qdrant: sharing clients and paths, URLs, retries and errors."""

import contextlib
import logging
import pickle
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_qdrant.client import ConnectionOptions, connect
from dagster_qdrant.errors import (
    QdrantConfigurationError,
    QdrantConflictError,
    QdrantError,
    QdrantNotFoundError,
    QdrantTerminalError,
    QdrantTransientError,
)

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({}, "http://localhost:6333"),
        ({"api_key": "k"}, "http://localhost:6333"),
        ({"host": "127.0.0.1", "api_key": "k"}, "http://127.0.0.1:6333"),
        ({"host": "q.example"}, "http://q.example:6333"),
        ({"host": "q.example", "api_key": "k"}, "https://q.example:6333"),
        ({"host": "q.example", "api_key": "k", "https": False}, "http://q.example:6333"),
        ({"host": "q.example", "https": True, "port": 1}, "https://q.example:1"),
        ({"location": "q.example"}, "http://q.example:6333"),
        ({"location": "https://q.example"}, "https://q.example:6333"),
        ({"location": "http://q.example:9", "api_key": "k"}, "http://q.example:9"),
        ({"location": "http://q.example/x/"}, "http://q.example:6333/x"),
        ({"location": "http://[::1]:9"}, "http://[::1]:9"),
    ],
)
def test_the_url_follows_from_the_options(options, url):
    assert ConnectionOptions(**options).url == url


def test_a_memory_lives_as_long_as_the_process_and_is_told_apart_by_name():
    one, other = (ConnectionOptions(location=f":memory:{name}") for name in ("one", "other"))
    with connect(one) as connection:
        connection.client.create_collection("films", vectors_config={})
    with connect(one) as connection:
        assert connection.client.collection_exists("films")
    with connect(other) as connection:
        assert not connection.client.collection_exists("films")


def test_a_path_is_shared_within_a_process_and_free_afterwards(tmp_path):
    from qdrant_client import QdrantClient

    options = ConnectionOptions(path=str(tmp_path / "q"))
    with connect(options) as one, connect(options) as other:
        assert one.client is other.client
    QdrantClient(path=str(tmp_path / "q")).close()


def test_a_path_can_be_left_by_another_thread_than_the_one_that_opened_it(tmp_path):
    options = ConnectionOptions(path=str(tmp_path / "q"), lock_timeout=5)
    first_in, second_in, done = threading.Event(), threading.Event(), threading.Event()

    def opens_first_and_leaves_first():
        with connect(options):
            first_in.set()
            second_in.wait()

    def leaves_last():
        first_in.wait()
        with connect(options):
            second_in.set()
            one.join()
        done.set()

    one, two = (threading.Thread(target=f) for f in (opens_first_and_leaves_first, leaves_last))
    one.start()
    two.start()
    two.join(10)
    assert done.is_set()
    with connect(options):
        pass


def test_files_of_a_path_are_their_owners_only(tmp_path):
    with connect(ConnectionOptions(path=str(tmp_path / "q"))):
        assert (tmp_path / "q").stat().st_mode & 0o077 == 0


def hold(path: Path, seconds: float) -> subprocess.Popen[str]:
    """Another process that uses a path for a while."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(f"""
            import time
            from dagster_qdrant.client import ConnectionOptions, connect
            with connect(ConnectionOptions(path={str(path)!r})) as connection:
                print("open", flush=True)
                time.sleep({seconds})
                connection.client.create_collection("written_late", vectors_config={{}})
            """),
        ],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin"},
    )
    assert process.stdout
    process.stdout.readline()
    return process


def test_another_process_is_waited_for_and_its_writes_are_seen(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("dagster_qdrant.local_path._REPORT_INTERVAL", 0.5)
    path = tmp_path / "q"
    process = hold(path, 2)
    with (
        caplog.at_level(logging.WARNING, "dagster_qdrant"),
        connect(ConnectionOptions(path=str(path))) as connection,
    ):
        assert connection.client.collection_exists("written_late")
    assert f"Waiting for another user of {path} to close it" in caplog.text
    process.wait()


def test_waiting_for_another_process_has_an_end(tmp_path):
    process = hold(tmp_path / "q", 20)
    start = time.monotonic()
    with (
        pytest.raises(QdrantTransientError, match="kept the local Qdrant.*raise `lock_timeout`"),
        connect(ConnectionOptions(path=str(tmp_path / "q"), lock_timeout=1)),
    ):
        pass
    assert time.monotonic() - start < 5
    process.kill()


def test_a_client_that_does_not_know_our_lock_is_waited_for_too(tmp_path, caplog):
    from qdrant_client import QdrantClient

    foreign = QdrantClient(path=str(tmp_path / "q"), force_disable_check_same_thread=True)
    threading.Timer(1.5, foreign.close).start()
    with caplog.at_level(logging.WARNING), connect(ConnectionOptions(path=str(tmp_path / "q"))):
        pass
    assert "Waiting for another user of" in caplog.text


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(QdrantConfigurationError, match="`path` .*file/q cannot be used"),
        connect(ConnectionOptions(path=str(tmp_path / "file" / "q"))),
    ):
        pass


def test_local_modes_errors_are_ours():
    with connect(ConnectionOptions(location=":memory:errors")) as connection:
        client = connection.client
        with pytest.raises(QdrantNotFoundError, match="films"):
            connection.request(client.get_collection, "films")
        connection.request(client.create_collection, "films", vectors_config={})
        with pytest.raises(QdrantConflictError, match="films"):
            connection.request(client.create_collection, "films", vectors_config={})


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
    monkeypatch.setattr("tenacity.nap.time.sleep", made.append)
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
    "error",
    [QdrantTerminalError("what"), QdrantTransientError("what", 3.0), QdrantNotFoundError("what")],
)
def test_errors_survive_pickling(error: QdrantError):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == "what"
    assert getattr(copy, "retry_after", None) == getattr(error, "retry_after", None)


@given(st.text(max_size=30))
def test_any_location_is_understood_or_refused(text):
    with contextlib.suppress(QdrantConfigurationError):
        assert ConnectionOptions(location=text).url or text.startswith(":memory:")
