"""A replace of one partition leaves the rows of the others alone."""

from typing import Any

import dlt
import pytest
from dlt.pipeline.exceptions import PipelineStepFailed

from dagster_qdrant import QdrantConfigurationError, QdrantResource, qdrant_adapter
from dagster_qdrant.destination import qdrant
from tests.targets import Target


@pytest.fixture
def load(qdrant_target: Target, model, dataset, tmp_path):
    def load(rows: Any, partition: str | None, disposition="replace", embed: Any = "title"):
        given = QdrantResource(**qdrant_target.options | model)
        pipeline = dlt.pipeline(
            "films",
            destination=given.destination(partition=partition),
            dataset_name=dataset,
            pipelines_dir=str(tmp_path / str(partition)),
        )
        films = dlt.resource(rows, name="films", write_disposition=disposition, primary_key="id")
        pipeline.run(qdrant_adapter(films, embed=embed))

    return load


def films(*ids: int, tags: list[str] | None = None) -> list[dict[str, Any]]:
    return [{"id": n, "title": "a film", "tags": tags or ["x", "y"]} for n in ids]


@pytest.fixture
def by_partition(qdrant_target: Target, dataset):
    def by_partition(table: str = "films", column: str = "id") -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for point in qdrant_target.points(f"{dataset}_{table}"):
            found.setdefault(point.payload["_dlt_partition"], []).append(point.payload[column])
        return {partition: sorted(values) for partition, values in sorted(found.items())}

    return by_partition


def test_a_partition_is_replaced_and_its_neighbours_stay(load, by_partition):
    load(films(1, 2), "monday")
    load(films(1, 3), "tuesday")  # the same key in both
    assert by_partition() == {"monday": [1, 2], "tuesday": [1, 3]}
    load(films(2, 4, tags=["z"]), "monday")
    assert by_partition() == {"monday": [2, 4], "tuesday": [1, 3]}
    assert by_partition("films__tags", "value") == {
        "monday": ["z", "z"],
        "tuesday": ["x", "x", "y", "y"],
    }


def test_nested_rows_belong_to_the_row_of_their_own_partition(load, qdrant_target, dataset):
    for partition in ("monday", "tuesday", "monday"):
        load(films(1), partition)
    roots = {point.payload["_dlt_id"] for point in qdrant_target.points(f"{dataset}_films")}
    parents = [p.payload["_dlt_parent_id"] for p in qdrant_target.points(f"{dataset}_films__tags")]
    assert len(roots) == 2
    assert sorted(parents) == sorted([*roots, *roots])


def test_a_partition_without_rows_empties_only_itself(load, by_partition):
    load(films(1), "monday")
    load(films(2), "tuesday")
    load([], "monday")
    assert by_partition() == {"tuesday": [2]}


def test_rows_that_belong_to_no_partition_are_not_mixed_with_others(load, qdrant_target, dataset):
    load(films(1, 2), None)
    with pytest.raises(PipelineStepFailed, match="2 rows of .* belong to none.*drop_resources"):
        load(films(3), "monday")
    assert sorted(row["id"] for row in qdrant_target.rows(f"{dataset}_films")) == [1, 2]


def test_replacing_the_whole_replaces_all_partitions(load, qdrant_target, dataset):
    load(films(1), "monday")
    load(films(2), "tuesday")
    load(films(3), None)
    assert [row["id"] for row in qdrant_target.rows(f"{dataset}_films")] == [3]


def test_merged_rows_belong_to_their_key_and_to_no_partition(load, qdrant_target, dataset):
    load(films(1), "monday", "merge")
    load(films(1), "tuesday", "merge")
    [point] = qdrant_target.points(f"{dataset}_films")
    assert "_dlt_partition" not in point.payload


def test_other_columns_to_embed_keep_the_rows_of_all_partitions(load, by_partition):
    load(films(1), "monday")
    load(films(2), "tuesday")
    load(films(3), "monday", embed=["title", "id"])
    assert by_partition() == {"monday": [3], "tuesday": [2]}


def test_a_swap_of_one_partition_is_refused():
    destination = qdrant(location=":memory:", partition="monday", replace_strategy="swap")
    with pytest.raises(QdrantConfigurationError, match="`replace_strategy` is 'swap'.*`monday`"):
        destination.configuration(destination.spec())
