"""However long a dataset's history is, a run asks no more of the server."""

import uuid
from collections.abc import Iterator
from typing import Any

import dlt
import pytest

from dagster_qdrant import QdrantResource, qdrant_adapter
from tests.conftest import Load
from tests.qdrant_server import ServerProcess
from tests.targets import Target

pytestmark = pytest.mark.usefixtures("without_heartbeats")

FEW, MANY = 10, 2_000


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess() as server:
        yield server


@pytest.fixture
def qdrant_target(server: ServerProcess) -> Target:
    return Target("rest", {"location": server.url})


def films(disposition: str, first: int) -> Any:
    key = None if disposition == "append" else "id"

    @dlt.resource(name="films", write_disposition=disposition, primary_key=key)
    def films(since=dlt.sources.incremental("id", initial_value=0)) -> Any:
        yield [{"id": number, "title": f"film {number}"} for number in (first, first + 1)]

    return qdrant_adapter(films, embed="title")


def write_history(target: Target, dataset: str, count: int, uncompleted: int) -> None:
    """Loads, schemas and states as runs leave them, only quicker."""
    from qdrant_client import models

    def copies(table: str, count: int, change: Any) -> None:
        [*_, point] = target.points(f"{dataset}_{table}")
        points = [
            models.PointStruct(
                id=str(uuid.uuid4()), vector={}, payload={**point.payload, **change(number)}
            )
            for number in range(count)
        ]
        for start in range(0, count, 500):
            client.upsert(f"{dataset}_{table}", points=points[start : start + 500], wait=True)

    def long_ago(number: int) -> str:
        return (
            f"2020-01-{number % 28 + 1:02}T{number % 24:02}:{number % 60:02}:00.{number:06}+00:00"
        )

    with QdrantResource(**target.options).get_client() as client:
        copies("_dlt_loads", count, lambda n: {"load_id": f"{n}.5", "inserted_at": long_ago(n)})
        copies(
            "_dlt_version",
            count,
            lambda n: {"version_hash": f"hash {n}", "version": 1, "inserted_at": long_ago(n)},
        )
        copies(
            "_dlt_pipeline_state",
            count,
            lambda n: {"_dlt_load_id": f"{n}.5", "created_at": long_ago(n)},
        )
        copies(
            "_dlt_pipeline_state",
            uncompleted,
            lambda n: {
                "_dlt_load_id": f"never {n}",
                "created_at": long_ago(n).replace("2020", "2090"),
            },
        )


@pytest.fixture
def traffic_of_a_run(load: Load, server: ServerProcess, qdrant_target: Target) -> Any:
    """What a run on a fresh machine asks of the server after some history."""

    def traffic_of_a_run(disposition: str, count: int, uncompleted: int = 0) -> dict[str, Any]:
        dataset = f"films_{uuid.uuid4().hex[:8]}"
        load(films(disposition, 1), dataset_name=dataset, machine=f"first {dataset}")
        write_history(qdrant_target, dataset, count, uncompleted)
        server.reset_counts()
        load(films(disposition, 3), dataset_name=dataset, machine=f"next {dataset}")
        counts = server.counts()
        expected = [3, 4] if disposition == "replace" else [1, 2, 3, 4]
        rows = qdrant_target.rows(f"{dataset}_films")
        assert sorted(row["id"] for row in rows) == expected
        return {
            "requests": {name: by["rest"] for name, by in counts["operations"].items()},
            "bytes": counts["bytes_received"] + counts["bytes_sent"],
        }

    return traffic_of_a_run


@pytest.mark.parametrize("disposition", ["append", "merge", "replace"])
def test_a_run_asks_for_no_more_after_thousands_of_loads_than_after_ten(
    traffic_of_a_run, disposition
):
    few = traffic_of_a_run(disposition, FEW)
    many = traffic_of_a_run(disposition, MANY)
    assert many["requests"] == few["requests"]
    assert many["bytes"] <= 1.02 * few["bytes"]


def test_thousands_of_loads_that_never_completed_take_some_requests_and_no_states(
    traffic_of_a_run,
):
    few = traffic_of_a_run("append", FEW, uncompleted=5)
    many = traffic_of_a_run("append", FEW, uncompleted=MANY)
    more = sum(many["requests"].values()) - sum(few["requests"].values())
    assert 0 < more <= 20
    assert many["bytes"] - few["bytes"] < 300 * MANY


def test_a_table_that_thousands_of_loads_appended_to_is_replaced_at_once(
    load: Load, qdrant_target: Target, server, dataset
):
    from qdrant_client import models

    load(films("append", 1), machine="one")
    points = [
        models.PointStruct(
            id=number, vector={}, payload={"id": number, "_dlt_load_id": f"{number}.5"}
        )
        for number in range(MANY)
    ]
    with QdrantResource(**qdrant_target.options).get_client() as client:
        client.upsert(f"{dataset}_films", points=points, wait=True)
    load(films("replace", 3), machine="two")
    assert sorted(row["id"] for row in qdrant_target.rows(f"{dataset}_films")) == [3, 4]
    server.reset_counts()
    load(films("replace", 5), machine="three")
    assert server.counts()["bytes_sent"] < 100_000
