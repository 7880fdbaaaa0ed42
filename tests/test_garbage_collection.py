"""What Python's garbage collector looks through while rows are loaded."""

import gc

import dlt
import pytest

from dagster_qdrant.destination.load_job import TableLoader
from dagster_qdrant.garbage_collection import only_new_collected


@pytest.fixture(autouse=True)
def nothing_frozen():
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


def test_what_somebody_else_froze_stays_frozen():
    gc.freeze()
    with only_new_collected():
        pass
    assert gc.get_freeze_count()
