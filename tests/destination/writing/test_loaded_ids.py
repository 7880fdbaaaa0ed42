"""Which points the rows of a load are."""

import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_qdrant.destination.writing import loaded_ids
from dagster_qdrant.destination.writing.loaded_ids import IdSet, LoadedIds

# Some end in zeros, which numpy takes for none.
IDS = st.lists(st.sampled_from([bytes([n]) * (16 - n) + bytes(n) for n in range(1, 16)]))


@given(batches=st.lists(IDS, max_size=6), wanted=IDS, recent=st.integers(0, 5), other=IDS)
@settings(deadline=None)
def test_a_set_of_ids_holds_what_was_added(batches, wanted, recent, other):
    ids, model = IdSet(), set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loaded_ids, "_RECENT", recent)
        for batch in batches:
            ids.add(batch)
            model |= set(batch)
            assert len(ids) == len(model)
    assert ids.found(wanted) == [each in model for each in wanted]
    second = IdSet()
    second.add(other)
    assert set(ids.shared(second)) == model & set(other)
    ids.update(second)
    assert len(ids) == len(model | set(other))
    assert ids.found(wanted) == [each in model | set(other) for each in wanted]


def test_ids_that_are_no_uuids_are_not_among_those_of_a_load():
    ids = IdSet()
    known = uuid.uuid4()
    ids.add([known.bytes])
    assert ids.others([7, str(known), 8]) == [7, 8]
    assert ids.others([]) == []


def rows(contents: Any) -> list[Any]:
    return [
        SimpleNamespace(identity=content, point_id=PLAN.point_id(content)) for content in contents
    ]


def _point_id(content: Any, number: int = 0) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{content} {number}"))


PLAN: Any = SimpleNamespace(numbers_rows=True, point_id=_point_id)
FILES = st.lists(st.lists(st.sampled_from("abc"), max_size=6), min_size=1, max_size=4)


@settings(deadline=None)
@given(files=FILES, tries=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6))))
def test_equal_rows_have_an_id_each_however_often_files_are_tried(files, tries):
    ids = LoadedIds(counts=True)
    for number, content in enumerate(files):
        for file, rows_read in tries:
            if file == number:  # an attempt that fails after some rows
                ids.begin(str(number)).take_in(rows(content[:rows_read]), PLAN)
        of_file = ids.begin(str(number))
        for start in range(0, len(content), 2):
            of_file.take_in(rows(content[start : start + 2]), PLAN)
        of_file.complete()
    everything = [each for content in files for each in content]
    expected = {
        _point_id(content, number)
        for content in set(everything)
        for number in range(everything.count(content))
    }
    assert len(ids.all()) == len(expected)
    assert ids.all().others(expected) == []
    assert ids.complete_files == {str(number) for number in range(len(files))}


def test_rows_that_came_before_are_told():
    plan: Any = SimpleNamespace(numbers_rows=False, point_id=_point_id)
    ids = LoadedIds(counts=False)
    first = ids.begin("first")
    assert first.take_in(rows("aab"), plan) == set()
    first.complete()
    second = ids.begin("second")
    assert second.take_in(rows("bc"), plan) == {_point_id("b")}
    assert second.take_in(rows("ac"), plan) == {_point_id("a"), _point_id("c")}
    assert ids.begin("second").take_in(rows("c"), plan) == set()
