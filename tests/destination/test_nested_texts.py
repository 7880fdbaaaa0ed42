"""Lists in rows whose texts are embedded, in tables of their own."""

import logging

import dagster as dg
import dlt
import pytest
from dlt.extract.hints import make_nested_hints

from dagster_qdrant import QdrantResource, QdrantTerminalError, build_qdrant_assets, qdrant_adapter
from dagster_qdrant.destination.tables.hints import EMBED_HINT
from dagster_qdrant.destination.writing import text_vectors
from tests.conftest import Load
from tests.targets import Target

DOCS = [
    {
        "id": 1,
        "title": "Planets",
        "chunks": [{"text": "Mars is red."}, {"text": "Venus is hot."}],
        "tags": ["astronomy"],
    },
    {"id": 2, "title": "Kitchen", "chunks": [{"text": "Bread needs yeast."}], "tags": ["cooking"]},
]


def docs(rows=DOCS, embed=None, nested=None, **hints):
    hints = {"write_disposition": "merge", "primary_key": "id"} | hints
    resource = dlt.resource(rows, name="docs", **hints)
    return qdrant_adapter(resource, embed=embed, nested=nested or {"chunks": ["text"]})


def marked_by_dlt(rows=DOCS):
    hints = {"chunks": make_nested_hints(columns={"text": {EMBED_HINT: True}})}
    return dlt.resource(
        rows, name="docs", write_disposition="merge", primary_key="id", nested_hints=hints
    )


def texts(resource: QdrantResource, dataset: str, table: str, question: str) -> list[str]:
    hits = resource.search(dataset, table, question)
    return [hit.payload.get("text") or hit.payload.get("value") for hit in hits]


@pytest.fixture
def here(model, dataset) -> QdrantResource:
    """For what does not depend on the kind of Qdrant."""
    return QdrantResource(location=f":memory:{dataset}", **model)


@pytest.mark.parametrize("disposition", ["append", "merge", "replace"])
def test_a_list_is_found_by_the_texts_in_it(load: Load, resource, dataset, disposition):
    load(docs(write_disposition=disposition))
    assert texts(resource, dataset, "docs__chunks", "a planet's colour")[0] == "Mars is red."
    with pytest.raises(QdrantTerminalError, match="has no vectors"):
        resource.search(dataset, "docs", "a planet's colour")


@pytest.mark.parametrize("name", ["docs__chunks", "Docs__Chunks"])
def test_dlts_nested_hints_do_the_same(load: Load, resource, dataset, name):
    load(marked_by_dlt())
    assert texts(resource, dataset, name, "baking")[0] == "Bread needs yeast."


def test_rows_and_lists_may_both_be_embedded(load: Load, resource, dataset):
    load(docs(embed="title", nested={"chunks": "text", "tags": "value"}))
    assert resource.search(dataset, "docs", "space")[0].payload["title"] == "Planets"
    assert texts(resource, dataset, "docs__chunks", "baking")[0] == "Bread needs yeast."
    assert texts(resource, dataset, "docs__tags", "stars")[0] == "astronomy"


@pytest.mark.parametrize("path", ["parts__lines", ("parts", "lines"), ("Parts", "Lines")])
def test_lists_in_lists_are_named_after_both(load: Load, resource, dataset, path):
    rows = [{"id": 1, "parts": [{"n": 1, "lines": [{"text": "Mars is red."}]}]}]
    load(docs(rows, nested={path: "text"}))
    assert texts(resource, dataset, "docs__parts__lines", "planet") == ["Mars is red."]


def test_lists_in_an_object_are_named_after_both(load: Load, resource, dataset):
    load(
        docs([{"id": 1, "body": {"parts": [{"text": "Mars"}]}}], nested={("body", "parts"): "text"})
    )
    assert texts(resource, dataset, "docs__body__parts", "planet") == ["Mars"]


def test_the_naming_convention_of_the_source_is_followed(load: Load, resource, dataset):
    schema = dlt.Schema("shop", normalizers={"names": "sql_cs_v1"})
    rows = [{"id": 1, "Chunk List": [{"The Text": "Mars is red."}]}]
    load(dlt.source(lambda: docs(rows, nested={"Chunk List": "The Text"}), schema=schema)())
    hits = resource.search(dataset, "docs__Chunk List", "planet")
    assert [hit.payload["The_Text"] for hit in hits] == ["Mars is red."]


def test_a_list_that_did_not_change_is_not_embedded_again(load: Load, monkeypatch):
    load(docs())

    def embeds(*_):
        raise AssertionError("a text was embedded again")

    monkeypatch.setattr(text_vectors, "load_embedder", embeds)
    load(docs())


def test_what_is_said_last_counts(load: Load, resource, dataset):
    rows = [{"id": 1, "chunks": [{"text": "Mars is red.", "note": "bread"}], "tags": ["bread"]}]
    load(docs(rows))
    load(docs(rows, nested={"chunks": ["note"]}))
    [hit] = resource.search(dataset, "docs__chunks", "bread")
    assert hit.score > 0.99
    load(docs(rows, nested={"tags": "value"}))
    assert texts(resource, dataset, "docs__tags", "bread") == ["bread"]
    with pytest.raises(QdrantTerminalError, match="has no vectors"):
        resource.search(dataset, "docs__chunks", "bread")


def test_a_column_that_no_row_of_a_list_has_is_refused(load: Load):
    with pytest.raises(Exception, match="Table `docs__chunks` is to embed `body`"):
        load(docs(nested={"chunks": "body"}))


def test_lists_that_no_row_has_are_warned_of(load: Load, caplog):
    with caplog.at_level(logging.WARNING, "dagster_qdrant"):
        load(docs(nested={"chunk": "text"}))
    assert "Table `docs` is to embed the lists `chunk`, but no row has had one" in caplog.text
    assert "`docs__chunks`, `docs__tags`" in caplog.text


@pytest.mark.parametrize(
    ("nested", "words"),
    [
        (["chunks"], "by the list that they are in"),
        ({"": "text"}, "is no list's name"),
        ({1: "text"}, "is no list's name"),
        ({"chunks": []}, r"`nested\['chunks'\]` must name the columns"),
        ({"chunks": [""]}, "is no column's name"),
    ],
)
def test_what_names_no_column_of_a_list_is_refused(nested, words):
    with pytest.raises(ValueError, match=words):
        qdrant_adapter(DOCS, nested=nested)


class TestAssets:
    @pytest.mark.parametrize("make", [docs, marked_by_dlt])
    def test_they_count_check_and_show_the_lists(
        self, resource: QdrantResource, qdrant_target: Target, dataset, make
    ):
        assets = build_qdrant_assets(dlt_source=make(), dataset_name=dataset, checks=True)
        [spec] = assets.specs
        assert spec.metadata["embed_chunks"] == "text"
        result = dg.materialize([assets], resources={"qdrant": resource})
        evaluations = {e.check_name: e for e in result.get_asset_check_evaluations()}
        assert all(each.passed for each in evaluations.values())
        assert evaluations["vectors_valid"].metadata["vectors_read"].value == 3
        [event] = result.get_asset_materialization_events()
        shown = {name: entry.value for name, entry in event.materialization.metadata.items()}
        assert (shown["rows_loaded"], shown["rows_embedded"]) == (2, 3)
        assert "Mars is red" in shown["nearest"]
        assert "vector_map" in shown
        assert "Planets" in shown["preview"]

    def test_a_lost_vector_of_a_list_is_missed(self, here, dataset):
        assets = build_qdrant_assets(dlt_source=docs(), dataset_name=dataset, checks=True)
        dg.materialize([assets], resources={"qdrant": here})
        with here.get_client() as client:
            [point, *_] = client.scroll(f"{dataset}_docs__chunks", with_vectors=True)[0]
            client.delete_vectors(f"{dataset}_docs__chunks", list(point.vector), [point.id])
        checks = dg.AssetSelection.checks_for_assets(assets)
        result = dg.materialize([assets], resources={"qdrant": here}, selection=checks)
        failed = [e.check_name for e in result.get_asset_check_evaluations() if not e.passed]
        assert failed == ["all_vectors_present"]

    @pytest.mark.parametrize("rows", [[], [{"id": 1, "title": "no chunks yet"}]])
    @pytest.mark.parametrize("make", [docs, marked_by_dlt])
    def test_a_search_of_lists_that_no_row_has_had_finds_nothing(self, here, dataset, make, rows):
        for given, found in ((rows, 0), (DOCS, 3)):
            assets = build_qdrant_assets(dlt_source=make(given), dataset_name=dataset, checks=True)
            result = dg.materialize([assets], resources={"qdrant": here})
            assert all(e.passed for e in result.get_asset_check_evaluations())
            assert len(here.search(dataset, "docs__chunks", "planets")) == found
