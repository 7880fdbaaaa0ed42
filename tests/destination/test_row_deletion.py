"""Rows are deleted by a filter, with all that hangs on them, in turn with loads."""

import re
import threading
from typing import Any

import dlt
import pytest
from qdrant_client import models

from dagster_qdrant import (
    QdrantConfigurationError,
    QdrantResource,
    QdrantTerminalError,
    qdrant_adapter,
)
from dagster_qdrant.destination.row_deletion import _Deletion
from dagster_qdrant.destination.writing.table_loader import TableLoader
from tests.conftest import Load
from tests.destination.conftest import loaded
from tests.targets import Target, memory, rest

ADA, BOB = "Ada", "Bob"
# Rows that are embedded, and those that stay as they are, when deleted ones are loaded again.
UNCHANGED = {"append": (2, 0), "merge": (2, 1), "replace": (2, 1)}


def orders(*names: str, disposition: str = "merge") -> Any:
    rows = [
        {
            "id": number,
            "customer": name,
            "note": f"order {number}",
            "items": [{"article": f"{name} {number}", "tags": ["x", "y"]}],
        }
        for number, name in enumerate(names)
    ]
    key = None if disposition == "append" else "id"
    data = dlt.resource(rows, name="films", write_disposition=disposition, primary_key=key)
    return qdrant_adapter(data, embed="note")


def of(name: str, column: str = "customer") -> models.Filter:
    match = models.MatchValue(value=name)
    return models.Filter(must=[models.FieldCondition(key=column, match=match)])


@pytest.mark.parametrize("disposition", ["append", "merge", "replace"])
def test_rows_go_with_those_nested_in_them_and_are_loaded_again(
    load: Load, resource: QdrantResource, qdrant_target: Target, dataset, disposition
):
    load(orders(ADA, BOB, ADA, disposition=disposition))
    gone = resource.delete_rows(f"{dataset}", "Films", of(ADA))
    assert gone == {"films": 2, "films__items": 2, "films__items__tags": 4}
    assert [row["customer"] for row in qdrant_target.rows(f"{dataset}_films")] == [BOB]
    assert [row["article"] for row in qdrant_target.rows(f"{dataset}_films__items")] == ["Bob 1"]
    assert len(qdrant_target.rows(f"{dataset}_films__items__tags")) == 2
    assert resource.destination().delete_rows(dataset, "films", of(ADA)) == {}
    counts = loaded(load, orders(ADA, BOB, ADA, disposition=disposition))
    assert (counts.embedded, counts.unchanged) == UNCHANGED[disposition]
    names = [row["customer"] for row in qdrant_target.rows(f"{dataset}_films")]
    assert names.count(ADA) == 2


def test_a_deletion_that_died_can_be_done_again(
    load: Load, resource: QdrantResource, qdrant_target: Target, dataset, monkeypatch
):
    load(orders(ADA, BOB))
    original = _Deletion._delete

    def die(self: _Deletion, table_name: str, records: list[Any]) -> None:
        if table_name == "films__items":
            original(self, table_name, records)
            raise KeyboardInterrupt
        original(self, table_name, records)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(_Deletion, "_delete", die)
        resource.delete_rows(dataset, "films", of(ADA))
    assert resource.delete_rows(dataset, "films", of(ADA)) == {"films": 1}
    assert [row["article"] for row in qdrant_target.rows(f"{dataset}_films__items")] == ["Bob 1"]
    load(orders(ADA, BOB))  # nothing is left to wait for


@pytest.mark.parametrize("qdrant_kind", [memory], indirect=True)
def test_chunks_go_with_their_row_and_come_again_with_it(
    load: Load, resource: QdrantResource, qdrant_target: Target, dataset
):
    def pages() -> Any:
        text = "Bread needs yeast and time. " * 60
        rows = [{"id": n, "customer": name, "body": text} for n, name in enumerate((ADA, BOB))]
        data = dlt.resource(rows, name="films", write_disposition="merge", primary_key="id")
        return qdrant_adapter(data, embed="body", chunk=100)

    load(pages())
    chunks = len(qdrant_target.rows(f"{dataset}_films__chunks"))
    gone = resource.delete_rows(dataset, "films", of(ADA))
    assert gone == {"films": 1, "films__chunks": chunks // 2}
    hits = resource.search(dataset, "films", "bread")
    assert [hit.payload["customer"] for hit in hits] == [BOB]
    with pytest.raises(QdrantTerminalError, match="is nested in `films`"):
        resource.delete_rows(dataset, "films__chunks", of(BOB))
    load(pages())
    assert len(qdrant_target.rows(f"{dataset}_films__chunks")) == chunks


@pytest.mark.parametrize("qdrant_kind", [memory], indirect=True)
def test_nested_rows_that_a_dead_merge_left_go_too(
    load: Load, client, resource: QdrantResource, qdrant_target: Target, dataset
):
    load(orders(ADA, BOB))
    former = {"_dlt_superseded": ["former"]}
    client.set_payload(f"{dataset}_films", former, points=of(ADA))
    left = of("Bob 1", "article")
    client.set_payload(f"{dataset}_films__items", {"_dlt_parent_id": "former"}, points=left)
    gone = resource.delete_rows(dataset, "films", of(ADA))
    assert gone == {"films": 1, "films__items": 2, "films__items__tags": 4}


@pytest.mark.parametrize("qdrant_kind", [memory], indirect=True)
def test_collections_that_a_swap_kept_are_named(
    load: Load, qdrant_target: Target, model, dataset, caplog
):
    options = {**qdrant_target.options, **model, "keep_former": True}
    resource = QdrantResource(**options, replace_strategy="swap")
    for names in ([ADA], [ADA, BOB]):
        dlt.pipeline("films", destination=resource.destination(), dataset_name=dataset).run(
            orders(*names, disposition="replace")
        )
    gone = resource.delete_rows(dataset, "films", of(ADA))
    assert list(gone) == ["films", "films__items", "films__items__tags"]
    assert f"`{dataset}_films@1`, `{dataset}_films__items@1`" in caplog.text
    assert len(qdrant_target.rows(f"{dataset}_films@1")) == 1


def test_a_deletion_waits_for_loads_of_the_table(
    load: Load, resource: QdrantResource, qdrant_target: Target, dataset, monkeypatch
):
    load(orders(BOB, disposition="append"))
    original, begun, may_end = TableLoader.load, threading.Event(), threading.Event()
    gone: list[Any] = []

    def slow(self: TableLoader, *arguments: Any) -> None:
        begun.set()
        may_end.wait(20)
        original(self, *arguments)

    def delete() -> None:
        begun.wait(20)
        gone.append(resource.delete_rows(dataset, "films", of(ADA)))

    monkeypatch.setattr(TableLoader, "load", slow)
    deleting = threading.Thread(target=delete)
    deleting.start()
    threading.Timer(0.5, may_end.set).start()
    load(orders(ADA, disposition="append"), machine="there")
    deleting.join(20)
    assert gone == [{"films": 1, "films__items": 1, "films__items__tags": 2}]
    assert [row["customer"] for row in qdrant_target.rows(f"{dataset}_films")] == [BOB]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("films__items", "is nested in `films`. Delete the rows of that one"),
        ("_dlt_loads", "`_dlt_loads` is one of the tables in which dlt keeps books"),
        ("film", "has no collection"),
    ],
)
def test_rows_of_other_tables_stay(load: Load, resource: QdrantResource, dataset, table, words):
    load(orders(ADA))
    with pytest.raises(QdrantTerminalError, match=re.escape(words)):
        resource.delete_rows(dataset, table, models.Filter(must_not=of("nobody").must))


@pytest.mark.parametrize(
    ("row_filter", "words"),
    [
        (models.Filter(), "no condition, so it would delete every row"),
        (models.Filter(must=[]), "no condition, so it would delete every row"),
        ({"must": []}, "is a dict; it must be a `qdrant_client.models.Filter`"),
    ],
)
def test_a_filter_that_selects_all_or_is_none_is_refused(
    resource: QdrantResource, dataset, row_filter, words
):
    with pytest.raises(QdrantConfigurationError, match=re.escape(words)):
        resource.delete_rows(dataset, "films", row_filter)


@pytest.mark.parametrize("qdrant_kind", [rest], indirect=True)
def test_in_strict_mode_nested_rows_go_and_a_filter_needs_its_index(
    load: Load, client, resource: QdrantResource, dataset
):
    data = orders(ADA, BOB, disposition="append")
    load(qdrant_adapter(data, embed="note", index=["customer"]))
    strict = models.StrictModeConfig(
        enabled=True, unindexed_filtering_retrieve=False, unindexed_filtering_update=False
    )
    for table in ("films", "films__items", "films__items__tags"):
        client.update_collection(f"{dataset}_{table}", strict_mode_config=strict)
    with pytest.raises(QdrantTerminalError, match="filter needs a payload index on `note`.*index="):
        resource.delete_rows(dataset, "films", of("order 1", "note"))
    gone = resource.delete_rows(dataset, "films", of(ADA))
    assert gone == {"films": 1, "films__items": 1, "films__items__tags": 2}
