"""Whatever a row holds, it is in the collection as expected, or the load says why it is not."""

import math
import uuid
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import dlt
import pytest
from dlt.pipeline.exceptions import PipelineStepFailed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dagster_qdrant import qdrant_adapter
from dagster_qdrant.errors import QdrantTerminalError
from tests.conftest import Load
from tests.targets import Target, grpc, memory, rest

# dlt marks types with these characters; a text that begins with one is not told from a mark.
DLT_MARKS = "".join(chr(code) for code in range(0xF026, 0xF030))


def films(rows: list[dict[str, Any]], **hints: Any) -> Any:
    return qdrant_adapter(dlt.resource(rows, name="films", **hints), embed="title")


def refusal(load: Any, data: Any) -> str:
    """What the user reads; an error of ours, not of a library underneath."""
    with pytest.raises(PipelineStepFailed) as caught:
        load(data)
    cause: BaseException | None = caught.value
    while cause is not None and not isinstance(cause, QdrantTerminalError):
        cause = cause.__cause__
    assert cause is not None, str(caught.value)
    assert str(cause) in str(caught.value)
    return str(cause)


# -- values ---------------------------------------------------------------------------------------

KEPT = {
    "the largest integer": (2**63 - 1, 2**63 - 1),
    "the smallest integer": (-(2**63), -(2**63)),
    "decimal": (Decimal("1.10"), "1.10"),
    "a long decimal": (Decimal("1." + "1" * 50), "1." + "1" * 50),
    "a decimal that is no number": (Decimal("NaN"), "NaN"),
    "date": (date(2020, 1, 31), "2020-01-31"),
    "the first date": (date.min, "0001-01-01"),
    "naive time": (datetime(2020, 1, 1, 12), "2020-01-01T12:00:00+00:00"),
    "time with a zone": (
        datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=5))),
        "2019-12-31T19:00:00+00:00",
    ),
    "the last moment": (datetime.max, "9999-12-31T23:59:59.999999+00:00"),
    "time of day": (time(1, 2), "01:02:00"),
    "bytes": (b"\xff\x00", "/wA="),
    "uuid": (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
    "empty text": ("", ""),
    "all planes of Unicode": ("ß\u202e\U0001f600\U0010ffff\0", "ß\u202e\U0001f600\U0010ffff\0"),
    "a megabyte": ("word " * 200_000, "word " * 200_000),
    "null": (None, None),
    "not a number": (math.nan, None),
    "infinity": (-math.inf, None),
    "an empty list": ([], None),
    "an empty dict": ({}, None),
}  # fmt: skip


@pytest.fixture
def qdrant_target(request: pytest.FixtureRequest, tmp_path: Path, dataset: str) -> Any:
    with getattr(request, "param", memory)(tmp_path) as qdrant_target:
        yield qdrant_target
        qdrant_target.clean_up(dataset)


ON_EACH_WAY = pytest.mark.parametrize("qdrant_target", [memory, rest, grpc], indirect=True)


@ON_EACH_WAY
def test_values_are_kept_or_left_out(load: Load, qdrant_target: Target, dataset):
    rows = [
        {"title": name, f"v{n}": value} for n, (name, (value, _)) in enumerate(KEPT.items())
    ]  # a column each, so that they have a type each
    load(films(rows))
    found = {row["title"]: row for row in qdrant_target.rows(f"{dataset}_films")}
    assert {name: found[name].get(f"v{n}") for n, name in enumerate(KEPT)} == {
        name: kept for name, (_, kept) in KEPT.items()
    }


@pytest.mark.parametrize(
    "value",
    [2**64, -(10**30), "lone \ud800", ["x", {"y": "\udfff"}], {1, 2}, timedelta(1), 1j, object()],
    ids=["huge", "negative", "surrogate", "nested", "set", "duration", "complex", "object"],
)
@pytest.mark.parametrize("qdrant_target", [memory], indirect=True)
def test_a_value_that_json_cannot_hold_is_shown_with_its_row_and_column(load: Load, value):
    message = refusal(load, films([{"id": 1}, {"id": 2, "odd": value, "title": "Moon"}]))
    assert message.startswith(
        "Row 2 of resource `films` has a value in `odd` that cannot be loaded"
    )
    assert repr(value)[:200] in message
    assert "Turn it into text" in message


def test_a_name_that_json_cannot_hold_is_shown(load: Load):
    message = refusal(load, films([{"title": "Moon", "odd \ud800": 1}]))
    assert "Row 1 of resource `films` has a value in `odd \\ud800`" in message


@pytest.mark.parametrize("qdrant_target", [grpc], indirect=True)
@pytest.mark.parametrize("hints", [{}, {"max_table_nesting": 0}], ids=["column", "nested"])
def test_an_integer_that_grpc_cannot_carry_is_shown_with_its_row(load: Load, hints):
    rows = [{"title": "Moon", "n": {"m": number}} for number in (1, 2, 2**63, 4)]
    message = refusal(load, films(rows, **hints))
    assert "A row of table `films` holds a value that cannot be sent to Qdrant: " in message
    assert "9223372036854775808" in message
    assert "as text" in message


@ON_EACH_WAY
def test_nested_values_become_tables_or_stay_as_they_are(
    load: Load, qdrant_target: Target, dataset
):
    nested = {"a": [1, None, {"b": "c"}], "d": {"e": [[]]}}
    load(films([{"title": "Moon", "v": nested}], max_table_nesting=0))
    [row] = qdrant_target.rows(f"{dataset}_films")
    assert row["v"] == nested
    load(films([{"title": "Moon", "v": nested}]), name="b", dataset_name=f"{dataset}_b")
    rows = qdrant_target.rows(f"{dataset}_b_films__v__a")
    assert sorted(map(str, rows)) == ["{'b': 'c'}", "{'value': 1}", "{}"]


# -- names and keys -------------------------------------------------------------------------------


@ON_EACH_WAY
def test_names_are_those_that_dlt_makes_of_them(load: Load, qdrant_target: Target, dataset):
    names = {"Title Case": "title_case", "a.b": "a_b", "a__b": "a__b", "1a": "_1a", "!!!": "x"}
    load(films([{"title": "Moon", name: name} for name in ["", *names]]))
    found = {
        key: value
        for row in qdrant_target.rows(f"{dataset}_films")
        for key, value in row.items()
        if key != "title"
    }
    assert found == {"_empty": ""} | {normalized: name for name, normalized in names.items()}


def test_names_of_ours_in_a_row_are_not_mistaken(load: Load, qdrant_target: Target, dataset):
    load(films([{"title": "Moon", "_dlt_embedding_hash": "x", "_dlt_row_hash": "y"}]))
    [point] = qdrant_target.points(f"{dataset}_films", vectors=True)
    assert point.vector
    assert point.payload["title"] == "Moon"
    assert {point.payload["_dlt_embedding_hash"], point.payload["_dlt_row_hash"]}.isdisjoint("xy")


@pytest.mark.parametrize("qdrant_target", [memory, grpc], indirect=True)
@pytest.mark.parametrize(
    "keys",
    [
        [1, 2, -(2**63), 2**63 - 1],
        ["", "a", "A", " a", "a ", "a\x00", "é", "e\u0301", "\U0010ffff"],
        [0.1, 0.2, 1e300, -0.5],
        [True, False],
        [Decimal("1.1"), Decimal("1.2")],
        [date(2020, 1, 1), date(2020, 1, 2)],
        [datetime(2020, 1, 1), datetime(2020, 1, 1, 0, 0, 0, 1)],
        [time(1), time(2)],
        [b"\x00", b"\x00\x00"],
        [uuid.UUID(int=1), uuid.UUID(int=2)],
    ],
    ids=lambda keys: type(keys[0]).__name__,
)
def test_keys_of_every_type_tell_rows_apart_and_find_them_again(load, qdrant_target, dataset, keys):
    hints = {"write_disposition": "merge", "primary_key": "key"}
    for title in ("Moon", "Her"):
        load(films([{"key": key, "title": title} for key in keys], **hints))
    rows = qdrant_target.rows(f"{dataset}_films")
    assert [row["title"] for row in rows] == ["Her"] * len(keys)


# -- anything -------------------------------------------------------------------------------------

characters = st.characters(exclude_categories=(), exclude_characters=DLT_MARKS)
texts = st.text(characters, max_size=20)
# A list in a field without a name lands in the table itself: dlt finds no name for another.
names = st.text(characters, max_size=20).map("a {}".format)
# In a column of whole numbers, dlt's normalize fails on floats that are too large for one.
floats = st.floats().filter(lambda number: math.isinf(number) or not abs(number) >= 2**63)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    floats,
    st.decimals(),
    st.dates(),
    st.datetimes(timezones=st.none() | st.just(timezone.utc)),
    st.times(),
    st.binary(min_size=1, max_size=10),
    st.uuids(),
    texts,
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)
rows_of_anything = st.lists(
    st.fixed_dictionaries({"title": st.none() | texts})
    | st.dictionaries(names, values, max_size=4),
    min_size=1,
    max_size=3,
)


def unfit(value: Any) -> bool:
    """Whether JSON cannot hold a value."""
    if isinstance(value, dict):
        return unfit(list(value)) or unfit(list(value.values()))
    if isinstance(value, list):
        return any(map(unfit, value))
    if isinstance(value, str):
        return any("\ud800" <= character <= "\udfff" for character in value)
    return isinstance(value, int) and not -(2**63) <= value < 2**64


@pytest.mark.parametrize("qdrant_target", [memory, rest], indirect=True)
def test_any_row_is_loaded_whole_or_refused_in_words(
    qdrant_target: Target, resource, tmp_path: Path
):
    @settings(
        max_examples=25 if qdrant_target.kind == "memory" else 6,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(rows_of_anything)
    def check(rows):
        name = f"films_{uuid.uuid4().hex[:8]}"
        pipeline = dlt.pipeline(
            name,
            destination=resource.destination(),
            dataset_name=name,
            pipelines_dir=str(tmp_path / "hostile"),
        )
        numbered = [{**row, "number of the row": n} for n, row in enumerate(rows)]
        hints = {"columns": {"title": {"data_type": "text"}}}
        data = films(numbered, **hints)
        if unfit(rows):
            assert "of resource `films` has a value in " in refusal(pipeline.run, data)
        else:
            pipeline.run(data)
            points = qdrant_target.points(f"{name}_films", vectors=True)
            found = {point.payload["number_of_the_row"]: point for point in points}
            assert sorted(found) == list(range(len(rows)))
            for n, row in enumerate(rows):
                text = found[n].payload.get("title")
                if isinstance(row.get("title"), str):
                    assert text == row["title"]
                assert bool(found[n].vector) == bool(text and text.strip())
            qdrant_target.clean_up(name)

    check()
