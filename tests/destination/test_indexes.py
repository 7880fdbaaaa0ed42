"""Columns that searches filter by have the payload index that was asked for."""

from datetime import date
from decimal import Decimal
from typing import Any

import dagster as dg
import dlt
import pytest
from dlt.pipeline.exceptions import PipelineStepFailed
from qdrant_client import models

from dagster_qdrant import (
    QdrantTerminalError,
    build_qdrant_assets,
    build_qdrant_checks,
    qdrant_adapter,
)
from dagster_qdrant.destination.tables.payload_indexes import read_indexes
from tests.conftest import Load
from tests.destination.conftest import loaded
from tests.targets import Target, shared_server

ROWS = [
    {"id": 1, "title": "Moon", "year": 2009, "price": Decimal("9.50"), "on": date(2009, 7, 10)},
    {"id": 2, "title": "Amelie", "year": 2001, "price": Decimal("10.25"), "seen": True},
    {"id": 3, "title": "Alien", "year": 1979, "price": Decimal(100), "score": 8.5},
]


def films(rows: Any = ROWS, disposition: str = "merge", **said: Any) -> Any:
    hints: Any = {"write_disposition": disposition, "primary_key": said.pop("key", "id")}
    return qdrant_adapter(dlt.resource(rows, name="films", **hints), **said)


@pytest.fixture
def on_a_server(qdrant_target: Target) -> None:
    if qdrant_target.kind in ("memory", "path"):
        pytest.skip("Qdrant's local mode has no indexes")


def indexes(client: Any, dataset: str) -> dict[str, str]:
    schema = client.get_collection(f"{dataset}_films").payload_schema
    return {name: each.data_type.value for name, each in schema.items() if name[0] != "_"}


def prices(target: Target, dataset: str) -> dict[int, Any]:
    return {p.payload["id"]: p.payload["price"] for p in target.points(f"{dataset}_films")}


def found(client: Any, dataset: str, **range_: Any) -> set[int]:
    condition = models.FieldCondition(key="price", range=models.Range(**range_))
    points, _ = client.scroll(f"{dataset}_films", models.Filter(must=[condition]))
    return {point.payload["id"] for point in points}


@pytest.mark.usefixtures("on_a_server")
class TestOnAServer:
    def test_an_index_is_of_the_type_of_its_column(self, load: Load, client, dataset):
        load(films(index=["title", "year", "price", "on", "seen", "score"]))
        assert indexes(client, dataset) == {
            "title": "keyword",
            "year": "integer",
            "price": "float",
            "on": "datetime",
            "seen": "bool",
            "score": "float",
        }

    def test_what_loads_look_up_need_not_lie_in_the_servers_memory(
        self, load: Load, client, dataset
    ):
        load(films([{"id": 1, "title": "Moon", "cast": [{"name": "Sam"}]}], embed="title"))
        own = {
            (name, index.data_type.value): index.params and index.params.on_disk
            for table in ("films", "films__cast")
            for name, index in client.get_collection(f"{dataset}_{table}").payload_schema.items()
        }
        assert own == {
            ("_dlt_embedding_hash", "uuid"): True,
            ("_dlt_load_id", "keyword"): True,
            ("_dlt_id", "keyword"): True,
            ("_dlt_root_id", "keyword"): True,
            ("_dlt_parent_id", "keyword"): True,
        }

    def test_a_collection_made_anew_does_not_take_over_how_loads_looked_up_before(
        self, load: Load, client, dataset
    ):
        load(films(embed="title"))
        for field in ("_dlt_embedding_hash", "id"):  # as former versions made it; and by hand
            client.delete_payload_index(f"{dataset}_films", field, wait=True)
            client.create_payload_index(f"{dataset}_films", field, "keyword", wait=True)
        load(films(embed=["title", "year"]))
        schema = client.get_collection(f"{dataset}_films").payload_schema
        assert schema["_dlt_embedding_hash"].params.on_disk
        assert schema["_dlt_embedding_hash"].data_type.value == "uuid"
        assert schema["id"].data_type.value == "keyword"

    def test_columns_are_named_as_in_the_source(self, load: Load, client, dataset):
        load(films([{"id": 1, "releaseYear": 2009}], index="releaseYear"))
        assert indexes(client, dataset) == {"release_year": "integer"}

    @pytest.mark.parametrize("as_model", [True, False], ids=["a model", "a dict"])
    def test_qdrants_own_objects_will_do(self, load: Load, client, dataset, as_model):
        tenant: Any = models.KeywordIndexParams(type="keyword", is_tenant=True)
        load(films(index={"title": tenant if as_model else tenant.model_dump(exclude_none=True)}))
        [index] = [
            index
            for name, index in client.get_collection(f"{dataset}_films").payload_schema.items()
            if name == "title"
        ]
        assert index.params.is_tenant

    def test_indexes_change_in_place(self, load: Load, client, dataset):
        load(films(embed="title"))
        load(films(embed="title", index=["title", "year"]))
        assert indexes(client, dataset) == {"title": "keyword", "year": "integer"}
        client.create_payload_index(f"{dataset}_films", "id", "integer", wait=True)
        load(films(embed="title", index={"title": "text"}))
        assert indexes(client, dataset) == {"title": "text", "id": "integer"}
        load(films(embed="title"))
        assert indexes(client, dataset) == {"id": "integer"}
        assert not [a for a in client.get_aliases().aliases if a.alias_name.startswith(dataset)]

    def test_other_parameters_make_an_index_anew(self, load: Load, client, dataset):
        load(films(index=["title"]))
        load(films(index={"title": {"type": "keyword", "is_tenant": True}}))
        assert client.get_collection(f"{dataset}_films").payload_schema["title"].params.is_tenant
        load(films(index=["title"]))
        assert not client.get_collection(f"{dataset}_films").payload_schema["title"].params

    def test_an_index_that_is_there_is_not_made_again(self, load: Load):
        said: Any = {"index": {"title": {"type": "keyword", "is_tenant": True}, "year": "integer"}}
        load(films(**said))
        shared_server().reset_counts()
        load(films(**said))
        operations = shared_server().counts()["operations"]
        assert "delete_payload_index" not in operations
        assert "create_payload_index" not in operations

    def test_a_collection_that_takes_anothers_place_has_those_that_are_asked_for(
        self, load: Load, client, dataset
    ):
        load(films(embed="title", index=["title", "year"]))
        client.create_payload_index(f"{dataset}_films", "id", "integer", wait=True)
        load(films(embed=["title", "year"], index={"title": "text"}))
        assert indexes(client, dataset) == {"title": "text", "id": "integer"}

    def test_a_load_without_rows_leaves_them(self, load: Load, client, dataset):
        load(films(index=["year"]))
        load(films([], index=["title"]))
        assert indexes(client, dataset) == {"year": "integer"}

    def test_one_that_is_missing_is_named_and_the_next_load_restores_it(
        self, resource, client, dataset
    ):
        source = films(embed="title", index=["year"])
        assets = build_qdrant_assets(dlt_source=source, dataset_name=dataset)
        [checks] = build_qdrant_checks([assets])
        of_checks = dg.AssetSelection.checks(checks)

        def run(*definitions: Any, **options: Any) -> Any:
            return dg.materialize(definitions, resources={"qdrant": resource}, **options)

        def failing() -> dict[str, str | None]:
            evaluations = run(assets, checks, selection=of_checks).get_asset_check_evaluations()
            return {each.check_name: each.description for each in evaluations if not each.passed}

        [event] = run(assets).get_asset_materialization_events()
        columns = event.materialization.metadata["dagster/column_schema"].schema.columns
        assert "indexed" in next(c for c in columns if c.name == "year").constraints.other
        assert failing() == {}
        client.delete_payload_index(f"{dataset}_films", "year", wait=True)
        assert "it lacks the payload index on `year`" in str(failing()["collection_healthy"])
        run(assets)
        assert failing() == {}

    def test_strict_mode_says_how_to_declare_what_a_filter_needs(
        self, load: Load, client, resource, dataset
    ):
        load(films(embed="title", index=["year"]))
        strict = models.StrictModeConfig(enabled=True, unindexed_filtering_retrieve=False)
        client.update_collection(f"{dataset}_films", strict_mode_config=strict)

        def search(name: str, value: Any) -> Any:
            match: Any = models.MatchValue(value=value)
            must = [models.FieldCondition(key=name, match=match)]
            return resource.search(
                dataset, "films", "a film", query_filter=models.Filter(must=must)
            )

        assert [hit.payload["id"] for hit in search("year", 2001)] == [2]
        with pytest.raises(QdrantTerminalError) as caught:
            search("title", "Moon")
        assert "qdrant_adapter(..., index={'title': 'keyword'})" in str(caught.value)


def test_a_decimal_that_is_indexed_is_found_by_its_range(
    load: Load, qdrant_target: Target, client, dataset
):
    load(films(index=["price"]))
    assert prices(qdrant_target, dataset) == {1: 9.5, 2: 10.25, 3: 100.0}
    assert found(client, dataset, gt=9.6, lt=11) == {2}


def test_decimals_that_are_indexed_later_are_rewritten_and_nothing_is_embedded(
    load: Load, qdrant_target: Target, client, dataset
):
    load(films(embed="title"))
    assert prices(qdrant_target, dataset)[1] == "9.50"
    counts = loaded(load, films(ROWS[:1], embed="title", index=["price"]))
    assert found(client, dataset, gt=9.6) == {2, 3}
    assert counts.embedded == 0
    counts = loaded(load, films(embed="title", index=["price"]))
    assert (counts.unchanged, counts.embedded) == (3, 0)
    loaded(load, films(embed="title"))
    assert prices(qdrant_target, dataset) == {1: "9.50", 2: "10.25", 3: "100"}


def test_decimals_that_are_indexed_no_more_are_text_again_in_all_rows(
    load: Load, qdrant_target: Target, dataset
):
    load(films(embed="title", index=["price"]))
    load(films(ROWS[:1], embed="title", index={"price": "keyword"}))
    assert prices(qdrant_target, dataset) == {1: "9.50", 2: "10.25", 3: "100"}


def test_rows_without_a_key_keep_their_points(load: Load, qdrant_target: Target, dataset):
    rows: Any = {"disposition": "replace", "key": None, "embed": "title"}
    load(films(**rows))
    before = {point.id for point in qdrant_target.points(f"{dataset}_films")}
    load(films(**rows, index=["price"]))
    assert {point.id for point in qdrant_target.points(f"{dataset}_films")} == before
    assert prices(qdrant_target, dataset)[2] == 10.25


def test_it_is_written_down_what_was_asked_for(load: Load, client, dataset):
    load(films(index={"title": "text", "year": None}))
    about = client.get_collection(f"{dataset}_films").config.metadata["dagster_qdrant"]
    assert about["index"] == {"title": {"type": "text"}, "year": {"type": "integer"}}
    load(films(index={"title": "text"}))
    about = client.get_collection(f"{dataset}_films").config.metadata["dagster_qdrant"]
    assert about["index"] == {"title": {"type": "text"}}
    load(films(embed="title"))
    about = client.get_collection(f"{dataset}_films").config.metadata["dagster_qdrant"]
    assert "index" not in about


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"index": ["yaer"]}, "is to index `yaer`, but no row has a value"),
        ({"index": ["tags"]}, "A field that holds a list becomes a table of its own"),
        ({"index": ["raw"]}, "`raw`, which is of the type `binary`, for which there is no usual"),
        (
            {"index": {"title": "integer"}},
            "an index of the type 'integer' finds nothing. Use 'keyw",
        ),
        ({"index": ["price"], "key": "price"}, "which is a decimal in its key"),
    ],
)
def test_what_cannot_be_indexed_is_refused(load: Load, said, words):
    row = {**ROWS[0], "tags": ["space"], "raw": b"\x00"}
    with pytest.raises(PipelineStepFailed, match=words):
        load(films([row], **said))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (3, "must name the columns that searches filter by"),
        ([""], "'' is no column's name"),
        ({"year": "integr"}, "'integr' for `year`.* Did you mean 'integer'"),
        ({"year": 3}, "it must be one of keyword, integer"),
        ({"year": {"is_tenant": True}}, "with such a `type`"),
        ({"year": {"type": "integer", "is_tenant": True}}, "is_tenant"),
    ],
)
def test_what_is_no_index_is_refused_at_once(said, words):
    with pytest.raises(ValueError, match=words):
        qdrant_adapter([{"year": 1}], index=said)


def test_an_index_is_kept_as_plain_data():
    params: Any = models.TextIndexParams(type="text", tokenizer="word", min_token_len=2)
    assert read_indexes({"a": params, "b": models.PayloadSchemaType.UUID, "c": None}) == {
        "a": {"type": "text", "tokenizer": "word", "min_token_len": 2},
        "b": {"type": "uuid"},
        "c": None,
    }
