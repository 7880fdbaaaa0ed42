"""How collections are read, of any size and with as few looks as their kind allows."""

import uuid
from collections import Counter
from typing import Any

import pytest
from qdrant_client import models

from dagster_qdrant import QdrantResource
from dagster_qdrant.qdrant.collections import Collections
from dagster_qdrant.qdrant.connection import Connection, connect
from tests.targets import Target, memory

pytestmark = pytest.mark.every_qdrant


@pytest.fixture
def collections(qdrant_target: Target, dataset: str):
    """Of a dataset with one collection, whose points have a number and the id of a load."""
    options = QdrantResource(**qdrant_target.options).configuration().connection
    with connect(options) as connection:
        collections = Collections(connection, dataset, "_")
        indexes: Any = {name: {"type": "keyword"} for name in ("load", "number")} | {
            "at": {"type": "datetime"}
        }
        collections.ensure(f"{dataset}_films", metadata={}, vectors={}, indexes=indexes)
        yield collections


def fill(collections: Collections, count: int) -> str:
    name = collections.name("films")
    for start in range(0, count, 2000):
        points = [
            models.PointStruct(
                id=str(uuid.UUID(int=n)), vector={}, payload={"load": f"load {n}", "number": str(n)}
            )
            for n in range(start, min(start + 2000, count))
        ]
        collections.connection.client.upsert(name, points=points, wait=True)
    return name


def test_all_values_of_a_field_are_seen_however_many_there_are(collections: Collections):
    name = fill(collections, 10_200)
    assert collections.values(name, "load") == {f"load {n}": 1 for n in range(10_200)}


def test_pages_have_each_point_once(collections: Collections):
    name = fill(collections, 25)
    pages = list(collections.pages(name, page=10, payload=["number"]))
    assert [len(page) for page in pages] == [10, 10, 5]
    numbers = [int((point.payload or {})["number"]) for page in pages for point in page]
    assert sorted(numbers) == list(range(25))


@pytest.mark.filterwarnings("error:.*serializ:UserWarning")
def test_points_come_from_the_latest_time_on_without_a_warning(collections: Collections):
    name = collections.name("films")
    times = [f"2026-11-25T20:22:49.{n // 3:06}+00:00" for n in range(25)]  # three at a time
    points = [
        models.PointStruct(id=n, vector={}, payload={"at": time}) for n, time in enumerate(times)
    ]
    collections.connection.client.upsert(name, points=points, wait=True)
    pages = collections.newest_first(name, None, "at", page=4)
    found = [(point.payload or {})["at"] for page in pages for point in page]
    assert found == sorted(times, reverse=True)


def test_points_are_found_by_any_number_of_values(collections: Collections):
    name = fill(collections, 1200)
    wanted = [str(n) for n in range(0, 2400, 2)]
    pages = collections.pages_with(name, "number", wanted, payload=["load", "number"])
    found = [(point.payload or {})["load"] for page in pages for point in page]
    assert sorted(found) == sorted(f"load {n}" for n in range(0, 1200, 2))
    assert list(collections.pages_with(name, "number", [], payload=[])) == []
    collections.delete(name, [str(uuid.UUID(int=n)) for n in range(1100)])
    assert collections.count(name) == 100


@pytest.mark.parametrize("qdrant_kind", [memory], indirect=True)
def test_local_mode_looks_at_all_points_once_however_many_pages_there_are(
    collections: Collections, monkeypatch
):
    looks: Counter[str] = Counter()
    request = Connection.request

    def counted(self: Any, operation: Any, *args: Any, **kwargs: Any) -> Any:
        looks[operation.__name__] += 1
        return request(self, operation, *args, **kwargs)

    name = fill(collections, 3000)
    monkeypatch.setattr(Connection, "request", counted)
    list(collections.pages(name, page=10, payload=True))
    numbers = [str(n) for n in range(3000)]
    list(collections.pages_with(name, "number", numbers, payload=["number"]))
    assert looks["scroll"] == 2
