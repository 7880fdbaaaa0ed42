"""Nested tables with a write disposition of their own, as dlt's other destinations load them."""

from typing import Any

import dagster as dg
import dlt
import pytest
from dlt.extract import make_nested_hints
from dlt.pipeline.exceptions import PipelineStepFailed

from dagster_qdrant import QdrantResource, build_qdrant_assets, qdrant_adapter
from dagster_qdrant.destination.loads import load as loads
from dagster_qdrant.errors import QdrantTerminalError
from tests.conftest import Load
from tests.targets import Target


def film(number: int, **lists: Any) -> dict[str, Any]:
    return {"id": number, "title": f"film {number}", **lists}


FIRST = [
    film(1, list=[{"v": "a", "sub": [1, 2]}, {"v": "b", "sub": [3]}], tags=["t1"]),
    film(2, list=[{"v": "c", "sub": [4]}], tags=["t2"]),
]
SECOND = [
    film(1, list=[{"v": "a", "sub": [1]}, {"v": "d", "sub": [5]}], tags=["t3"]),
    film(3, list=[{"v": "e", "sub": [6]}]),
]
WITHOUT = [film(1)]

# What the nested tables `list` and `list__sub` have after each of three loads. By the write
# dispositions of the root, of `list`, and of `list__sub`: None is that of the table it is in.
ALL_LIST, ALL_SUB = "aabcde", [1, 1, 2, 3, 4, 5, 6]
OF_DUCKDB = {
    ("append", "append", None): [("abc", [1, 2, 3, 4]), (ALL_LIST, ALL_SUB), (ALL_LIST, ALL_SUB)],
    ("append", "append", "replace"): [
        ("abc", [1, 2, 3, 4]),
        (ALL_LIST, [1, 5, 6]),
        (ALL_LIST, [1, 5, 6]),
    ],
    ("append", "replace", None): [
        ("abc", [1, 2, 3, 4]),
        ("ade", [1, 5, 6]),
        ("ade", [1, 5, 6]),
    ],
    ("append", "replace", "append"): [("abc", [1, 2, 3, 4]), ("ade", ALL_SUB), ("ade", ALL_SUB)],
    ("replace", "append", None): [("abc", [1, 2, 3, 4]), (ALL_LIST, ALL_SUB), (ALL_LIST, ALL_SUB)],
    ("replace", "append", "replace"): [
        ("abc", [1, 2, 3, 4]),
        (ALL_LIST, [1, 5, 6]),
        (ALL_LIST, []),
    ],
    ("replace", "replace", "append"): [("abc", [1, 2, 3, 4]), ("ade", ALL_SUB), ("", ALL_SUB)],
}


def films(
    rows: Any, root: str, of_list: str | None, of_sub: str | None = None, **hints: Any
) -> Any:
    nested: dict[Any, Any] = {}
    if of_list:
        nested["list"] = make_nested_hints(write_disposition=of_list)
    if of_sub:
        nested["list", "sub"] = make_nested_hints(write_disposition=of_sub)
    hints = {"primary_key": "id", "nested_hints": nested, **hints}
    return qdrant_adapter(
        dlt.resource(rows, name="films", write_disposition=root, **hints), embed="title"
    )


def nested_rows(target: Target, dataset: str) -> tuple[str, list[int]]:
    lists = target.rows(f"{dataset}_films__list")
    subs = target.rows(f"{dataset}_films__list__sub")
    return "".join(sorted(row["v"] for row in lists)), sorted(row["value"] for row in subs)


@pytest.mark.parametrize("dispositions", OF_DUCKDB, ids=str)
def test_a_nested_table_is_loaded_by_its_own_write_disposition(
    load: Load, qdrant_target: Target, dataset, dispositions
):
    for rows, expected in zip((FIRST, SECOND, WITHOUT), OF_DUCKDB[dispositions], strict=True):
        load(films(rows, *dispositions))
        assert nested_rows(qdrant_target, dataset) == expected
    tags = [row["value"] for row in qdrant_target.rows(f"{dataset}_films__tags")]
    assert sorted(tags) == (["t1", "t2", "t3"] if dispositions[0] == "append" else [])


@pytest.mark.parametrize("root", ["append", "replace"])
def test_a_nested_table_that_is_merged_goes_the_way_of_the_rows_it_is_in(
    load: Load, qdrant_target: Target, dataset, root
):
    for rows in (FIRST, SECOND):
        load(films(rows, root, "merge"))
    expected = (ALL_LIST, ALL_SUB) if root == "append" else ("ade", [1, 5, 6])
    assert nested_rows(qdrant_target, dataset) == expected


@pytest.mark.parametrize("disposition", ["append", "replace"])
def test_a_nested_table_of_a_merged_one_is_merged_or_refused_before_anything_is_written(
    load: Load, qdrant_target: Target, dataset, disposition
):
    message = f"`films__list` has the write disposition '{disposition}', but is nested in `films`"
    with pytest.raises(PipelineStepFailed, match=message):
        load(films(FIRST, "merge", disposition))
    assert f"{dataset}_films" not in qdrant_target.collections()
    load(films(FIRST, "merge", "merge"), machine="another")
    assert nested_rows(qdrant_target, dataset) == ("abc", [1, 2, 3, 4])


def test_a_nested_table_with_a_key_of_its_own_is_a_table_of_its_own(
    load: Load, qdrant_target: Target, dataset
):
    hints = make_nested_hints(primary_key="v", write_disposition="merge")
    for rows in (FIRST, SECOND):
        load(films(rows, "replace", None, nested_hints={"list": hints}))
    assert nested_rows(qdrant_target, dataset) == ("abcde", [1, 3, 4, 5, 6])


def test_what_a_dead_load_appended_to_a_nested_table_goes(
    load: Load, qdrant_target: Target, dataset, monkeypatch
):
    def dies(*_: Any) -> None:
        raise QdrantTerminalError("the end")

    load(films(FIRST, "replace", "append"))
    with monkeypatch.context() as patched:
        patched.setattr(loads, "remove_what_the_load_outdates", dies)
        with pytest.raises(PipelineStepFailed, match="the end"):
            load(films(SECOND, "replace", "append"), machine="another")
    load(films(SECOND, "replace", "append"), machine="a third")
    assert nested_rows(qdrant_target, dataset) == (ALL_LIST, ALL_SUB)


def test_a_swap_leaves_a_nested_table_that_is_appended_to(
    qdrant_target: Target, model, dataset, tmp_path
):
    resource = QdrantResource(**qdrant_target.options, **model, replace_strategy="swap")
    pipeline = dlt.pipeline(
        "films",
        destination=resource.destination(),
        dataset_name=dataset,
        pipelines_dir=str(tmp_path / "pipelines"),
    )
    for rows, lists in ((FIRST, "abc"), (SECOND, ALL_LIST), (WITHOUT, ALL_LIST)):
        pipeline.run(films(rows, "replace", "append"))
        assert nested_rows(qdrant_target, dataset)[0] == lists
        assert len(qdrant_target.rows(f"{dataset}_films")) == len(rows)


def test_nested_rows_that_outlive_their_parents_are_no_orphans(resource: QdrantResource, dataset):
    for rows in (FIRST, SECOND):
        assets = build_qdrant_assets(
            dlt_source=films(rows, "replace", "append"), dataset_name=dataset, checks=True
        )
        result = dg.materialize([assets], resources={"qdrant": resource})
        assert result.success
        assert all(check.passed for check in result.get_asset_check_evaluations())
