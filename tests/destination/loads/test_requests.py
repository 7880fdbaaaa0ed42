"""How many requests a load makes of a server, which is what it costs where nothing changed."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import dlt
import pytest

from dagster_qdrant import QdrantResource, qdrant_adapter, qdrant_assets
from dagster_qdrant.qdrant.connection import Connection
from tests.conftest import Load
from tests.qdrant_server import ServerProcess
from tests.targets import API_KEY, Target, shared_server

pytestmark = pytest.mark.usefixtures("without_heartbeats")

ROWS = [{"id": number, "title": f"film {number}"} for number in range(6)]
# To describe a table that Dagster shows: its rows, its collection, and three for its pictures.
TO_SHOW_IT = 5


@pytest.fixture
def qdrant_target(dataset: str) -> Iterator[Target]:
    target = Target("rest", {"location": shared_server().url, "api_key": API_KEY})
    yield target
    target.clean_up(dataset)


@pytest.fixture
def resource(qdrant_target: Target, model: dict[str, Any]) -> QdrantResource:
    return QdrantResource(**qdrant_target.options, **model)


def films(disposition: str) -> Any:
    resource = dlt.resource(ROWS, name="films", write_disposition=disposition, primary_key="id")
    return qdrant_adapter(resource, embed="title")


def requests_of(run: Callable[[], Any]) -> dict[str, int]:
    server: ServerProcess = shared_server()
    server.reset_counts()
    run()
    operations = server.counts()["operations"]
    return {name: sum(by_protocol.values()) for name, by_protocol in operations.items()}


@pytest.mark.parametrize("disposition", ["merge", "replace"])
def test_a_flat_table_that_did_not_change_takes_twelve_requests(load: Load, disposition):
    load(films(disposition))
    made = requests_of(lambda: load(films(disposition), machine="another"))
    assert sum(made.values()) <= 12, made
    written = made["upsert"], made["set_payload"]
    assert written == (1, 1), "to begin the load and to complete it"


def test_a_run_of_dagster_takes_one_request_more_and_those_to_show_the_table(resource, dataset):
    @qdrant_assets(dlt_source=films("merge"), dataset_name=dataset)
    def assets(context: dg.AssetExecutionContext, qdrant: QdrantResource):
        yield from qdrant.run(context)

    def run() -> None:
        assert dg.materialize([assets], resources={"qdrant": resource}).success

    run()
    made = requests_of(run)
    assert sum(made.values()) <= 12 + TO_SHOW_IT, made


def test_a_new_collection_is_looked_for_once_before_the_load_has_its_turn_and_once_after(
    load: Load, qdrant_target, dataset
):
    with QdrantResource(**qdrant_target.options).get_client() as client:
        assert not client.collection_exists(f"{dataset}_films")
    made = requests_of(lambda: load(films("replace")))
    # dlt's three tables are looked for when they are made.
    assert made["get_collection"] + made.get("collection_exists", 0) <= 2 + 3, made


def test_collections_and_their_indexes_are_made_and_looked_for_some_at_a_time(
    load: Load, monkeypatch
):
    kinds = {"get_collection", "create_collection", "create_payload_index"}
    under_way: Counter[tuple[str, bool]] = Counter()
    together: set[tuple[str, bool]] = set()
    changed, request = threading.Condition(), Connection.request

    def watched(self: Any, operation: Any, *args: Any, **kwargs: Any) -> Any:
        """Each waits for another of its kind, until two were under way together."""
        name = operation.__name__
        if name not in kinds:
            return request(self, operation, *args, **kwargs)
        key = name, "__dlt_" in args[0]
        with changed:
            under_way[key] += 1
            if under_way[key] > 1:
                together.add(key)
            changed.notify_all()
            changed.wait_for(lambda: key in together, timeout=10)
        try:
            return request(self, operation, *args, **kwargs)
        finally:
            with changed:
                under_way[key] -= 1

    monkeypatch.setattr(Connection, "request", watched)
    tables = [films("replace").with_name(f"films_{n}") for n in range(4)]
    load(tables)
    assert together == {(name, of_dlt) for name in kinds for of_dlt in (True, False)}
    together.clear()
    load(tables)
    assert together == {("get_collection", False)}
