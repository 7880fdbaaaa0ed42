"""Rows are looked at where they come up, whatever they are and whatever way they take."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dlt
import pyarrow
import pytest
from dlt.common.libs.pydantic import BaseModel
from dlt.pipeline.exceptions import PipelineStepFailed

from dagster_qdrant import qdrant_adapter
from dagster_qdrant.destination.tables.repeated_keys import RepeatedKeys
from tests.conftest import Load
from tests.targets import Target, memory

MERGE = {"write_disposition": "merge", "primary_key": "id"}
DOCS = [{"id": 1, "title": "old"}, {"id": 2, "title": "other"}, {"id": 1, "title": "new"}]


@pytest.fixture(params=[memory])  # what is looked at here happens before rows are sent
def qdrant_target(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    with request.param(tmp_path) as qdrant_target:
        yield qdrant_target


def titles(target: Target, collection: str) -> dict[Any, str]:
    return {row["id"]: row["title"] for row in target.rows(collection)}


def refused(message: str) -> Any:
    return pytest.raises(PipelineStepFailed, match=f"(?s){message}")


# -- what tells rows apart does not travel ---------------------------------------------------------


@dlt.source
def docs_and_chunks(*, checked: bool, disposition: str = "append") -> Any:
    docs = qdrant_adapter(dlt.resource(DOCS, name="docs", **MERGE), embed="title")

    @dlt.transformer(
        data_from=docs,
        name="chunks",
        write_disposition=disposition,
        primary_key=["id", "chunk", "title"] if disposition == "merge" else None,
    )
    def chunks(doc):
        for number in range(3):
            yield {**doc, "chunk": number, "parts": [{"part": f"{doc['title']} {number}"}]}

    return docs, qdrant_adapter(chunks, embed="title") if checked else chunks


@pytest.mark.parametrize("checked", [True, False], ids=["wrapped", "bare"])
@pytest.mark.parametrize("disposition", ["append", "merge", "replace"])
def test_a_transformer_that_spreads_its_parents_row_loses_none(
    load: Load, qdrant_target: Target, dataset, disposition, checked
):
    load(docs_and_chunks(checked=checked, disposition=disposition))
    found = qdrant_target.rows(f"{dataset}_chunks")
    expected = [(doc["title"], number) for doc in DOCS for number in range(3)]
    assert sorted((row["title"], row["chunk"]) for row in found) == sorted(expected)
    parts = [row["part"] for row in qdrant_target.rows(f"{dataset}_chunks__parts")]
    assert sorted(parts) == sorted(f"{title} {number}" for title, number in expected)
    assert titles(qdrant_target, f"{dataset}_docs") == {1: "new", 2: "other"}


def test_rows_of_a_parent_that_is_not_loaded_need_no_key(
    load: Load, qdrant_target: Target, dataset
):
    docs = qdrant_adapter(dlt.resource([{"title": "Moon"}], name="docs", **MERGE), embed="title")
    upper = dlt.transformer(lambda doc: {"title": doc["title"].upper()}, name="upper")
    load(docs | qdrant_adapter(upper, embed="title"))
    assert qdrant_target.rows(f"{dataset}_upper") == [{"title": "MOON"}]


def test_rows_that_are_read_and_not_loaded_are_as_the_source_gives_them(
    load: Load, qdrant_target: Target, dataset
):
    docs = qdrant_adapter(dlt.resource(DOCS, name="docs", **MERGE), embed="title")
    assert list(docs) == DOCS

    @dlt.resource(name="read")
    def read():
        yield from docs

    load([read, docs])
    assert len(qdrant_target.rows(f"{dataset}_read")) == 3


def test_a_place_that_a_row_brings_from_a_former_load_is_forgotten(
    load: Load, qdrant_target: Target, dataset
):
    load(qdrant_adapter(dlt.resource(DOCS, name="docs", **MERGE), embed="title"))
    [brought] = [p.payload for p in qdrant_target.points(f"{dataset}_docs") if "#" in str(p)]
    rows = [{**brought, "title": "first"}, {"id": 1, "title": "last"}]
    load(qdrant_adapter(dlt.resource(rows, name="copy", **MERGE), embed="title"))
    assert titles(qdrant_target, f"{dataset}_copy") == {1: "last"}


def test_resources_that_fill_one_table_share_what_they_have_seen(
    load: Load, qdrant_target: Target, dataset
):
    rows = {
        "old": [{"id": 1, "title": "old", "tags": ["a", "b"]}],
        "new": [{"id": 1, "title": "new"}],
    }

    @dlt.source
    def source() -> Any:
        for name, data in rows.items():
            resource = dlt.resource(data, name=name, table_name="docs", **MERGE)
            yield qdrant_adapter(resource, embed="title")

    load(source())
    [title] = titles(qdrant_target, f"{dataset}_docs").values()
    tags = [row["value"] for row in qdrant_target.rows(f"{dataset}_docs__tags")]
    assert (title, sorted(tags)) in [("old", ["a", "b"]), ("new", [])]


# -- whatever a row is -----------------------------------------------------------------------------


class Model(BaseModel):
    id: int
    title: str
    tags: list[str]


@dataclass
class Data:
    id: int
    title: str
    tags: list[str]


@pytest.mark.parametrize("kind", [dict, Model, Data])
def test_the_last_row_of_a_key_counts_whatever_it_is(
    load: Load, qdrant_target: Target, dataset, monkeypatch, kind
):
    monkeypatch.setenv("DATA_WRITER__FILE_MAX_ITEMS", "1")
    monkeypatch.setenv("DATA_WRITER__BUFFER_MAX_ITEMS", "1")
    rows = [kind(id=1, title=f"take {n}", tags=[f"of {n}"]) for n in range(5)]
    load(qdrant_adapter(dlt.resource(rows, name="docs", **MERGE), embed="title"))
    assert titles(qdrant_target, f"{dataset}_docs") == {1: "take 4"}
    assert [row["value"] for row in qdrant_target.rows(f"{dataset}_docs__tags")] == ["of 4"]


@pytest.mark.parametrize("kind", ["table", "batch", "pandas"])
def test_the_last_row_of_a_key_counts_among_arrow_tables(
    load: Load, qdrant_target: Target, dataset, kind
):
    frames: list[Any] = []
    for n in range(6):
        # Other columns than the one before has, and so another file.
        table = pyarrow.table({"ID": [1, 10 + n], "title": [f"take {n}"] * 2, f"c{n % 3}": [n, n]})
        if kind == "batch":
            table = table.to_batches()[0]
        elif kind == "pandas":
            table = pytest.importorskip("pandas").DataFrame(table.to_pydict())
        frames.append(table)
    for _ in range(2):
        load(qdrant_adapter(dlt.resource(frames, name="docs", **MERGE), embed="title"))
        expected = {1: "take 5", **{10 + n: f"take {n}" for n in range(6)}}
        assert titles(qdrant_target, f"{dataset}_docs") == expected


def test_a_row_of_an_arrow_table_without_a_key_is_shown(load: Load):
    frames = [pyarrow.table({"id": [1, 2], "title": ["a", "b"]})]
    frames.append(pyarrow.table({"id": [3, None], "title": ["c", "d"]}))
    with refused("Row 4 of resource `docs` has no value in its key `id`.*'title': 'd'"):
        load(qdrant_adapter(dlt.resource(frames, name="docs", **MERGE), embed="title"))


def test_single_values_have_the_key_that_dlt_gives_them(load: Load, qdrant_target: Target, dataset):
    values = dlt.resource(["a", "b", "a"], name="v", write_disposition="merge", primary_key="value")
    load(qdrant_adapter(values, embed="value"))
    assert sorted(row["value"] for row in qdrant_target.rows(f"{dataset}_v")) == ["a", "b"]


# -- names as dlt makes them -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "rows"),
    [
        ("user_id", [{"userId": 1, "title": "a"}, {"userId": 1, "title": "b"}]),
        ("userId", [{"user_id": 1, "title": "a"}, {"User Id": 1, "title": "b"}]),
        ("userId", [{"userId": 1, "title": "a"}, {"user_id": None, "userId": 1, "title": "b"}]),
        ("meta__user_id", [{"meta": {"userId": 1}, "title": t} for t in "ab"]),
        (["userId", "lang"], [{"user_id": 1, "Lang": "en", "title": t} for t in "ab"]),
    ],
)
def test_a_key_is_found_however_it_is_spelled(
    load: Load, qdrant_target: Target, dataset, key, rows
):
    hints = {"write_disposition": "merge", "primary_key": key}
    load(qdrant_adapter(dlt.resource(rows, name="docs", **hints), embed="title"))
    assert [row["title"] for row in qdrant_target.rows(f"{dataset}_docs")] == ["b"]


def test_hints_take_effect_however_their_columns_are_spelled(
    load: Load, qdrant_target: Target, dataset
):
    columns = {
        "docId": {"unique": True},
        "Sort By": {"dedup_sort": "desc", "data_type": "bigint"},
        "isGone": {"hard_delete": True, "data_type": "bool"},
    }

    def docs(rows):
        hints = {"write_disposition": "merge", "columns": columns}
        return qdrant_adapter(dlt.resource(rows, name="docs", **hints), embed="Full Title")

    rows = [
        {"docId": 1, "fullTitle": "kept", "sortBy": 2, "isGone": False},
        {"doc_id": 1, "full_title": "passed over", "sort_by": 1},
        {"docId": 2, "full title": "goes", "sortBy": 1},
    ]
    load(docs(rows))
    load(docs([{"docId": 2, "isGone": True}]))
    [point] = qdrant_target.points(f"{dataset}_docs", vectors=True)
    assert point.payload["full_title"] == "kept"
    assert point.vector


def test_each_table_of_a_resource_has_a_key_of_its_own(load: Load, qdrant_target: Target, dataset):
    events = dlt.resource(
        [
            {"kind": "user", "user": 1, "title": "old"},
            {"kind": "order", "number": 1, "title": "an order"},
            {"kind": "user", "user": 1, "title": "new"},
        ],
        name="events",
        table_name=lambda row: row["kind"],
        write_disposition=lambda row: "merge",
        primary_key=lambda row: "user" if row["kind"] == "user" else "number",
    )
    load(qdrant_adapter(events, embed="title"))
    assert [row["title"] for row in qdrant_target.rows(f"{dataset}_user")] == ["new"]
    assert [row["title"] for row in qdrant_target.rows(f"{dataset}_order")] == ["an order"]


def test_a_key_that_a_row_brings_along_counts(load: Load, qdrant_target: Target, dataset):
    @dlt.resource(name="docs", write_disposition="merge")
    def docs():
        hints = dlt.mark.make_hints(primary_key="number", write_disposition="merge")
        yield dlt.mark.with_hints({"number": 1, "title": "old"}, hints)
        yield {"number": 1, "title": "new"}
        yield dlt.mark.with_table_name({"number": 1, "title": "other"}, "others")

    load(qdrant_adapter(docs(), embed="title"))
    assert [row["title"] for row in qdrant_target.rows(f"{dataset}_docs")] == ["new"]
    assert [row["title"] for row in qdrant_target.rows(f"{dataset}_others")] == ["other"]


def test_keys_that_become_one_in_their_column_are_one(load: Load, qdrant_target: Target, dataset):
    rows = [{"id": key, "title": f"take {key!r}"} for key in (1, "1", 1.0)]
    load(qdrant_adapter(dlt.resource(rows, name="docs", **MERGE), embed="title"))
    assert [row["title"] for row in qdrant_target.rows(f"{dataset}_docs")] == ["take 1.0"]


def test_keys_of_different_tables_are_not_repeated():
    keys = RepeatedKeys()
    assert [keys.place("a", [1]), keys.place("b", [1]), keys.place("a", [1])] == [None, None, 1]
    assert json.dumps([keys.place("b", [2]), keys.place("b", ["2"])]) == "[null, 2]"


@pytest.mark.parametrize("hints", [True, False], ids=["hints", "frame"])
def test_a_file_that_is_imported_is_loaded(load: Load, resource, dataset, tmp_path, hints):
    file = tmp_path / "films.jsonl"
    file.write_text('{"id": 1, "title": "Blade Runner"}\n')
    columns = {"id": {"data_type": "bigint"}, "title": {"data_type": "text"}}
    like = pyarrow.table({"id": [1], "title": ["a"]})

    @dlt.resource(name="films", columns=columns if hints else None)
    def films():
        yield dlt.mark.with_file_import(str(file), "jsonl", 1, hints=None if hints else like)

    load(qdrant_adapter(films(), embed="title"))
    [hit] = resource.search(dataset, "films", "androids")
    assert hit.payload["title"] == "Blade Runner"
