"""A folder that has stayed behind leaves no outdated rows, and hides nothing from others."""

import json
import logging
import threading
import time
from typing import Any

import dlt
import pytest

from dagster_qdrant import QdrantResource, qdrant_adapter
from dagster_qdrant.destination.loads.load import Load as LoadUnderWay
from tests.conftest import Load
from tests.targets import Target


@pytest.fixture
def resource(qdrant_target: Target, model: dict[str, Any]) -> QdrantResource:
    """One whose loads are given time before they count as dead."""
    return QdrantResource(**qdrant_target.options, **model)


BEFORE = [{"id": 1, "title": "Moon"}]
SINCE = [{"id": 1, "title": "Moon", "tags": ["space"], "year": 2009}]


def films(rows: list[dict[str, Any]], disposition: str = "merge") -> Any:
    data = dlt.resource(rows, name="films", primary_key="id", write_disposition=disposition)
    return qdrant_adapter(data, embed="title")


@pytest.fixture
def newest_tables(qdrant_target, dataset):
    def newest_tables() -> dict[str, Any]:
        """The tables of the schema with which a machine begins."""
        stored = [point.payload for point in qdrant_target.points(f"{dataset}__dlt_version")]
        return json.loads(max(stored, key=lambda row: row["inserted_at"])["schema"])["tables"]

    return newest_tables


@pytest.mark.parametrize("disposition", ["merge", "replace"])
def test_it_learns_of_tables_and_columns_that_others_have_added(
    load: Load, qdrant_target, dataset, newest_tables, disposition
):
    load(films(BEFORE, disposition), machine="behind")
    load(films(SINCE, disposition), machine="ahead")
    load(films([{"id": 1, "title": "The Moon"}], disposition), machine="behind")
    assert qdrant_target.rows(f"{dataset}_films") == [{"id": 1, "title": "The Moon"}]
    assert qdrant_target.rows(f"{dataset}_films__tags") == []
    assert "films__tags" in newest_tables()
    assert newest_tables()["films"]["columns"]["year"]["data_type"] == "bigint"


def test_nothing_is_stored_where_it_knows_nothing_that_others_do_not(
    load: Load, qdrant_target, dataset
):
    load(films(BEFORE), machine="behind")
    load(films(SINCE), machine="ahead")
    stored = qdrant_target.points(f"{dataset}__dlt_version")
    load(films(BEFORE), machine="behind")
    assert qdrant_target.points(f"{dataset}__dlt_version") == stored


def test_it_takes_over_what_columns_are_and_not_what_they_are_for(
    load: Load, qdrant_target, dataset
):
    load(films(BEFORE), machine="behind")
    with_year = films(SINCE)
    with_year.apply_hints(columns={"year": {"nullable": False}})
    load(with_year, machine="ahead")
    for machine in ("behind", "new"):  # the new one begins with what the one before it has stored
        load(films([{"id": 1, "title": f"Moon, {machine}", "year": None}]), machine=machine)
    assert qdrant_target.rows(f"{dataset}_films") == [{"id": 1, "title": "Moon, new"}]


def test_what_it_drops_does_not_come_back(load: Load, newest_tables):
    load(films(BEFORE), machine="behind")
    load(films(SINCE), machine="ahead")
    load(films(BEFORE), machine="behind", refresh="drop_resources")
    assert "films__tags" not in newest_tables()
    assert "year" not in newest_tables()["films"]["columns"]


def test_it_learns_of_what_a_load_adds_that_it_waits_for(
    load: Load, resource, dataset, tmp_path, qdrant_target, newest_tables, monkeypatch, caplog
):
    prepare = LoadUnderWay.prepare

    def prepare_when_the_other_waits(self: LoadUnderWay, tables: set[str]) -> None:
        end = time.monotonic() + 30
        while "Waiting for load" not in caplog.text and time.monotonic() < end:
            time.sleep(0.02)
        prepare(self, tables)

    def extracted(rows: list[dict[str, Any]], machine: str) -> Any:
        pipeline = dlt.pipeline(
            "films",
            destination=resource.destination(),
            dataset_name=dataset,
            pipelines_dir=str(tmp_path / machine),
        )
        pipeline.extract(films(rows, "replace"))
        pipeline.normalize()
        return pipeline

    load(films(BEFORE, "replace"), machine="first")
    first, second = extracted(SINCE, "first"), extracted(BEFORE, "second")
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(LoadUnderWay, "prepare", prepare_when_the_other_waits)
    thread = threading.Thread(target=first.load)
    thread.start()
    while not any(row.payload["status"] for row in qdrant_target.points(f"{dataset}__dlt_loads")):
        time.sleep(0.02)
    second.load()
    thread.join()
    assert "Waiting for load" in caplog.text
    assert qdrant_target.rows(f"{dataset}_films__tags") == []
    assert "films__tags" in newest_tables()
