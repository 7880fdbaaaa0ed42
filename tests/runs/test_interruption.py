"""A load that is told to stop stops, wherever it is, and the next one makes up for it."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dagster_qdrant.qdrant.connection import connect
from dagster_qdrant.qdrant.connection_options import ConnectionOptions
from tests import interrupting
from tests.interrupting import FOR_EVER, Work
from tests.qdrant_server import ServerProcess
from tests.targets import Target

# A load stops within two seconds. The rest is for Dagster, for the process to end, and for machines
# that have other things to do.
SOON = 2.0 + 6.0


@pytest.fixture(scope="module")
def child() -> Any:
    """Makes processes that have all modules imported when they start."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.interrupting", "qdrant_client", "fastembed"])
    return context.Process


def wait_until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


@pytest.fixture
def stop(child: Any) -> Iterator[Callable[..., float]]:
    """Starts a load in another process and tells it to stop as soon as a condition holds."""
    processes: list[Any] = []

    def stop(
        load: Callable[[Work], None],
        work: Work,
        when: Callable[[], Any] | None = None,
        number: int = signal.SIGTERM,
        *,
        later: float = 0.3,
        terminate: bool = True,
    ) -> float:
        with interrupting.instance(work):
            pass  # made by one process, not by two at the same moment
        process = child(target=load, args=(work,))
        processes.append(process)
        process.start()
        wait_until(when or work.begun.exists)
        time.sleep(later)
        assert process.is_alive()
        if load is not interrupting.script and terminate:
            with interrupting.instance(work) as instance:
                [run] = instance.get_runs()
                instance.report_run_canceling(run)
        start = time.monotonic()
        os.kill(process.pid, number)
        process.join(30)
        seconds = time.monotonic() - start
        assert process.exitcode is not None, "it goes on"
        return seconds

    yield stop
    for process in processes:
        process.kill()
        process.join()


def events(work: Work, kind: dg.DagsterEventType) -> list[Any]:
    with interrupting.instance(work) as instance:
        [run] = instance.get_runs()
        return [entry.dagster_event for entry in instance.all_logs(run.run_id, of_type=kind)]


def status(work: Work) -> dg.DagsterRunStatus:
    with interrupting.instance(work) as instance:
        [run] = instance.get_runs()
        return run.status


def assert_cancelled(work: Work) -> str:
    """What the step said that was cancelled, and not tried again."""
    assert status(work) is dg.DagsterRunStatus.CANCELED
    assert events(work, dg.DagsterEventType.STEP_UP_FOR_RETRY) == []
    [event] = events(work, dg.DagsterEventType.STEP_FAILURE)
    return event.event_specific_data.error.message


@pytest.fixture
def work(model, dataset, tmp_path) -> Work:
    """A load into a path."""
    return Work({"path": str(tmp_path / "qdrant"), **model}, dataset, str(tmp_path))


@pytest.mark.parametrize("source", ["slow", "stubborn", "threaded", "many"])
def test_a_run_is_stopped_while_its_source_is_read_or_normalized(stop, work, source):
    work = replace(work, source=source)
    assert stop(interrupting.run, work, later=2.0 if source == "many" else 0.3) < SOON
    said = assert_cancelled(work)
    assert "The load was told to stop. Nothing was written." in said
    assert "pending" not in said


@pytest.fixture
def embeds(work) -> Callable[[], bool]:
    """Whether rows are being embedded: the collection is there."""

    def embeds() -> bool:
        collection = f"{work.dataset}_films"
        return (Path(work.options["path"]) / "collection" / collection).exists()

    return embeds


@pytest.mark.parametrize(
    ("load", "number"),
    [
        (interrupting.run, signal.SIGINT),
        (interrupting.run_in_processes, signal.SIGTERM),
        (interrupting.script, signal.SIGINT),
        (interrupting.script, signal.SIGTERM),
    ],
)
def test_a_load_is_stopped_while_it_embeds(stop, work, embeds, load, number):
    assert stop(load, work, embeds, number, later=1.5) < SOON
    if load is not interrupting.script:
        said = assert_cancelled(work)
        assert (
            "The load was told to stop. What it wrote stays. The next run completes the load"
            in said
        )


@pytest.fixture(scope="module")
def the_server() -> Iterator[ServerProcess]:
    with ServerProcess() as server:
        yield server


@pytest.fixture
def server(the_server: ServerProcess) -> Iterator[ServerProcess]:
    yield the_server
    the_server.clear_faults()


@pytest.fixture
def far(server, model, dataset, tmp_path) -> Work:
    """A short load into a server."""
    options = {"location": server.url, "abandoned_after": 2.0, **model}
    return Work(options, dataset, str(tmp_path), "short", "replace")


def rows(work: Work) -> list[int]:
    return sorted(row["id"] for row in Target("rest", work.options).rows(f"{work.dataset}_films"))


FAULTS = {
    "a server that does not answer a write": {"action": "delay", "operation": "upsert"},
    "a server that does not answer a question": {"action": "delay", "operation": "retrieve"},
    "a server that asks for time": {"action": "answer", "status": 429, "retry_after": 30},
}


@pytest.mark.parametrize(
    ("load", "fault"),
    [(interrupting.run, fault) for fault in FAULTS]
    + [(interrupting.script, "a server that does not answer a write")],
)
def test_a_load_is_stopped_while_it_waits_for(stop, far, server, load, fault):
    options = {"upload_max_retries": 50, **far.options}
    far = replace(far, options=options)
    fault = {"operation": "upsert", "seconds": FOR_EVER, **FAULTS[fault]}
    server.fault(collection=".*_films", **fault)

    def meets_it() -> bool:
        return any(each["struck"] for each in server.faults())

    assert stop(load, far, meets_it) < SOON
    if load is interrupting.run:
        assert_cancelled(far)
    server.clear_faults()
    load(far)
    assert rows(far) == list(range(20))


def test_a_load_is_stopped_while_it_waits_for_another_one_which_goes_on(stop, child, far, server):
    server.fault("delay", operation="upsert", collection=".*_films", seconds=FOR_EVER)
    first = child(target=interrupting.script, args=(far,))
    first.start()
    wait_until(lambda: any(each["struck"] for each in server.faults()))
    folder = Path(far.folder) / "second"
    folder.mkdir()
    second = replace(far, folder=str(folder), options={**far.options, "abandoned_after": 60.0})

    def is_claimed_twice() -> bool:
        records = Target("rest", far.options).points(f"{far.dataset}__dlt_loads")
        return len(records) == 2

    assert stop(interrupting.run, second, is_claimed_twice, later=0.5) < SOON
    assert_cancelled(second)
    assert first.is_alive()
    first.kill()
    first.join()


def test_a_load_is_stopped_while_another_process_has_its_path(stop, work):
    work = replace(work, source="short")
    with connect(ConnectionOptions(path=work.options["path"])):

        def is_under_way() -> bool:
            with interrupting.instance(work) as instance:
                return bool(
                    instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
                )

        assert stop(interrupting.run, work, is_under_way, later=1.5) < SOON
    assert_cancelled(work)


@pytest.mark.parametrize("load", [interrupting.run, interrupting.script])
def test_a_load_is_stopped_while_it_completes(stop, far, server, load):
    load(far)
    server.fault("delay", operation="delete", collection=".*_films", seconds=3.0)
    far.begun.unlink()
    fewer = replace(far, source="fewer", folder=f"{far.folder}/second")
    Path(fewer.folder).mkdir()

    def meets_it() -> bool:
        return any(each["struck"] for each in server.faults())

    assert stop(load, fewer, meets_it) < SOON
    server.clear_faults()
    load(fewer)
    assert rows(far) == list(range(5))


def test_a_run_that_was_stopped_is_not_waited_for_by_the_next_one(stop, work, embeds):
    """The one after it would wait for a minute for any other silent load."""
    work = replace(work, options={**work.options, "abandoned_after": 60.0}, disposition="merge")
    stop(interrupting.run, work, embeds, later=1.5)
    start = time.monotonic()
    interrupting.script(replace(work, source="short"))
    assert time.monotonic() - start < 30
