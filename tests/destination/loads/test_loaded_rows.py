"""What a load brought is known without marks in the store, also where another process goes on."""

from collections import Counter
from typing import Any

import dlt
import pytest
from dlt.pipeline.exceptions import PipelineStepFailed

from dagster_qdrant import QdrantTransientError, qdrant_adapter
from dagster_qdrant.destination import load_job
from dagster_qdrant.destination.loads import loaded_rows
from dagster_qdrant.destination.writing.point_writer import PointWriter
from dagster_qdrant.qdrant.connection import Connection
from tests.conftest import Load
from tests.targets import Target

WRITES = {
    "upsert",
    "delete",
    "batch_update_points",
    "set_payload",
    "overwrite_payload",
    "delete_payload",
}


@pytest.fixture
def writes(monkeypatch) -> Counter[str]:
    """How often points were written, by collection; without dlt's books."""
    writes: Counter[str] = Counter()
    request = Connection.request

    def counted(self: Any, operation: Any, collection: Any = None, *args: Any, **kwargs: Any):
        if operation.__name__ in WRITES and "__dlt_" not in collection:
            writes[collection] += 1
        arguments = args if collection is None else (collection, *args)
        return request(self, operation, *arguments, **kwargs)

    monkeypatch.setattr(Connection, "request", counted)
    return writes


def films(rows: Any, disposition: str, key: str | None = "id", **hints: Any) -> Any:
    resource = dlt.resource(
        rows, name="films", write_disposition=disposition, primary_key=key, **hints
    )
    return qdrant_adapter(resource, embed="title")


def tagged(number: int, *tags: str) -> dict[str, Any]:
    cast = [{"name": "somebody", "roles": [1, 2]}]
    return {"id": number, "title": f"film {number}", "tags": list(tags), "cast": cast}


ROWS = [tagged(number, "a", f"tag {number}") for number in range(6)]
FLAT = [{"id": number, "title": f"film {number}"} for number in range(6)]


@pytest.mark.parametrize(
    ("disposition", "rows", "key"),
    [
        ("replace", FLAT, "id"),
        ("replace", [*FLAT, *FLAT[:2]], None),
        ("replace", ROWS, "id"),
        ("replace", [*ROWS, *ROWS[:2]], None),
        ("merge", FLAT, "id"),
        ("merge", ROWS, "id"),
    ],
    ids=[
        "replace",
        "replace with equal rows",
        "replace with nested rows",
        "replace with equal nested rows",
        "merge",
        "merge with nested rows",
    ],
)
def test_nothing_is_written_where_nothing_changed(
    load: Load, qdrant_target: Target, dataset, writes, disposition, rows, key
):
    load(films(rows, disposition, key))
    writes.clear()
    load(films(rows, disposition, key), machine="another")
    assert writes == {}
    assert len(qdrant_target.rows(f"{dataset}_films")) == len(rows)


def test_only_what_changed_is_written(load: Load, qdrant_target: Target, dataset, writes):
    load(films(ROWS, "merge"))
    writes.clear()
    load(films([*ROWS[:3], tagged(3, "a")], "merge"))
    assert writes == {f"{dataset}_films__tags": 1}
    tags = sorted(row["value"] for row in qdrant_target.rows(f"{dataset}_films__tags"))
    assert tags == ["a"] * 6 + ["tag 0", "tag 1", "tag 2", "tag 4", "tag 5"]


def forgetful(monkeypatch) -> None:
    """Another process, which knows nothing of the load, goes on from now on."""
    loaded_rows._kept.clear()


def in_small_files(monkeypatch) -> None:
    for option in ("FILE_MAX_ITEMS", "BUFFER_MAX_ITEMS"):
        monkeypatch.setenv(f"DATA_WRITER__{option}", "2")
    monkeypatch.setattr(load_job, "_WINDOW_ROWS", 1)


def contents(target: Target, collection: str) -> list[str]:
    return sorted(str(sorted(row.items())) for row in target.rows(collection))


def expected(rows: Any) -> list[str]:
    return sorted(str(sorted(row.items())) for row in rows)


# Equal rows, and others that share a key, spread over several files.
TWINS = [
    {"id": 1, "title": "a"},
    {"id": 1, "title": "a"},
    {"id": 2, "title": "b"},
    {"id": 1, "title": "c"},
    {"id": 2, "title": "b"},
    {"id": 1, "title": "a"},
    {"id": 3, "title": "d"},
]


@pytest.mark.parametrize("key", [None, "id"])
@pytest.mark.parametrize("failing", [2, 5, 7])
def test_equal_rows_in_many_files_are_all_kept_by_a_load_that_another_process_goes_on_with(
    load: Load, qdrant_target: Target, dataset, monkeypatch, key, failing
):
    in_small_files(monkeypatch)
    load(films([*TWINS[2:], {"id": 9, "title": "goes"}], "replace", key))
    start, left = PointWriter.start, [failing]

    def fails(writer: Any, window: Any) -> None:
        start(writer, window)
        left[0] -= "films" in writer._plan.table_name
        if left[0] <= 0:
            writer.finish()
            raise QdrantTransientError("an interruption")

    with monkeypatch.context() as patched:
        patched.setattr(PointWriter, "start", fails)
        with pytest.raises(PipelineStepFailed, match="an interruption"):
            load(films(TWINS, "replace", key))
    forgetful(monkeypatch)
    load(None)  # goes on with what is pending
    assert contents(qdrant_target, f"{dataset}_films") == expected(TWINS)
    load(films(TWINS[:3], "replace", key))
    assert contents(qdrant_target, f"{dataset}_films") == expected(TWINS[:3])


@pytest.mark.parametrize("disposition", ["merge", "replace"])
def test_a_load_whose_rows_are_all_in_is_completed_by_another_process(
    load: Load, qdrant_target: Target, dataset, monkeypatch, disposition
):
    from dagster_qdrant.destination.loads import load as loads

    def dies(*_: Any) -> None:
        raise QdrantTransientError("an interruption")

    in_small_files(monkeypatch)
    load(films(ROWS, disposition))
    changed = [tagged(0), tagged(1, "b"), *ROWS[2:5]]
    with monkeypatch.context() as patched:
        patched.setattr(loads, "remove_what_the_load_outdates", dies)
        with pytest.raises(PipelineStepFailed, match="an interruption"):
            load(films(changed, disposition))
    forgetful(monkeypatch)
    load(None)
    tags = sorted(row["value"] for row in qdrant_target.rows(f"{dataset}_films__tags"))
    of_last = [] if disposition == "replace" else ["a", "tag 5"]
    assert tags == sorted(["b", *(["a"] * 3), "tag 2", "tag 3", "tag 4", *of_last])


def test_equal_rows_are_all_there_after_their_collection_was_deleted_under_way(
    load: Load, qdrant_target: Target, dataset, monkeypatch, resource
):
    in_small_files(monkeypatch)
    load(films(FLAT, "replace", None))
    start, left = PointWriter.start, [5]

    def deletes(writer: Any, window: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            with resource.get_client() as client:
                client.delete_collection(f"{dataset}_films")
        start(writer, window)

    monkeypatch.setattr(PointWriter, "start", deletes)
    load(films(TWINS, "replace", None))
    assert contents(qdrant_target, f"{dataset}_films") == expected(TWINS)
