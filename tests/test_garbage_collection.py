"""What Python's garbage collector looks through while rows are loaded."""

import atexit
import gc
import subprocess
import sys

import dagster as dg
import dlt
import pytest

from dagster_qdrant import build_qdrant_assets
from dagster_qdrant.destination.load_job import TableLoader
from dagster_qdrant.garbage_collection import (
    _last_look,
    _Loads,
    end_at_once,
    only_new_collected,
)

pytestmark = pytest.mark.in_memory


@pytest.fixture(autouse=True)
def nothing_frozen(monkeypatch):
    monkeypatch.setattr(_Loads, "found_frozen", False)
    before = gc.get_freeze_count()
    gc.unfreeze()
    yield
    gc.unfreeze()
    if before:
        gc.freeze()


def test_a_load_has_what_was_there_before_not_looked_through(load, monkeypatch):
    frozen = []
    load_windows = TableLoader.load

    def watched(loader, windows, report):
        frozen.append(gc.get_freeze_count())
        load_windows(loader, windows, report)

    monkeypatch.setattr(TableLoader, "load", watched)
    load(dlt.resource([{"title": "Moon"}], name="films"))
    assert frozen
    assert all(frozen)
    assert gc.get_freeze_count() == 0


def test_it_is_looked_through_again_when_the_last_of_several_loads_ends():
    with only_new_collected():
        with only_new_collected():
            assert gc.get_freeze_count()
        assert gc.get_freeze_count()
    assert gc.get_freeze_count() == 0


def test_what_somebody_else_froze_stays_frozen_and_is_counted_once(monkeypatch):
    gc.freeze()
    counted = []
    count = gc.get_freeze_count
    monkeypatch.setattr(gc, "get_freeze_count", lambda: counted.append(count()) or counted[-1])
    for _ in range(2):
        with only_new_collected():
            pass
    assert len(counted) == 1
    assert count()


def test_a_process_that_ends_at_once_finishes_what_is_garbage():
    script = """
from dagster_qdrant.garbage_collection import end_at_once

class Report:
    def __init__(self):
        self.itself = self

    def __del__(self):
        print("finished")

end_at_once()
Report()
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert ended.stdout.split() == [b"finished"]


def test_a_process_that_ran_a_load_is_looked_through_once_at_its_end(
    resource, dataset, monkeypatch
):
    at_the_end = []
    monkeypatch.setattr(atexit, "register", lambda function, *_, **__: at_the_end.append(function))
    end_at_once.cache_clear()
    films = dlt.resource([{"title": "Moon"}], name="films")
    assets = build_qdrant_assets(dlt_source=films, dataset_name=dataset)
    for _ in range(2):
        dg.materialize([assets], resources={"qdrant": resource})
    [look] = [function for function in at_the_end if function is _last_look]
    look()
    assert gc.get_freeze_count()
