"""Rows of one key in one load, of resources that nobody looked at where they come up."""

from pathlib import Path
from typing import Any

import dlt
import pyarrow
import pytest
from dlt.destinations.adapters import qdrant_adapter as dlt_adapter
from dlt.pipeline.exceptions import PipelineStepFailed

from dagster_qdrant import qdrant_adapter
from tests.conftest import Load
from tests.targets import Target, memory

GONE = {"gone": {"hard_delete": True, "data_type": "bool"}}


@pytest.fixture(params=[memory])  # what is looked at here happens before rows are sent
def qdrant_target(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    with request.param(tmp_path) as qdrant_target:
        yield qdrant_target


@pytest.fixture
def one_row_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_WRITER__FILE_MAX_ITEMS", "1")
    monkeypatch.setenv("DATA_WRITER__BUFFER_MAX_ITEMS", "1")


def films(rows: Any, strategy: str = "upsert", **hints: Any) -> Any:
    merge = {"disposition": "merge", "strategy": strategy}
    return dlt.resource(rows, name="films", write_disposition=merge, primary_key="id", **hints)


def tagged(title: str, *tags: str, **more: Any) -> dict[str, Any]:
    return {"id": 1, "title": title, "tags": list(tags), **more}


def refused(message: str) -> Any:
    return pytest.raises(PipelineStepFailed, match=f"(?s){message}")


@pytest.mark.parametrize("adapter", [None, dlt_adapter], ids=["bare", "dlt's adapter"])
def test_nested_rows_of_repeated_keys_are_refused_where_they_would_be_mixed(
    load: Load, qdrant_target: Target, dataset, adapter
):
    resource = films([tagged("old", "a", "b"), tagged("new", "c")])
    if adapter:
        resource = adapter(resource, embed="title")
    with refused(
        "`films` is merged, and a key comes more than once in a load: `id` = 1, with different "
        "rows in `films__tags`.*delete-insert.*qdrant_adapter"
    ):
        load(resource)
    assert f"{dataset}_films" not in qdrant_target.collections()


@pytest.mark.parametrize(
    ("rows", "tags"),
    [
        ([tagged("old", "a", "b"), tagged("new", "a", "b")], ["a", "b"]),
        ([tagged("same", "a"), tagged("same", "a")], ["a"]),
        ([tagged("old"), tagged("new")], []),
        ([tagged("old", "a"), tagged("gone", gone=True)], []),
        ([tagged("gone", gone=True), tagged("new", "a")], ["a"]),
    ],
)
def test_nested_rows_of_repeated_keys_are_loaded_where_they_are_the_same(
    load: Load, qdrant_target: Target, dataset, rows, tags
):
    load(films(rows, columns=GONE))
    there = f"{dataset}_films__tags" in qdrant_target.collections()
    found = qdrant_target.rows(f"{dataset}_films__tags") if there else []
    assert sorted(row["value"] for row in found) == tags
    titles = [row["title"] for row in qdrant_target.rows(f"{dataset}_films")]
    assert titles == ([] if rows[-1].get("gone") else [rows[-1]["title"]])


def test_with_delete_insert_nested_rows_are_those_of_the_last_row(
    load: Load, qdrant_target: Target, dataset
):
    for rows in ([tagged("old", "a", "b"), tagged("new", "c")], [tagged("x", "y"), tagged("z")]):
        load(films(rows, "delete-insert"))
        [film] = qdrant_target.rows(f"{dataset}_films")
        assert film["title"] == rows[-1]["title"]
        found = [row["value"] for row in qdrant_target.rows(f"{dataset}_films__tags")]
        assert found == rows[-1]["tags"]


@pytest.mark.usefixtures("one_row_a_file")
@pytest.mark.parametrize("strategy", ["upsert", "delete-insert"])
def test_rows_of_a_key_in_several_files_are_refused_where_the_newest_is_not_known(
    load: Load, qdrant_target: Target, dataset, strategy
):
    rows = [{"id": "x", "title": title} for title in ("old", "new")]
    with refused('comes more than once in a load: `id` = "x", in several files.*dedup_sort'):
        load(films(rows, strategy))
    assert f"{dataset}_films" not in qdrant_target.collections()


def test_arrow_tables_are_refused_where_the_newest_is_not_known(
    load: Load, qdrant_target: Target, dataset
):
    tables = [pyarrow.table({"id": [1], "title": [f"take {n}"], f"c{n}": [n]}) for n in range(2)]
    with refused("`id` = 1, in Arrow tables or data frames, whose rows have no known order"):
        load(films(tables))
    once = pyarrow.table({"id": [1, 2, 2], "title": ["Moon", "Her", "Her"]})
    load(films([once]), name="other")
    assert sorted(row["id"] for row in qdrant_target.rows(f"{dataset}_films")) == [1, 2]


def test_ids_that_dlt_gives_to_rows_of_arrow_tables_do_not_hide_that(load: Load, monkeypatch):
    """They take the place of those that the adapter gives."""
    monkeypatch.setenv("NORMALIZE__PARQUET_NORMALIZER__ADD_DLT_ID", "true")
    tables = [pyarrow.table({"id": [1], "title": [f"take {n}"], f"c{n}": [n]}) for n in range(2)]
    with refused("`id` = 1, in Arrow tables or data frames.*Remove `add_dlt_id`"):
        load(qdrant_adapter(films(tables), embed="title"))


@pytest.mark.usefixtures("one_row_a_file")
def test_rows_of_a_key_in_several_files_are_loaded_where_it_makes_no_difference(
    load: Load, qdrant_target: Target, dataset
):
    load(films([{"id": 1, "title": "same"}] * 3))
    assert qdrant_target.rows(f"{dataset}_films") == [{"id": 1, "title": "same"}]
    rows = [{"id": 1, "title": f"take {n}", "version": n} for n in (1, 3, 2)]
    load(films(rows, columns={"version": {"dedup_sort": "desc", "data_type": "bigint"}}))
    assert [row["title"] for row in qdrant_target.rows(f"{dataset}_films")] == ["take 3"]


def test_the_last_line_of_a_file_counts(load: Load, qdrant_target: Target, dataset):
    load(films([{"id": 1, "title": f"take {n}"} for n in range(5)]))
    assert [row["title"] for row in qdrant_target.rows(f"{dataset}_films")] == ["take 4"]
