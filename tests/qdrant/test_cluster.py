"""What each kind of request asks of a cluster with replicas, over REST and over gRPC."""

import dlt
import pytest

from dagster_qdrant import QdrantResource, qdrant_adapter
from dagster_qdrant.qdrant.connection import connect
from tests.qdrant_server import ServerProcess

WRITES = {
    "upsert",
    "set_payload",
    "overwrite_payload",
    "delete_payload",
    "delete",
    "batch_update",
    "create_index",
    "update_vectors",
}


@pytest.fixture(scope="module")
def the_server():
    with ServerProcess() as server:
        yield server


@pytest.fixture(params=["rest", "grpc"])
def options(request, the_server, model):
    the_server.clear_faults()
    the_server.reset_counts()
    grpc = {"prefer_grpc": True, "grpc_port": the_server.grpc_port}
    return {
        "location": the_server.url,
        "abandoned_after": 1.0,
        **(grpc if request.param == "grpc" else {}),
        **model,
    }


@pytest.fixture
def load_all_kinds(dataset, tmp_path):
    """Loads that write in every way there is: new, changed, unchanged and deleted rows, nested
    ones, other columns, an incremental state."""

    def load_all_kinds(**options):
        def load(rows, embed, disposition="merge", **more):
            resource = dlt.resource(
                rows,
                name="films",
                write_disposition=disposition,
                primary_key="id",
                columns={"gone": {"hard_delete": True, "data_type": "bool"}},
            )
            pipeline = dlt.pipeline(
                "films",
                destination=QdrantResource(**options).destination(),
                dataset_name=dataset,
                pipelines_dir=str(tmp_path / "pipelines"),
            )
            pipeline.run(qdrant_adapter(resource, embed=embed), **more)

        rows = [
            {"id": n, "title": f"film {n}", "year": 1980 + n, "cast": [{"name": f"actor {n}"}]}
            for n in range(4)
        ]
        load(rows, "title")
        rows[0]["year"] = 2000
        rows[1]["title"] = "another"
        rows[2] = {"id": 2, "gone": True}
        rows[3]["cast"] = []
        load(rows, "title")
        load(rows[:2], ["title", "year"])
        load(rows[:2], ["title", "year"], "replace")
        load(rows[:1], ["title", "year"], "replace")
        load([{"id": 9, "title": "appended"}], ["title", "year"], "append")
        load(rows[:2], ["title", "year"], "replace", refresh="drop_data")

    return load_all_kinds


def asked(server):
    """What was asked, as operation, collection, ordering and consistency."""
    return [tuple(each) for each in server.counts()["asked_of_replicas"]]


def test_books_are_written_with_strong_ordering_and_rows_with_medium(
    options, load_all_kinds, the_server, dataset
):
    load_all_kinds(**options)
    kinds = set()
    for operation, collection, ordering, consistency in asked(the_server):
        if operation in WRITES:
            is_book = collection.startswith(f"{dataset}__dlt_")
            assert ordering == ("strong" if is_book else "medium"), (operation, collection)
            kinds.add((operation, is_book))
        assert consistency is None
    assert {("upsert", True), ("set_payload", True), ("create_index", True)} <= kinds
    assert {("upsert", False), ("batch_update", False), ("create_index", False)} <= kinds
    assert ("delete", False) in kinds


@pytest.mark.parametrize(("consistency", "sent"), [("majority", "majority"), ("2", "2")])
def test_rows_are_written_and_read_as_asked(
    options, load_all_kinds, the_server, dataset, consistency, sent
):
    resource = {**options, "write_ordering": "strong", "read_consistency": consistency}
    load_all_kinds(**resource)
    QdrantResource(**resource).search(dataset, "films", "film", limit=1)
    reads = {"scroll", "query_batch", "retrieve", "facet"}
    seen = set()
    for operation, _, ordering, said in asked(the_server):
        if operation in WRITES:
            assert ordering == "strong"
        if operation in reads:
            assert said == sent, operation
            seen.add(operation)
    assert {"scroll", "query_batch", "retrieve"} <= seen


def test_a_node_that_is_gone_behind_a_load_balancer_is_a_transient_failure(
    options, load_all_kinds, the_server, dataset, monkeypatch
):
    monkeypatch.setattr("dagster_qdrant.retrying._wait", lambda _state: 0.05)
    the_server.fault("answer", status=502, message="<html>Bad Gateway</html>", every=7)
    the_server.fault("cut", every=11)
    load_all_kinds(**options)
    the_server.clear_faults()
    with connect(QdrantResource(**options).configuration().connection) as connection:
        assert connection.client.count(f"{dataset}_films").count == 2
