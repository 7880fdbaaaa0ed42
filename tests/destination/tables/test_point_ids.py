"""Ids of points: dlt's for keys of one column, and never one for two rows."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from dagster_qdrant.destination.tables.point_ids import content_point_id, key_point_id

KEY_VALUES = st.one_of(
    st.text(max_size=5), st.integers(-9, 9), st.booleans(), st.sampled_from(["_", "1", "a_b", "\0"])
)


def test_a_key_of_one_column_has_the_id_that_dlts_destination_gives():
    expected = str(uuid.uuid5(uuid.NAMESPACE_DNS, "films" + "42"))
    assert key_point_id("films", [42], ["bigint"]) == expected
    assert key_point_id("films", ["42"], ["text"]) == expected


@given(st.text())
def test_ids_are_uuids_of_their_text(text):
    expected = uuid.uuid5(uuid.NAMESPACE_DNS, "c" + text)
    assert key_point_id("c", [text], ["text"]) == str(expected)


def test_the_integer_1_and_the_string_1_of_one_column_are_two_keys():
    for data_type in ("bigint", "text", "json"):
        of_int = key_point_id("films", [1], [data_type])
        of_text = key_point_id("films", ["1"], [data_type])
        assert of_int != of_text


def test_a_decimal_is_one_key_however_many_zeros_it_is_written_with():
    for others in ([], ["UK"]):
        types = ["decimal", "text"][: 1 + len(others)]
        ids = {key_point_id("c", [text, *others], types) for text in ("1.5", "1.50", "15E-1")}
        assert len(ids) == 1
        assert key_point_id("c", ["15", *others], types) not in ids
    assert key_point_id("c", ["100"], ["decimal"]) == key_point_id("c", ["1E+2"], ["decimal"])
    assert key_point_id("c", ["1.5"], ["text"]) != key_point_id("c", ["1.50"], ["text"])


@given(st.lists(KEY_VALUES, min_size=2, max_size=3), st.lists(KEY_VALUES, min_size=2, max_size=3))
def test_keys_of_several_columns_never_meet(one, other):
    types = [None] * 3
    same = [(type(v), v) for v in one] == [(type(v), v) for v in other]
    assert (key_point_id("c", one, types) == key_point_id("c", other, types)) == same


@given(st.text(), st.text())
def test_text_keys_never_meet(one, other):
    ids = key_point_id("c", [one], ["text"]), key_point_id("c", [other], ["text"])
    assert (ids[0] == ids[1]) == (one == other)


def test_equal_content_gets_an_id_for_each_occurrence():
    content = {"title": "Moon", "year": 2009}
    ids = {content_point_id("films", content, occurrence) for occurrence in range(5)}
    assert len(ids) == 5
    assert content_point_id("films", {"year": 2009, "title": "Moon"}) in ids
