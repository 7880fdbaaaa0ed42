"""What append, merge and replace leave in a collection."""

import os
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import dlt
import pytest
from dlt.common.storages import FileStorage
from dlt.pipeline.exceptions import PipelineStepFailed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dagster_qdrant import QdrantResource, QdrantTerminalError, qdrant_adapter
from dagster_qdrant.destination.tables.table_plan import PLACE_MARK, SUPERSEDED
from dagster_qdrant.destination.writing.load_counts import load_reports
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


@pytest.mark.every_qdrant
def test_append_is_the_default_and_adds_rows_with_each_run(
    load: Load, qdrant_target: Target, dataset
):
    load(films())
    load(films())
    assert ids(qdrant_target, f"{dataset}_films") == [1, 1, 2, 2, 3, 3]


@pytest.mark.every_qdrant
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


@pytest.mark.every_qdrant
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


@pytest.mark.parametrize("strategy", ["scd2", "insert-only"])
@pytest.mark.parametrize("kind", ["rows", "arrow"])
def test_a_merge_strategy_that_is_not_supported_is_refused_by_name(load: Load, strategy, kind):
    import pyarrow

    rows = FILMS if kind == "rows" else pyarrow.Table.from_pylist(FILMS)
    merge = {"disposition": "merge", "strategy": strategy}
    with pytest.raises(
        PipelineStepFailed, match=f"`films` asks for the merge strategy '{strategy}'.*'upsert'"
    ):
        load(films(rows, write_disposition=merge, primary_key="id"))


def test_a_merge_key_beside_a_primary_key_is_ignored_with_a_warning(
    load: Load, qdrant_target: Target, dataset, caplog
):
    hints = {"write_disposition": "merge", "primary_key": "id", "merge_key": ["title", "id"]}
    load(films(**hints))
    load(films([{"id": 3, "title": "Moon"}], **hints))
    assert ids(qdrant_target, f"{dataset}_films") == [1, 2, 3]
    assert "has the merge key `id`, `title`, which is ignored" in caplog.text


def test_a_merge_key_is_refused_where_dlt_would_merge_by_it(load: Load):
    merge = {"disposition": "merge", "strategy": "delete-insert"}
    with pytest.raises(PipelineStepFailed, match="the merge key `title`.*replaces row by row"):
        load(films(write_disposition=merge, primary_key="id", merge_key="title"))


def test_a_merge_key_alone_is_no_key(load: Load):
    with pytest.raises(PipelineStepFailed, match="no key.*Give the resource a `primary_key`"):
        load(films(write_disposition="merge", merge_key="id"))


MERGE = {"write_disposition": "merge", "primary_key": "id"}


def tagged(number: int, *tags: str, **more):
    return {"id": number, "title": f"film {number}", "tags": [{"tag": tag} for tag in tags], **more}


def tags(qdrant_target: Target, dataset: str) -> list[str]:
    return sorted(row["tag"] for row in qdrant_target.rows(f"{dataset}_films__tags"))


@pytest.mark.every_qdrant
def test_merge_replaces_the_nested_rows_of_a_row_that_comes_again(
    load: Load, qdrant_target: Target, dataset
):
    load(films([tagged(1, "a", "b", "c"), tagged(2, "x", "y")], **MERGE))
    load(films([tagged(1, "b")], **MERGE))
    assert tags(qdrant_target, dataset) == ["b", "x", "y"]
    load(films([{"id": 2, "title": "film 2"}], **MERGE))
    assert tags(qdrant_target, dataset) == ["b"]
    assert ids(qdrant_target, f"{dataset}_films") == [1, 2]


def test_as_many_nested_rows_as_a_deleted_row_brings_hide_none_that_is_outdated(
    load: Load, qdrant_target: Target, dataset
):
    gone = {"gone": {"hard_delete": True, "data_type": "bool"}}
    hints = {"write_disposition": "merge", "primary_key": "id", "columns": gone}
    load(films([{"id": 1, "title": "Moon", "tags": ["old"]}], **hints))
    deleted = {"id": 2, "title": "Her", "tags": ["of a deleted row"], "gone": True}
    load(films([{"id": 1, "title": "Moon"}, deleted], **hints))
    assert qdrant_target.rows(f"{dataset}_films__tags") == []


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


@pytest.mark.every_qdrant
def test_replace_with_no_rows_empties_the_collection(load: Load, qdrant_target: Target, dataset):
    load(films(write_disposition="replace"))
    load(films([], write_disposition="replace"))
    assert qdrant_target.rows(f"{dataset}_films") == []


@pytest.mark.every_qdrant
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


@pytest.mark.parametrize(
    ("values", "highest"),
    [
        ([Decimal("9.5"), Decimal(10)], "10"),
        ([Decimal("NaN"), Decimal(1)], "1"),
        ([b"a", b"\xff"], "/w=="),
    ],
)
def test_decimals_and_bytes_are_sorted_by_what_they_are_and_not_by_their_text(
    load: Load, qdrant_target: Target, dataset, values, highest
):
    rows = [{"id": 1, "title": "a film", "version": value} for value in values]
    rows += [{**row, "id": 2} for row in reversed(rows)]
    load(versions(rows, "desc", version={"dedup_sort": "desc"}))
    assert [row["version"] for row in qdrant_target.rows(f"{dataset}_films")] == [highest] * 2


@pytest.mark.parametrize(("one", "same"), [("1.5", "1.50"), ("0", "-0.0")])
def test_a_decimal_key_that_comes_with_other_zeros_is_the_same(
    load: Load, qdrant_target: Target, dataset, one, same
):
    merged = {"write_disposition": "merge", "primary_key": "id"}
    rows = [{"id": Decimal(one), "title": "Moon"}, {"id": Decimal(same), "title": "Her"}]
    for some in (rows[:1], rows):
        load(films(some, **merged))
    [row] = qdrant_target.rows(f"{dataset}_films")
    assert row["title"] == "Her"


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


REPEATED = [
    {"id": 1, "title": "v5", "version": 5, "tags": ["a", "b", "c"], "cast": [{"roles": ["x"]}]},
    {"id": 2, "title": "other", "version": 1, "tags": ["other"]},
    {"id": 1, "title": "v9", "version": 9, "tags": ["d"], "cast": [{"roles": ["y", "z"]}]},
    {"id": 1, "title": "v1", "version": 1, "tags": []},
]


def nested_values(target: Target, collection: str) -> list[Any]:
    return sorted(row["value"] for row in target.rows(collection))


@pytest.mark.parametrize(
    ("window", "order", "title", "tags", "roles"),
    [
        (1, None, "v1", ["other"], []),
        (1, "desc", "v9", ["d", "other"], ["y", "z"]),
        (1000, "desc", "v9", ["d", "other"], ["y", "z"]),
        (1000, "asc", "v1", ["other"], []),
    ],
)
def test_of_a_key_that_comes_twice_only_the_row_that_counts_has_nested_rows(
    load: Load, qdrant_target: Target, dataset, monkeypatch, order, title, tags, roles, window
):
    from dagster_qdrant.destination import load_job

    monkeypatch.setattr(load_job, "_WINDOW_ROWS", window)
    sort = {"version": {"dedup_sort": order, "data_type": "bigint"}} if order else {}
    once = [{**REPEATED[0], "tags": ["once"], "title": "once"}, REPEATED[1]]

    def load_and_see(rows: Any) -> tuple[Any, Any, Any]:
        load(films(rows, write_disposition="merge", primary_key="id", columns=sort))
        [film] = [row for row in qdrant_target.rows(f"{dataset}_films") if row["id"] == 1]
        of = f"{dataset}_films__"
        roles = qdrant_target.rows(f"{of}cast__roles")
        parents = len(qdrant_target.rows(f"{of}cast"))
        assert parents == (1 if roles else 0)
        return film["title"], nested_values(qdrant_target, f"{of}tags"), len(roles)

    for _ in range(2):
        assert load_and_see(REPEATED) == (title, tags, len(roles))
    assert load_and_see(once) == ("once", ["once", "other"], 1)
    assert load_and_see(REPEATED) == (title, tags, len(roles))
    for point in qdrant_target.points(f"{dataset}_films"):
        assert SUPERSEDED not in point.payload


def test_the_same_rows_again_change_nothing_though_their_keys_come_twice(load: Load):
    load(films(REPEATED[:3], write_disposition="merge", primary_key="id"))
    pipeline = load(films(REPEATED[:3], write_disposition="merge", primary_key="id"))
    counts = load_reports.take(pipeline.last_trace.last_load_info.loads_ids[0])["films"]
    assert (counts.embedded, counts.reused) == (0, 2)


@pytest.mark.parametrize("rows", [[("new", False), ("old", False)], [("x", True), ("old", False)]])
def test_the_newest_row_of_a_key_counts_in_whatever_order_files_are_loaded(
    load: Load, qdrant_target: Target, dataset, monkeypatch, rows
):
    """dlt lists the files of a table by their random names."""
    from dlt.load import load as dlt_load

    monkeypatch.setenv("DATA_WRITER__FILE_MAX_ITEMS", "1")
    monkeypatch.setenv("DATA_WRITER__BUFFER_MAX_ITEMS", "1")
    seen: set[str] = set()
    original = dlt_load.filter_new_jobs

    def is_older(name: str) -> bool:
        [path] = Path.cwd().rglob(f"new_jobs/{Path(name).name}")
        with FileStorage.open_zipsafe_ro(str(path)) as lines:
            return PLACE_MARK not in lines.read()

    def oldest_last(names, *others):
        seen.update(name for name in names if Path(name).name.startswith("films."))
        return original(sorted(names, key=is_older), *others)

    monkeypatch.setattr(dlt_load, "filter_new_jobs", oldest_last)
    gone = {"gone": {"hard_delete": True, "data_type": "bool"}}
    for _ in range(2):
        data = [{"id": 1, "title": title, "gone": gone or None} for title, gone in reversed(rows)]
        load(films(data, write_disposition="merge", primary_key="id", columns=gone))
        titles = [row["title"] for row in qdrant_target.rows(f"{dataset}_films")]
        assert titles == ([] if rows[0][1] else ["new"])
    assert len(seen) == 4


def test_a_row_that_a_load_deleted_before_it_died_is_gone_after_the_next(
    load: Load, qdrant_target: Target, dataset, monkeypatch
):
    from dagster_qdrant.destination.loads import load as load_room

    def dies(*_: Any) -> None:
        raise QdrantTerminalError("the end")

    gone = {"gone": {"hard_delete": True, "data_type": "bool"}}
    load(films([tagged(1, "a"), tagged(2, "b")], columns=gone, **MERGE))
    with monkeypatch.context() as patched:
        patched.setattr(load_room, "remove_what_the_load_outdates", dies)
        with pytest.raises(PipelineStepFailed, match="the end"):
            load(films([tagged(1, gone=True)], columns=gone, **MERGE), machine="another")
    load(films([tagged(3, "c")], columns=gone, **MERGE))
    assert ids(qdrant_target, f"{dataset}_films") == [2, 3]
    assert tags(qdrant_target, dataset) == ["b", "c"]


def test_rows_of_a_merge_that_is_appended_this_once_are_all_kept(
    load: Load, qdrant_target: Target, dataset
):
    """Ids that tell rows of a key apart in a merge must not do so between two appends."""
    for _ in range(2):
        data = films(REPEATED[:3], write_disposition="merge", primary_key="id")
        load(data, write_disposition="append")
    assert ids(qdrant_target, f"{dataset}_films") == [1, 1, 1, 1, 2, 2]
    assert len(qdrant_target.rows(f"{dataset}_films__tags")) == 10


# -- against a model ------------------------------------------------------------------------------

SOME_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.integers(0, 3),
            "title": st.sampled_from(["red", "green", "blue"]),
            "version": st.sampled_from([None, 1, 2]),
            "gone": st.sampled_from([None, None, None, True]),
            "tags": st.lists(st.sampled_from("ab"), max_size=2),
            "cast": st.lists(
                st.fixed_dictionaries({"roles": st.lists(st.sampled_from("xy"), max_size=2)}),
                max_size=2,
            ),
        }
    ),
    max_size=6,
)
SOME_LOADS = st.lists(
    st.tuples(st.sampled_from(["merge", "merge", "replace"]), SOME_ROWS), min_size=2, max_size=4
)


def after(table: dict[int, Any], disposition: str, rows: list[Any], order: str | None) -> Any:
    """What a load leaves of a table, as simply as it can be said."""
    if disposition == "replace":
        return {row["id"]: row for row in rows}
    winners: dict[int, Any] = {}
    for row in rows:
        other = winners.setdefault(row["id"], row)
        values = (row["version"], other["version"])
        counts = True
        if order and None in values:
            counts = values[0] is not None or values[1] is None
        elif order:
            counts = values[0] >= values[1] if order == "desc" else values[0] <= values[1]
        winners[row["id"]] = row if counts else other
    merged = table | winners
    return {key: row for key, row in merged.items() if key not in winners or not row["gone"]}


@given(
    loads=SOME_LOADS,
    order=st.sampled_from([None, "desc", "asc"]),
    window=st.integers(1, 4),
    strategy=st.sampled_from(["upsert", "delete-insert"]),
)
@settings(
    max_examples=int(os.environ.get("EXAMPLES", "12")),
    deadline=None,
    derandomize="EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
def test_any_loads_leave_what_a_simple_model_says(
    model, tmp_path_factory, monkeypatch, loads, order, window, strategy
):
    from dagster_qdrant.destination import load_job

    monkeypatch.setattr(load_job, "_WINDOW_ROWS", window)
    target = Target("memory", {"location": f":memory:{uuid.uuid4().hex}"})
    pipeline = dlt.pipeline(
        "films",
        destination=QdrantResource(**target.options, **model).destination(),
        dataset_name="d",
        pipelines_dir=str(tmp_path_factory.mktemp("pipelines")),
    )
    columns = {
        "version": {"data_type": "bigint", **({"dedup_sort": order} if order else {})},
        "gone": {"data_type": "bool", "hard_delete": True},
        "title": {"data_type": "text"},
    }
    table: dict[int, Any] = {}
    for disposition, given_rows in loads:
        rows = given_rows
        if disposition == "replace":
            rows = [{**row, "gone": None} for row in {row["id"]: row for row in rows}.values()]
        written: Any = disposition
        if disposition == "merge":
            written = {"disposition": "merge", "strategy": strategy}
        hints = {"write_disposition": written, "primary_key": "id", "columns": columns}
        pipeline.run(films(rows, **hints))
        table = after(table, disposition, rows, order)
        expected = {
            "films": [
                {k: v for k, v in row.items() if v is not None and k not in ("tags", "cast")}
                for row in table.values()
            ],
            "films__tags": [{"value": tag} for row in table.values() for tag in row["tags"]],
            "films__cast": [{} for row in table.values() for _ in row["cast"]],
            "films__cast__roles": [
                {"value": role}
                for row in table.values()
                for member in row["cast"]
                for role in member["roles"]
            ],
        }
        there = target.collections()
        for name, wanted in expected.items():
            found = target.rows(f"d_{name}") if f"d_{name}" in there else []
            assert sorted(map(str, map(sorted_items, found))) == sorted(
                map(str, map(sorted_items, wanted))
            ), name


def sorted_items(row: dict[str, Any]) -> list[Any]:
    return sorted(row.items())
