"""What append, merge and replace leave in a collection."""

import dlt
import pytest
from dlt.pipeline.exceptions import PipelineStepFailed

from dagster_qdrant import qdrant_adapter
from dagster_qdrant.destination.load_counts import load_reports
from tests.conftest import Load
from tests.targets import Target

FILMS = [
    {"id": 1, "title": "Blade Runner"},
    {"id": 2, "title": "Ghost in the Shell"},
    {"id": 3, "title": "Moon"},
]


def films(rows=FILMS, **hints):
    return qdrant_adapter(dlt.resource(rows, name="films", **hints), embed="title")


def ids(qdrant_target: Target, collection: str) -> list[int]:
    return sorted(row["id"] for row in qdrant_target.rows(collection))


def test_append_is_the_default_and_adds_rows_with_each_run(
    load: Load, qdrant_target: Target, dataset
):
    load(films())
    load(films())
    assert ids(qdrant_target, f"{dataset}_films") == [1, 1, 2, 2, 3, 3]


def test_merge_keeps_one_point_a_key_and_the_newest_row(load: Load, qdrant_target: Target, dataset):
    load(films(write_disposition="merge", primary_key="id"))
    load(
        films(
            [{"id": 3, "title": "Moon, again"}, {"id": 4, "title": "Her"}],
            write_disposition="merge",
            primary_key="id",
        )
    )
    rows = {row["id"]: row["title"] for row in qdrant_target.rows(f"{dataset}_films")}
    assert rows == {1: "Blade Runner", 2: "Ghost in the Shell", 3: "Moon, again", 4: "Her"}


def test_merge_takes_the_last_row_of_a_key_that_comes_twice(
    load: Load, qdrant_target: Target, dataset
):
    rows = [{"id": 1, "title": "first"}, {"id": 1, "title": "last"}]
    load(films(rows, write_disposition="merge", primary_key="id"))
    assert qdrant_target.rows(f"{dataset}_films") == [{"id": 1, "title": "last"}]


def test_merge_forgets_columns_that_the_newest_row_lacks(
    load: Load, qdrant_target: Target, dataset
):
    rows = [{"id": 1, "title": "Moon", "year": 2009}]
    load(films(rows, write_disposition="merge", primary_key="id"))
    load(films([{"id": 1, "title": "Moon"}], write_disposition="merge", primary_key="id"))
    assert qdrant_target.rows(f"{dataset}_films") == [{"id": 1, "title": "Moon"}]


def test_merge_deletes_rows_that_a_hard_delete_column_marks(
    load: Load, qdrant_target: Target, dataset
):
    hints = {
        "write_disposition": "merge",
        "primary_key": "id",
        "columns": {"gone": {"hard_delete": True, "data_type": "bool"}},
    }
    load(films(**hints))
    load(films([{"id": 2, "gone": True}, {"id": 3, "title": "Moon", "gone": False}], **hints))
    assert ids(qdrant_target, f"{dataset}_films") == [1, 3]


def test_merge_without_a_key_is_refused_before_anything_is_written(
    load: Load, qdrant_target: Target, dataset
):
    with pytest.raises(
        PipelineStepFailed, match="`films` has the write disposition 'merge'.*no key"
    ):
        load(films(write_disposition="merge"))
    assert f"{dataset}_films" not in qdrant_target.collections()


def test_merge_by_a_unique_column_works_without_a_primary_key(
    load: Load, qdrant_target: Target, dataset
):
    hints = {"write_disposition": "merge", "columns": {"id": {"unique": True}}}
    load(films(**hints))
    load(films([{"id": 3, "title": "Moon, again"}], **hints))
    assert ids(qdrant_target, f"{dataset}_films") == [1, 2, 3]


@pytest.mark.parametrize("strategy", ["scd2", "delete-insert", "insert-only"])
def test_a_merge_strategy_that_is_not_supported_is_refused_by_name(load: Load, strategy):
    merge = {"disposition": "merge", "strategy": strategy}
    with pytest.raises(PipelineStepFailed, match=strategy):
        load(films(write_disposition=merge, primary_key="id"))


MERGE = {"write_disposition": "merge", "primary_key": "id"}


def tagged(number: int, *tags: str, **more):
    return {"id": number, "title": f"film {number}", "tags": [{"tag": tag} for tag in tags], **more}


def tags(qdrant_target: Target, dataset: str) -> list[str]:
    return sorted(row["tag"] for row in qdrant_target.rows(f"{dataset}_films__tags"))


def test_merge_replaces_the_nested_rows_of_a_row_that_comes_again(
    load: Load, qdrant_target: Target, dataset
):
    load(films([tagged(1, "a", "b", "c"), tagged(2, "x", "y")], **MERGE))
    load(films([tagged(1, "b")], **MERGE))
    assert tags(qdrant_target, dataset) == ["b", "x", "y"]
    load(films([{"id": 2, "title": "film 2"}], **MERGE))
    assert tags(qdrant_target, dataset) == ["b"]
    assert ids(qdrant_target, f"{dataset}_films") == [1, 2]


def test_merge_deletes_the_nested_rows_of_a_deleted_row(load: Load, qdrant_target: Target, dataset):
    hints = {**MERGE, "columns": {"gone": {"hard_delete": True, "data_type": "bool"}}}
    load(films([tagged(1, "a", "b"), tagged(2, "x")], **hints))
    load(films([tagged(1, "a", gone=True), tagged(3, "z", gone=True)], **hints))
    assert tags(qdrant_target, dataset) == ["x"]
    assert ids(qdrant_target, f"{dataset}_films") == [2]
    load(films([tagged(1, "again")], **hints))
    assert tags(qdrant_target, dataset) == ["again", "x"]
    assert ids(qdrant_target, f"{dataset}_films") == [1, 2]


def test_replace_leaves_exactly_the_rows_of_the_last_run(
    load: Load, qdrant_target: Target, dataset
):
    load(films(write_disposition="replace"))
    load(films([FILMS[1], {"id": 9, "title": "Arrival"}], write_disposition="replace"))
    assert ids(qdrant_target, f"{dataset}_films") == [2, 9]


def test_replace_keeps_rows_that_are_equal(load: Load, qdrant_target: Target, dataset):
    twins = [FILMS[0], FILMS[0], FILMS[0], FILMS[1]]
    for _ in range(2):
        load(films(twins, write_disposition="replace"))
        assert ids(qdrant_target, f"{dataset}_films") == [1, 1, 1, 2]


def test_replace_keeps_rows_that_share_a_primary_key(load: Load, qdrant_target: Target, dataset):
    rows = [{"id": 1, "title": "a"}, {"id": 1, "title": "b"}]
    load(films(rows, write_disposition="replace", primary_key="id"))
    assert len(qdrant_target.rows(f"{dataset}_films")) == 2


def test_replace_with_no_rows_empties_the_collection(load: Load, qdrant_target: Target, dataset):
    load(films(write_disposition="replace"))
    load(films([], write_disposition="replace"))
    assert qdrant_target.rows(f"{dataset}_films") == []


def test_replace_takes_nested_tables_along(load: Load, qdrant_target: Target, dataset):
    load(films([{"id": 1, "title": "Moon", "tags": ["a", "b"]}], write_disposition="replace"))
    load(films([{"id": 1, "title": "Moon", "tags": ["c"]}], write_disposition="replace"))
    assert [row["value"] for row in qdrant_target.rows(f"{dataset}_films__tags")] == ["c"]
    load(films([{"id": 1, "title": "Moon"}], write_disposition="replace"))
    assert qdrant_target.rows(f"{dataset}_films__tags") == []


def test_a_replace_that_fails_leaves_the_former_rows(load: Load, qdrant_target: Target, dataset):
    load(films(write_disposition="replace"))
    broken = [{"id": 7, "title": "Solaris"}, {"id": None, "title": "no key"}]
    hints = {"write_disposition": "replace", "primary_key": "id"}
    with pytest.raises(PipelineStepFailed):
        load(films(broken, **hints), name="other", machine="other")
    assert set(ids(qdrant_target, f"{dataset}_films")) >= {1, 2, 3}


@pytest.mark.parametrize("disposition", ["append", "merge", "replace"])
def test_without_a_dataset_name_the_collection_has_the_name_of_the_table(
    load: Load, qdrant_target: Target, dataset, disposition
):
    qdrant_target.need_root()
    for _ in range(2):
        rows = qdrant_adapter(
            dlt.resource(FILMS, name=dataset, write_disposition=disposition, primary_key="id"),
            embed="title",
        )
        load(rows, dataset_name=None)
    assert dataset in qdrant_target.collections()
    assert len(qdrant_target.rows(dataset)) == (6 if disposition == "append" else 3)


@pytest.mark.parametrize("disposition", ["append", "merge", "replace"])
def test_arrow_tables_load_like_rows(load: Load, qdrant_target: Target, dataset, disposition):
    import pyarrow

    table = pyarrow.table({"id": [1, 2, 2], "title": ["Moon", "Her", "Her"]})
    key = "id" if disposition == "merge" else None
    for _ in range(2):
        load(films([table], write_disposition=disposition, primary_key=key))
    expected = {"append": [1, 1, 2, 2, 2, 2], "merge": [1, 2], "replace": [1, 2, 2]}
    assert ids(qdrant_target, f"{dataset}_films") == expected[disposition]
    assert all(point.vector for point in qdrant_target.points(f"{dataset}_films", vectors=True))


def test_rows_that_a_load_outdates_are_counted(load: Load, qdrant_target: Target, dataset):
    rows = [{"id": number, "title": "a film", "tags": ["a", "b"]} for number in range(3)]
    load(films(rows, write_disposition="replace"))
    pipeline = load(films(rows[:1], write_disposition="replace"))
    counts = load_reports.take(pipeline.last_trace.last_load_info.loads_ids[0])
    assert (counts["films"].outdated, counts["films__tags"].outdated) == (2, 4)


def versions(rows, order, **columns):
    return films(
        rows,
        write_disposition="merge",
        primary_key="id",
        columns={"version": {"dedup_sort": order, "data_type": "bigint"}, **columns},
    )


@pytest.mark.parametrize(("order", "winner"), [("desc", 9), ("asc", 1)])
def test_a_dedup_sort_column_says_which_row_of_a_key_counts(
    load: Load, qdrant_target: Target, dataset, monkeypatch, order, winner
):
    from dagster_qdrant.destination import load_job

    monkeypatch.setattr(load_job, "_WINDOW_ROWS", 2)
    rows = [{"id": 1, "title": f"version {n}", "version": n} for n in (5, 9, 1, 7, 3)]
    rows.append({"id": 1, "title": "no version"})
    load(versions(rows, order))
    [row] = qdrant_target.rows(f"{dataset}_films")
    assert row == {"id": 1, "title": f"version {winner}", "version": winner}
    # Of two loads the later one counts, whatever it brings.
    load(versions([{"id": 1, "title": "later", "version": 4}], order))
    [row] = qdrant_target.rows(f"{dataset}_films")
    assert row["title"] == "later"


def test_a_row_that_does_not_count_does_not_bring_back_one_that_is_deleted(
    load: Load, qdrant_target: Target, dataset, monkeypatch
):
    from dagster_qdrant.destination import load_job

    monkeypatch.setattr(load_job, "_WINDOW_ROWS", 1)
    gone = {"gone": {"hard_delete": True, "data_type": "bool"}}
    load(versions([{"id": 1, "title": "a film", "version": 1}], "desc", **gone))
    rows = [
        {"id": 1, "title": "a film", "version": 3, "gone": True},
        {"id": 1, "title": "a film", "version": 2},
    ]
    load(versions(rows, "desc", **gone))
    assert qdrant_target.rows(f"{dataset}_films") == []


def test_a_dedup_sort_column_beside_nested_tables_is_refused(load: Load):
    rows = [{"id": 1, "title": "a film", "version": 1, "tags": ["a"]}]
    with pytest.raises(PipelineStepFailed, match="nested tables and a `dedup_sort` column"):
        load(versions(rows, "desc"))
