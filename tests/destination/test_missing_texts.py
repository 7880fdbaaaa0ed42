"""Columns to embed that have no text any more: said, counted, or refused, never passed over."""

import base64
from typing import Any

import dagster as dg
import dlt
import pytest
from dlt.pipeline.exceptions import PipelineStepFailed

from dagster_qdrant import (
    QdrantResource,
    build_qdrant_assets,
    build_qdrant_checks,
    qdrant_adapter,
)
from tests.targets import memory

FILMS = [{"id": 1, "title": "Moon"}, {"id": 2, "title": "Her"}]
RENAMED = [{"id": 1, "name": "Moon"}, {"id": 2, "name": "Her"}, {"id": 3, "title": " "}]


@pytest.fixture
def qdrant_target(tmp_path):
    """What is said of rows does not depend on the kind of Qdrant."""
    with memory(tmp_path) as qdrant_target:
        yield qdrant_target


def dlts_adapter(resource: Any, embed: str) -> Any:
    hint: Any = {embed: {"name": embed, "x-qdrant-embed": True}}
    return resource.apply_hints(columns=hint)


def films(rows: Any, disposition: str = "merge", adapter: Any = qdrant_adapter, **hints) -> Any:
    hints = {"name": "films", "write_disposition": disposition, **hints}
    key = "id" if disposition == "merge" else None
    return adapter(dlt.resource(rows, primary_key=key, **hints), embed="title")


class Cinema:
    """One asset, loaded and checked again and again."""

    def __init__(self, resource: QdrantResource, dataset: str) -> None:
        self._resource = resource
        self._dataset = dataset
        self._instance = dg.DagsterInstance.ephemeral()

    def load(self, rows: Any, disposition: str = "merge", **options: Any) -> dict[str, Any]:
        """Load, and give the numbers."""
        assets = build_qdrant_assets(
            dlt_source=films(rows, disposition), dataset_name=self._dataset, checks=True
        )
        resource = self._resource.model_copy(update=options)
        result = dg.materialize([assets], resources={"qdrant": resource}, instance=self._instance)
        assert result.success
        self._failing = _failing(result)
        [event] = result.get_asset_materialization_events()
        metadata = event.materialization.metadata
        return {name: entry.value for name, entry in metadata.items()}

    def failing(self) -> dict[str, str]:
        """The checks that failed with the load, and fail apart from it, with what they say."""
        assets = build_qdrant_assets(dlt_source=films([]), dataset_name=self._dataset)
        checks = build_qdrant_checks([assets])
        result = dg.materialize(
            [assets, *checks],
            resources={"qdrant": self._resource},
            instance=self._instance,
            selection=dg.AssetSelection.checks(*checks),
        )
        assert _failing(result) == self._failing
        return self._failing


def _failing(result: Any) -> dict[str, str]:
    evaluations = result.get_asset_check_evaluations()
    return {e.check_name: e.description for e in evaluations if not e.passed}


@pytest.fixture
def cinema(resource, dataset) -> Cinema:
    return Cinema(resource, dataset)


@pytest.mark.parametrize("disposition", ["append", "merge", "replace", "swap"])
def test_a_column_that_is_renamed_is_said_until_texts_are_back(cinema, caplog, disposition):
    options = {}
    if disposition == "swap":
        disposition, options = "replace", {"replace_strategy": "swap"}
    assert cinema.load(FILMS, disposition, **options)["rows_without_text"] == 0
    assert cinema.failing() == {}
    for _ in range(2):
        caplog.clear()
        numbers = cinema.load(RENAMED, disposition, **options)
        assert (numbers["rows_without_text"], numbers["rows_embedded"]) == (3, 0)
        failing = cinema.failing()
        assert list(failing) == ["all_vectors_present"]
        for said in (failing["all_vectors_present"], caplog.text):
            assert "brought 3 rows and not one text, though there were texts before" in said
            assert "A row has `title` missing or NULL, beside `id`, `name`." in said
    cinema.load([], disposition, **options)
    assert list(cinema.failing()) == ["all_vectors_present"]
    cinema.load([{"id": 4, "title": "Alien"}], disposition, **options)
    assert cinema.failing() == {}


def test_it_is_said_of_plain_loads_too(load, cinema, caplog):
    load(films(FILMS), name="one")
    load(films([{"id": 1, "title": ""}]), name="one")
    assert "A row has `title` blank, beside `id`." in caplog.text


def test_rows_without_text_are_counted_where_others_have_one(cinema):
    assert cinema.load([*FILMS, {"id": 3, "title": None}, {"id": 4}])["rows_without_text"] == 2
    assert cinema.failing() == {}


def test_a_table_that_never_had_a_text_misses_none(load, cinema, caplog):
    for _ in range(2):
        hints = {"columns": {"title": {"data_type": "text"}}}
        load(films([{"id": 1, "title": None}], **hints))
    assert "not one text" not in caplog.text


def test_deleted_rows_need_no_text(load, caplog):
    hints: Any = {"columns": {"gone": {"data_type": "bool", "hard_delete": True}}}
    load(films([{**row, "gone": False} for row in FILMS], **hints))
    load(films([{"id": 1, "gone": True}], **hints))
    assert "not one text" not in caplog.text


@pytest.mark.parametrize(
    ("adapter", "nesting"), [(qdrant_adapter, None), (qdrant_adapter, 0), (dlts_adapter, None)]
)
@pytest.mark.parametrize("value", [{"en": "Moon"}, {"en": ["Moon"]}, ["Moon"]], ids=str)
def test_nested_data_is_refused_in_later_loads_as_in_the_first(
    load, qdrant_target, dataset, value, nesting, adapter
):
    later = [{"id": 3, "title": "Alien"}, {"id": 1, "title": value}]
    for machine in ("here", "there"):
        load(films(FILMS, adapter=adapter), machine=machine)
        with pytest.raises(PipelineStepFailed, match="nested data and not text"):
            load(films(later, adapter=adapter, max_table_nesting=nesting), machine=machine)
        assert qdrant_target.rows(f"{dataset}_films") in (FILMS, FILMS[::-1])


def test_nested_data_that_came_before_the_column_was_embedded_is_no_reason(load, qdrant_target):
    rows = [{"id": 1, "title": {"en": "Moon"}}, {"id": 2, "title": "Her"}]
    load(dlt.resource(rows, name="films", write_disposition="merge", primary_key="id"))
    load(films([{"id": 2, "title": "Her"}], adapter=dlts_adapter))
    with pytest.raises(PipelineStepFailed, match="nested data and not text in this load"):
        load(films(rows, adapter=dlts_adapter))


def test_bytes_are_refused_in_later_loads_as_in_the_first(load, qdrant_target, dataset):
    with pytest.raises(PipelineStepFailed, match="(?s)Row 1 of resource `films` has bytes and not"):
        load(films([{"id": 1, "title": b"Moon"}]))
    load(films(FILMS))
    with pytest.raises(PipelineStepFailed, match="(?s)Row 2 of resource `films` has bytes and not"):
        load(films([FILMS[0], {"id": 1, "title": b"Moon"}]))
    assert base64.b64encode(b"Moon").decode() not in str(qdrant_target.rows(f"{dataset}_films"))


def test_rows_are_checked_by_the_names_that_dlt_gives_to_columns(load):
    resource = dlt.resource([{"id": 1, "Title": ["Moon"]}], name="films")
    with pytest.raises(
        PipelineStepFailed, match="(?s)Row 1 .* nested data and not text in `Title`"
    ):
        load(qdrant_adapter(resource, embed="title"))


def test_a_further_vector_without_any_text_is_named_until_texts_are_back(
    resource, dataset, load, caplog
):
    def of_titles(rows: Any) -> Any:
        titles = dlt.resource(rows, name="films", write_disposition="merge", primary_key="id")
        return qdrant_adapter(titles, vectors={"title": "title", "name": "name"})

    named = [{"id": 1, "title": "Blade Runner", "name": "one"}]
    load(of_titles(named))
    load(of_titles([{"id": 1, "name": "one"}]))
    said = "not one text for the vector `title`, though there were texts before"
    assert said in caplog.text
    assert "`name`" not in caplog.text
    with resource.get_client() as client:
        about = client.get_collection(f"{dataset}_films").config.metadata["dagster_qdrant"]
        assert said in about["texts_missing"]
        load(of_titles([{"id": 1, "name": "another"}]))  # it is not forgotten
        load(of_titles(named))
        about = client.get_collection(f"{dataset}_films").config.metadata["dagster_qdrant"]
        assert "texts_missing" not in about
