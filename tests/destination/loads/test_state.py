"""dlt's state, schemas and loads live in Qdrant, and come back from there."""

import dlt
import pytest

from dagster_qdrant import qdrant_adapter
from dagster_qdrant.destination.loads.dlt_tables import DltTables
from dagster_qdrant.qdrant.collections import Collections
from dagster_qdrant.qdrant.connection import connect
from tests.conftest import Load
from tests.targets import Target

pytestmark = pytest.mark.every_qdrant


def films(rows):
    @dlt.resource(name="films", primary_key="id", write_disposition="append")
    def films(since=dlt.sources.incremental("id", initial_value=0)):
        yield [row for row in rows if row["id"] > since.last_value]

    return qdrant_adapter(films, embed="title")


ROWS = [{"id": 1, "title": "Moon"}, {"id": 2, "title": "Her"}]


def test_a_fresh_machine_goes_on_where_another_stopped(load: Load, qdrant_target: Target, dataset):
    load(films(ROWS), machine="one")
    load(films([*ROWS, {"id": 3, "title": "Arrival"}]), machine="two")
    assert sorted(row["id"] for row in qdrant_target.rows(f"{dataset}_films")) == [1, 2, 3]


def test_state_of_a_load_that_never_completed_is_passed_over(
    load: Load, qdrant_target: Target, dataset
):
    load(films(ROWS), machine="one")
    states = qdrant_target.points(f"{dataset}__dlt_pipeline_state")
    with_later_state(qdrant_target, dataset, states[0].payload, copies=25, same_time=False)
    load(films([*ROWS, {"id": 3, "title": "Arrival"}]), machine="two")
    assert sorted(row["id"] for row in qdrant_target.rows(f"{dataset}_films")) == [1, 2, 3]


def test_restoring_ends_when_no_load_ever_completed(load: Load, qdrant_target: Target, dataset):
    load(films(ROWS), machine="one")
    [state] = qdrant_target.points(f"{dataset}__dlt_pipeline_state")
    with_later_state(qdrant_target, dataset, state.payload, copies=25, same_time=True)
    delete_all(qdrant_target, f"{dataset}__dlt_loads")
    pipeline = load(films(ROWS), machine="two")
    assert pipeline.state["sources"]


def with_later_state(qdrant_target, dataset, payload, *, copies, same_time):
    from qdrant_client import models

    from dagster_qdrant import QdrantResource

    points = [
        models.PointStruct(
            id=number,
            vector={},
            payload={
                **payload,
                "_dlt_load_id": f"never-{number}",
                "created_at": f"2100-01-01T00:00:{0 if same_time else number:02}+00:00",
            },
        )
        for number in range(1, copies + 1)
    ]
    with QdrantResource(**qdrant_target.options).get_client() as client:
        client.upsert(f"{dataset}__dlt_pipeline_state", points=points)


def delete_all(qdrant_target, collection):
    from qdrant_client import models

    from dagster_qdrant import QdrantResource

    with QdrantResource(**qdrant_target.options).get_client() as client:
        client.delete(collection, points_selector=models.Filter())


def test_the_schema_is_stored_once_and_found_by_name_and_hash(load: Load, dataset, resource):
    for _ in range(2):
        pipeline = load(dlt.resource(ROWS, name="films"))
    with pipeline.destination_client() as client:
        stored = client.get_stored_schema(pipeline.default_schema_name)
        assert stored.version_hash == pipeline.default_schema.stored_version_hash
        assert client.get_stored_schema_by_hash(stored.version_hash) == stored
        assert client.get_stored_schema("no such schema") is None
        assert client.collections.count(f"{dataset}__dlt_version") == 1
        assert client.collections.count(f"{dataset}__dlt_loads") == 2


def test_a_load_is_written_down_once_however_often_it_is_completed(load: Load, dataset):
    pipeline = load(dlt.resource(ROWS, name="films"))
    with pipeline.destination_client() as client:
        tables = DltTables(client.collections, client.schema)
        for _ in range(3):
            assert tables.loads.complete("1")
        assert client.collections.count(f"{dataset}__dlt_loads") == 2


@pytest.mark.parametrize("page", [1, 2, 7])
def test_paging_by_time_gives_each_point_once_however_many_share_a_time(
    qdrant_target: Target, dataset, resource, page
):
    from qdrant_client import models

    config = resource.configuration()
    with connect(config.connection) as connection:
        collections = Collections(connection, dataset, "_")
        indexes = {"at": {"type": "datetime"}}
        collections.ensure(f"{dataset}_times", metadata={}, vectors={}, indexes=indexes)
        points = [
            models.PointStruct(
                id=number, vector={}, payload={"n": number, "at": f"2026-01-01T00:00:{at:02}Z"}
            )
            for number, at in enumerate([1, 1, 1, 1, 1, 2, 3, 3, 4, 4, 4, 4], start=1)
        ]
        connection.client.upsert(collections.name("times"), points=points)
        found = [
            record.payload["n"]
            for records in collections.newest_first(
                collections.name("times"), None, "at", page=page
            )
            for record in records
        ]
    assert sorted(found) == list(range(1, 13))
    assert set(found[:4]) == {9, 10, 11, 12}
