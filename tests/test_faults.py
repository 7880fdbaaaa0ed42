"""What goes wrong between us and a server, and what is in the collection afterwards."""

import logging
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import dlt
import numpy as np
import pytest
from dlt.pipeline.exceptions import PipelineStepFailed

from dagster_qdrant import (
    QdrantResource,
    QdrantTerminalError,
    QdrantTransientError,
    qdrant_adapter,
    qdrant_assets,
)
from dagster_qdrant.destination.tables.row_check import check_rows
from dagster_qdrant.errors import QdrantError
from tests.conftest import Load
from tests.qdrant_server import ServerProcess
from tests.targets import Target

API_KEY = "a-key-that-nobody-may-see"
READ_ONLY_KEY = "a-key-to-read-that-nobody-may-see"

ROWS = [{"id": number, "title": f"film {number % 4}"} for number in range(20)]
CHANGED = [
    *({"id": number, "title": f"film {number % 4}", "year": 2000} for number in range(5)),
    *({"id": number, "title": "another film"} for number in range(5, 10)),
    *({"id": number, "title": "a new film"} for number in range(20, 25)),
]


def films(rows: Any = ROWS, disposition: str = "merge") -> Any:
    key = "id" if disposition == "merge" else None
    resource = dlt.resource(rows, name="films", write_disposition=disposition, primary_key=key)
    return qdrant_adapter(resource, embed="title")


def expected(disposition: str) -> list[dict[str, Any]]:
    """What there is after a load of ROWS and one of CHANGED."""
    if disposition == "append":
        return ROWS + CHANGED
    if disposition == "replace":
        return CHANGED
    return list({row["id"]: row for row in ROWS + CHANGED}.values())


def _order(row: dict[str, Any]) -> str:
    return str(sorted(row.items()))


def target_of(server: ServerProcess, kind: str, api_key: str | None = API_KEY) -> Target:
    options: dict[str, Any] = {"location": server.url, "api_key": api_key}
    if kind == "grpc":
        options |= {"prefer_grpc": True, "grpc_port": server.grpc_port}
    return Target(kind, options)


@pytest.fixture(scope="module")
def the_server() -> Iterator[ServerProcess]:
    with ServerProcess(api_key=API_KEY, read_only_api_key=READ_ONLY_KEY) as server:
        yield server


@pytest.fixture
def server(the_server: ServerProcess) -> Iterator[ServerProcess]:
    """A server that behaves until it is told not to."""
    the_server.start()
    the_server.clear_faults()
    the_server.reset_counts()
    yield the_server
    the_server.start()
    assert the_server.counts()["writes_without_wait"] == 0


@pytest.fixture(params=["rest", "grpc"])
def qdrant_target(request: pytest.FixtureRequest, server: ServerProcess) -> Target:
    return target_of(server, request.param)


def operations(server: ServerProcess, qdrant_target: Target) -> dict[str, int]:
    """How many requests of each kind came by a target's protocol."""
    counts = server.counts()["operations"]
    return {name: by_protocol[qdrant_target.kind] for name, by_protocol in counts.items()}


@pytest.fixture
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Options of the resource; `with_options` adds to them."""
    return {"upload_batch_size": 4, "upload_max_retries": 2} | getattr(request, "param", {})


def over(*kinds: str) -> pytest.MarkDecorator:
    """The protocols of a test that does not need both."""
    return pytest.mark.parametrize("qdrant_target", kinds, indirect=True)


# A load takes a second or two, most of it for its collections: not all six combinations.
each_disposition = pytest.mark.parametrize(
    ("qdrant_target", "disposition"),
    [("rest", "append"), ("grpc", "merge"), ("rest", "replace")],
    indirect=["qdrant_target"],
)


def with_options(**options: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("options", [pytest.param(options, id="")], indirect=True)


@pytest.fixture
def resource(
    qdrant_target: Target, model: dict[str, Any], options: dict[str, Any]
) -> QdrantResource:
    return QdrantResource(**qdrant_target.options, **model, **options)


@pytest.fixture(autouse=True)
def _one_try_of_dlt(_no_configuration_from_outside: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOAD__RAISE_ON_MAX_RETRIES", "1")


@pytest.fixture
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dagster_qdrant.retrying._wait", lambda _state: 0.01)


no_waits = pytest.mark.usefixtures("_no_waits")


@pytest.fixture(autouse=True)
def _keys_are_shown_nowhere(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> Iterator[None]:
    """Neither in a log nor in what dlt leaves in its folders."""
    caplog.set_level(logging.DEBUG)
    yield
    for key in (API_KEY, READ_ONLY_KEY):
        assert key not in caplog.text
        for file in tmp_path.rglob("*"):
            assert not file.is_file() or key.encode() not in file.read_bytes(), file


def failure(load: Load, data: Any, **options: Any) -> QdrantError:
    """The error that a load ends with; its words are among the first that dlt shows."""
    with pytest.raises(PipelineStepFailed) as caught:
        load(data, **options)
    whole = "".join(traceback.format_exception(caught.value))
    assert API_KEY not in whole
    assert READ_ONLY_KEY not in whole
    cause: BaseException | None = caught.value
    while not isinstance(cause, QdrantError):
        assert cause is not None, whole
        cause = cause.__cause__
    assert str(cause) in str(caught.value)
    return cause


@pytest.fixture
def holds(qdrant_target: Target, server: ServerProcess, dataset: str, embedder: Any) -> Any:
    """Asserts that the collection has exactly some rows, each with the vector of its text."""

    def holds(rows: list[dict[str, Any]]) -> None:
        server.clear_faults()
        points = qdrant_target.points(f"{dataset}_films", vectors=True)
        found = [
            {k: v for k, v in point.payload.items() if not k.startswith("_dlt")} for point in points
        ]
        assert sorted(found, key=_order) == sorted(rows, key=_order)
        vectors = np.array([next(iter(point.vector.values())) for point in points])
        wanted = embedder.embed([row["title"] for row in found])
        np.testing.assert_allclose(vectors, wanted, atol=1e-5)

    return holds


def starts_again(server: ServerProcess) -> threading.Thread:
    """Starts a server as soon as it is dead."""

    def wait_and_start() -> None:
        while server.running:
            time.sleep(0.02)
        server.start()

    thread = threading.Thread(target=wait_and_start)
    thread.start()
    return thread


# -- a server that is away ------------------------------------------------------------------------


@with_options(upload_max_retries=1)
def test_a_server_that_is_down_is_named_with_its_remedy(load: Load, server, qdrant_target, holds):
    server.stop()
    error = failure(load, films())
    assert isinstance(error, QdrantTransientError)
    assert str(error).startswith(f"No Qdrant could be reached at {server.url}: ")
    assert "Start the server, or set `location`" in str(error)
    server.start()
    load(films())
    holds(ROWS)


@with_options(upload_max_retries=6)
@each_disposition
def test_a_server_that_dies_and_comes_back_is_waited_for(
    load: Load, server, qdrant_target, holds, disposition, caplog
):
    server.fault("die", operation="upsert", collection=".*_films", after=2)
    thread = starts_again(server)
    load(films(disposition=disposition))
    thread.join()
    holds(ROWS)
    assert f"No Qdrant could be reached at {server.url}" in caplog.text
    assert "Trying again in" in caplog.text


@with_options(upload_max_retries=1)
@each_disposition
def test_a_load_that_a_dead_server_ended_is_finished_by_the_next_run(
    load: Load, server, qdrant_target, holds, disposition
):
    server.fault("die", operation="upsert", collection=".*_films", after=2, when="after")
    error = failure(load, films(disposition=disposition))
    assert isinstance(error, QdrantTransientError)
    assert f"No Qdrant could be reached at {server.url}" in str(error)
    server.start()
    load(films(disposition=disposition))
    holds(ROWS)


@with_options(upload_max_retries=1, abandoned_after=1)
@pytest.mark.parametrize(
    ("qdrant_target", "disposition"),
    [("grpc", "merge"), ("rest", "replace")],
    indirect=["qdrant_target"],
)
def test_a_load_that_failed_on_one_machine_is_finished_by_another(
    load: Load, server, qdrant_target, holds, disposition
):
    server.fault("die", operation="upsert", collection=".*_films", after=2, when="after")
    failure(load, films(disposition=disposition), machine="one")
    server.start()
    load(films(disposition=disposition), machine="two")
    holds(ROWS)


# -- a server that is busy ------------------------------------------------------------------------


def test_a_server_that_asks_for_time_gets_it(load: Load, server, qdrant_target, holds, caplog):
    server.fault("answer", status=429, retry_after=1, operation="upsert", after=1, times=1)
    server.fault("answer", status=429, operation="upsert", after=4, times=1)
    load(films())
    holds(ROWS)
    said = [r.getMessage() for r in caplog.records if "Trying again in" in r.getMessage()]
    assert len(said) == 2
    assert all("Rate limiting exceeded" in message for message in said)
    assert f"Qdrant at {server.url} is overloaded: " in said[0]
    assert "Trying again in 1.0 s (try 2)" in said[0]


@no_waits
def test_a_storm_that_outlasts_all_retries_ends_the_load_until_it_is_over(
    load: Load, server, qdrant_target, holds
):
    server.fault("answer", status=429, retry_after=1, operation="upsert", collection=".*_films")
    error = failure(load, films())
    assert isinstance(error, QdrantTransientError)
    assert f"Qdrant at {server.url} is overloaded: " in str(error)
    server.clear_faults()
    load(films())
    holds(ROWS)


@no_waits
@with_options(upload_max_retries=9)  # of four at a time, one may be the fifth more than once
def test_one_failure_in_every_five_requests_is_not_noticed(
    load: Load, server, qdrant_target, holds
):
    server.fault("answer", status=500, every=5)
    for rows in (ROWS, CHANGED):
        load(films(rows))
    assert server.faults()[0]["struck"] > 5
    holds(expected("merge"))


@no_waits
@over("rest")
@with_options(timeout=1)
def test_an_answer_that_comes_too_late_is_asked_for_again(load: Load, server, qdrant_target, holds):
    slow = {"operation": "upsert", "collection": ".*_films", "seconds": 1.5}
    server.fault("delay", times=1, **slow)
    load(films(disposition="append"))
    holds(ROWS)


@no_waits
@with_options(timeout=1, upload_max_retries=0)
def test_a_server_that_is_always_too_slow_is_said_to_be(load: Load, server, qdrant_target, holds):
    server.fault("delay", operation="upsert", collection=".*_films", seconds=1.5, times=10)
    error = failure(load, films())
    assert isinstance(error, QdrantTransientError)
    assert f"Qdrant at {server.url} did not answer within 1 s. Raise `timeout`." in str(error)
    server.clear_faults()
    load(films())
    holds(ROWS)


# -- answers that get lost ------------------------------------------------------------------------


@no_waits
@each_disposition
@with_options(upload_max_retries=9)
def test_a_write_whose_answer_got_lost_doubles_nothing(
    load: Load, server, qdrant_target, holds, disposition
):
    # Not every other one: signs of life are writes too, and could keep step with the retries. So
    # could collections that are made four at a time, but for so many retries.
    server.fault("cut", when="after", access="write", every=3)
    for rows in (ROWS, CHANGED):
        load(films(rows, disposition))
    assert server.faults()[0]["struck"] > 5
    holds(expected(disposition))


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("a-wrong-key", "refused the API key it was given: Invalid API key"),
        (None, "refused a request without an API key: Must provide an API key"),
        (READ_ONLY_KEY, "refused the API key it was given: Forbidden: "),
    ],
    ids=["wrong", "none", "read-only"],
)
def test_a_key_that_may_not_write_is_refused_at_once(
    server, qdrant_target, model, dataset, tmp_path, key, words
):
    resource = QdrantResource(**target_of(server, qdrant_target.kind, key).options, **model)

    def load(data):
        pipeline = dlt.pipeline(
            "films",
            destination=resource.destination(),
            dataset_name=dataset,
            pipelines_dir=str(tmp_path / "pipelines"),
        )
        pipeline.run(data)

    error = failure(load, films())
    assert isinstance(error, QdrantTerminalError)
    assert f"Qdrant at {server.url} {words}" in str(error)
    assert "Set `api_key` to a key that may write." in str(error)
    assert "a-wrong-key" not in str(error)
    assert not {name for name in qdrant_target.collections() if name.startswith(dataset)}
    # dlt's three tables are made at once.
    assert all(number <= 3 for number in operations(server, qdrant_target).values())


@pytest.mark.parametrize(
    ("qdrant_target", "answer"),
    [
        ("rest", {"status": 507}),
        ("grpc", {"status": 507}),
        ("rest", {"status": 500, "message": "Service internal error: No space left on device"}),
    ],
    ids=["rest-507", "grpc-507", "rest-500"],
    indirect=["qdrant_target"],
)
def test_a_full_disk_ends_the_load_at_once(load: Load, server, qdrant_target, holds, answer):
    load(films())
    server.fault("answer", operation="upsert", collection=".*_films", **answer)
    error = failure(load, films(CHANGED))
    assert isinstance(error, QdrantTerminalError)
    assert f"Qdrant at {server.url} has no space left: " in str(error)
    assert server.faults()[0]["struck"] <= 2  # one more may have been on its way
    holds(ROWS)


# -- a collection that goes away ------------------------------------------------------------------


@pytest.fixture
def deleted_under_way(server: ServerProcess, qdrant_target: Target, dataset: str) -> Iterator[None]:
    """Deletes the collection as soon as something is in it."""
    upserts = {"operation": "upsert", "collection": ".*_films"}
    server.fault("delay", **upserts, after=1, seconds=1, times=1)

    def delete() -> None:
        with QdrantResource(**qdrant_target.options).get_client() as client:
            client.get_collections()  # connects, so that there is time enough on a busy machine
            while not any(fault["struck"] for fault in server.faults()):
                time.sleep(0.02)
            client.delete_collection(f"{dataset}_films")

    thread = threading.Thread(target=delete)
    thread.start()
    yield
    thread.join()


@pytest.mark.usefixtures("deleted_under_way")
def test_a_collection_that_is_deleted_under_way_is_created_anew(
    load: Load, qdrant_target, dataset, holds, monkeypatch
):
    monkeypatch.delenv("LOAD__RAISE_ON_MAX_RETRIES")
    load(films())
    holds(ROWS)


@over("rest")
def test_files_that_were_loaded_before_their_collection_was_deleted_are_loaded_again(
    load: Load, server, qdrant_target, dataset, holds, monkeypatch, request
):
    monkeypatch.setenv("DATA_WRITER__FILE_MAX_ITEMS", "5")
    monkeypatch.delenv("LOAD__RAISE_ON_MAX_RETRIES")
    request.getfixturevalue("deleted_under_way")
    load(films())
    holds(ROWS)


@over("rest")
@pytest.mark.usefixtures("deleted_under_way")
def test_a_collection_that_is_deleted_under_way_is_said_to_be(
    load: Load, qdrant_target, dataset, holds
):
    error = failure(load, films())
    assert isinstance(error, QdrantTransientError)
    assert f"Collection `{dataset}_films` was deleted while table `films`" in str(error)
    load(films())
    holds(ROWS)


# -- requests that are too large ------------------------------------------------------------------


@pytest.fixture(scope="module")
def narrow_server() -> Iterator[ServerProcess]:
    with ServerProcess(api_key=API_KEY, max_body=60_000, max_message=20_000) as server:
        yield server


@pytest.mark.parametrize("kind", ["rest", "grpc"])
def test_a_request_over_the_servers_limit_is_split(narrow_server, kind, model, dataset, load_into):
    qdrant_target = target_of(narrow_server, kind)
    narrow_server.reset_counts()
    load_into(qdrant_target, films(), upload_batch_size=64)
    assert sorted(row["id"] for row in qdrant_target.rows(f"{dataset}_films")) == list(range(20))
    assert (
        operations(narrow_server, qdrant_target)["upsert"] > 4
    )  # one for each table if it were whole


@pytest.mark.parametrize("kind", ["rest", "grpc"])
def test_a_row_over_the_servers_limit_is_shown(narrow_server, kind, dataset, load_into):
    qdrant_target = target_of(narrow_server, kind)
    rows = [*ROWS[:3], {"id": 99, "title": "Shoah", "script": "word " * 20_000}]
    error = failure(lambda data: load_into(qdrant_target, data), films(rows))
    assert isinstance(error, QdrantTerminalError)
    assert "A row of table `films` has 100," in str(error)
    assert "'title': 'Shoah'" in str(error)
    assert "Shorten it, or raise the server's limit." in str(error)
    assert len(str(error)) < 1000
    load_into(qdrant_target, films(ROWS[:3]), machine="two")
    assert len(qdrant_target.rows(f"{dataset}_films")) == 3


@pytest.fixture
def load_into(model: dict[str, Any], dataset: str, tmp_path: Path) -> Any:
    """Load into a server that is not the module's."""

    def load_into(
        qdrant_target: Target,
        data: Any,
        *,
        name: str = "films",
        machine: str = "here",
        **options: Any,
    ) -> Any:
        pipeline = dlt.pipeline(
            name,
            destination=QdrantResource(**qdrant_target.options, **model, **options).destination(),
            dataset_name=dataset,
            pipelines_dir=str(tmp_path / machine),
        )
        pipeline.run(data)
        return pipeline

    return load_into


# -- many at once ---------------------------------------------------------------------------------


def test_two_runs_may_create_the_same_collections_at_the_same_moment(
    server, qdrant_target, load_into, holds
):
    server.fault("delay", operation="create_collection", seconds=0.3)
    errors: list[BaseException] = []

    def run(name: str, rows: Any) -> None:
        try:
            load_into(qdrant_target, films(rows), name=name)
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=run, args=("one", ROWS[:12])),
        threading.Thread(target=run, args=("two", ROWS[8:])),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert operations(server, qdrant_target)["create_collection"] > 4
    holds(ROWS)


@with_options(upload_parallelism=4)
def test_uploads_run_in_parallel_and_over_the_protocol_that_was_asked_for(
    load: Load, server, qdrant_target, holds
):
    server.fault("delay", operation="upsert", seconds=0.2)
    load(films())
    counts = server.counts()
    assert counts["max_upserts_in_flight"] >= 4
    used = {
        protocol
        for by_protocol in counts["operations"].values()
        for protocol, number in by_protocol.items()
        if number
    }
    assert used == {qdrant_target.kind}
    holds(ROWS)


# -- strict mode ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strict_server() -> Iterator[ServerProcess]:
    with ServerProcess(api_key=API_KEY, strict=True) as server:
        yield server


def test_a_strict_server_lets_every_step_through(strict_server, dataset, model, tmp_path):
    qdrant_target = target_of(strict_server, "rest")

    def load(data: Any, machine: str, **options: Any) -> None:
        pipeline = dlt.pipeline(
            "films",
            destination=QdrantResource(**qdrant_target.options, **model).destination(),
            dataset_name=dataset,
            pipelines_dir=str(tmp_path / machine),
        )
        pipeline.run(data, **options)

    def ids(table: str) -> list[int]:
        return sorted(row["id"] for row in qdrant_target.rows(f"{dataset}_{table}"))

    @dlt.resource(name="added", primary_key="id")
    def added(upto: int, since=dlt.sources.incremental("id", initial_value=0)):
        yield [{"id": n, "title": "a film", "tags": ["a"]} for n in range(since.last_value, upto)]

    load(added(3), "one")
    load(added(5), "two")  # goes on where the other machine stopped
    assert ids("added") == [0, 1, 2, 3, 4]

    columns = {"gone": {"hard_delete": True, "data_type": "bool"}}
    merged = {"name": "merged", "write_disposition": "merge", "primary_key": "id"}
    rows = [{"id": n, "title": "a film", "tags": ["a", "b"]} for n in range(3)]
    load(qdrant_adapter(dlt.resource(rows, columns=columns, **merged), embed="title"), "one")
    rows = [{"id": 0, "gone": True}, {"id": 1, "title": "changed", "tags": ["a"]}, {"id": 9}]
    load(qdrant_adapter(dlt.resource(rows, columns=columns, **merged), embed="title"), "two")
    assert ids("merged") == [1, 2, 9]
    assert [r["value"] for r in qdrant_target.rows(f"{dataset}_merged__tags")].count("b") == 1

    for disposition, rows in (
        ("replace", [{"id": n, "tags": ["a", "b"]} for n in range(2)]),
        ("merge", [{"id": 0}]),  # nothing of the nested table
        ("merge", [{"id": 1, "tags": ["c"]}, {"id": 1, "tags": ["d"]}]),
    ):
        merged = {"name": "turned", "write_disposition": disposition, "primary_key": "id"}
        load(check_rows(dlt.resource(rows, **merged)), "one")
    assert qdrant_target.rows(f"{dataset}_turned__tags") == [{"value": "d"}]

    for first in (0, 10):
        load(films([{"id": n, "title": "a film"} for n in (first, 10)], "replace"), "one")
    assert ids("films") == [10, 10]

    load(films(ROWS[:2], "replace"), "three", refresh="drop_resources")
    assert ids("films") == [0, 1]
    load(films(ROWS[:1], "append"), "three", refresh="drop_data")
    assert ids("films") == [0]
    load(films(ROWS[:3], "append"), "three", refresh="drop_sources")
    assert ids("films") == [0, 1, 2]
    assert strict_server.counts()["writes_without_wait"] == 0


# -- Dagster, whose runs cannot be resumed ---------------------------------------------------------


def materialize(
    resource: QdrantResource, dataset: str, disposition: str, rows: Any = ROWS, retries: int = 1
) -> Any:
    """A run of an asset that Dagster tries twice."""

    @qdrant_assets(
        dlt_source=films(rows, disposition),
        dataset_name=dataset,
        retry_policy=dg.RetryPolicy(max_retries=retries),
    )
    def assets(context: dg.AssetExecutionContext, qdrant: QdrantResource):
        yield from qdrant.run(context)

    return dg.materialize([assets], resources={"qdrant": resource}, raise_on_error=False)


@no_waits
@over("rest")
@pytest.mark.parametrize(
    ("status", "words"),
    [(503, "answered 503"), (507, "has no space left")],
    ids=["transient", "terminal"],
)
@pytest.mark.parametrize("disposition", ["append", "replace"])
def test_a_run_after_one_that_failed_leaves_no_row_twice(
    resource, server, qdrant_target, dataset, holds, disposition, status, words
):
    server.fault("answer", status=status, operation="upsert", collection=".*_films", after=2)
    result = materialize(resource, dataset, disposition)
    [event] = result.filter_events(lambda event: event.is_step_failure)
    assert words in event.event_specific_data.user_failure_data.description
    assert API_KEY not in str(event)
    retries = list(result.filter_events(lambda event: event.is_step_up_for_retry))
    assert len(retries) == (status == 503)
    server.clear_faults()
    assert materialize(resource, dataset, disposition).success
    holds(ROWS)


@no_waits
@over("rest")
def test_the_run_after_one_that_could_not_say_that_it_failed_finds_out(
    qdrant_target, model, server, dataset, holds
):
    server.fault("die", operation="upsert", collection=".*_films", after=2)
    options = {"abandoned_after": 0.2, "upload_batch_size": 4}
    resource = QdrantResource(**qdrant_target.options, **model, **options)
    assert not materialize(resource, dataset, "append").success
    server.start()
    assert materialize(resource, dataset, "append").success
    holds(ROWS)


@no_waits
@over("rest")
@pytest.mark.parametrize("disposition", ["append", "replace"])
def test_what_a_run_embedded_before_it_failed_is_not_embedded_again(
    qdrant_target, model, server, dataset, holds, disposition
):
    server.fault("answer", status=507, operation="upsert", collection=".*_films", after=2)
    resource = QdrantResource(**qdrant_target.options, **model, upload_batch_size=4)
    assert not materialize(resource, dataset, disposition).success
    server.clear_faults()
    result = materialize(resource, dataset, disposition)
    [materialization] = result.asset_materializations_for_node("assets")
    assert materialization.metadata["texts_embedded"].value == 0
    holds(ROWS)


@over("rest")
def test_a_load_that_is_taken_for_dead_though_it_lives_fails_and_loses_nothing(
    resource, qdrant_target, model, dataset, tmp_path, load, monkeypatch
):
    from dagster_qdrant.destination.loads.load_leases import LoadLease
    from dagster_qdrant.destination.writing.text_vectors import TextVectors

    original = TextVectors.give

    def slow(self: TextVectors, embedding: Any) -> None:
        original(self, embedding)
        if "slow" not in marks and self._plan.table_name == "films":
            marks.append("slow")
            impatient = QdrantResource(**qdrant_target.options, **model, abandoned_after=0.01)
            with monkeypatch.context() as patched:  # nobody shows a sign of life
                patched.setattr(LoadLease, "_beat", lambda *_: None)
                thread = threading.Thread(
                    target=materialize, args=[impatient, dataset, "append"], kwargs={"rows": more}
                )
                thread.start()
                thread.join()
            time.sleep(1)  # it wakes up

    more = [{"id": 100 + number, "title": "more"} for number in range(3)]
    marks: list[str] = []
    monkeypatch.setattr(TextVectors, "give", slow)
    result = materialize(resource, dataset, "append", retries=0)
    monkeypatch.undo()
    [event] = result.filter_events(lambda event: event.is_step_failure)
    said = event.event_specific_data.user_failure_data.description
    assert "stalled. Another run declared it dead" in said
    assert "Run it again" in said
    assert materialize(resource, dataset, "append").success
    found = [row["id"] for row in qdrant_target.rows(f"{dataset}_films")]
    assert sorted(found) == [*range(20), 100, 101, 102]
