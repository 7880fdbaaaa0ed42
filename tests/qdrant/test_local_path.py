"""One process at a time on a local path."""

import logging
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from dagster_qdrant.errors import (
    QdrantConfigurationError,
    QdrantTransientError,
)
from dagster_qdrant.qdrant.connection import connect
from dagster_qdrant.qdrant.connection_options import ConnectionOptions

ROOT = Path(__file__).parents[2]


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
            from dagster_qdrant.qdrant.connection import connect
            from dagster_qdrant.qdrant.connection_options import ConnectionOptions
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
    monkeypatch.setattr("dagster_qdrant.qdrant.local_path._REPORT_INTERVAL", 0.5)
    path = tmp_path / "q"
    process = hold(path, 2)
    with (
        caplog.at_level(logging.WARNING, "dagster_qdrant"),
        connect(ConnectionOptions(path=str(path))) as connection,
    ):
        assert connection.client.collection_exists("written_late")
    assert f"Another process or client uses {path}. Waiting for it" in caplog.text
    process.wait()


def test_waiting_for_another_process_has_an_end(tmp_path):
    process = hold(tmp_path / "q", 20)
    start = time.monotonic()
    with (
        pytest.raises(
            QdrantTransientError, match="The local Qdrant.*was in use.*raise `lock_timeout`"
        ),
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
    assert "Another process or client uses" in caplog.text


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(QdrantConfigurationError, match="`path` .*file/q cannot be used"),
        connect(ConnectionOptions(path=str(tmp_path / "file" / "q"))),
    ):
        pass
