"""An asset takes the collection of an asset upstream as its argument."""

from typing import Any

import dagster as dg
import dlt
import pytest
from qdrant_client import models

from dagster_qdrant import (
    QdrantCollection,
    QdrantConfigurationError,
    QdrantDltTranslator,
    QdrantIOManager,
    QdrantResource,
    build_qdrant_assets,
    qdrant_adapter,
)

FILMS = [
    {"id": 1, "title": "a hunter of androids in a rainy city", "tags": ["rain"]},
    {"id": 2, "title": "a baker who falls in love in Paris"},
]
DAYS = ["2026-01-01", "2026-01-02"]


@pytest.fixture
def given(resource: QdrantResource) -> dict[str, Any]:
    return {"qdrant": resource, "qdrant_io_manager": QdrantIOManager(qdrant=resource)}


def films(dataset: str, rows: Any = FILMS, **options: Any) -> dg.AssetsDefinition:
    data = dlt.resource(rows, name="films", write_disposition="merge", primary_key="id")
    return build_qdrant_assets(
        dlt_source=qdrant_adapter(data, embed="title"), dataset_name=dataset, **options
    )


def reader(key: dg.AssetKey, read: Any, **options: Any) -> dg.AssetsDefinition:
    """An asset `answer` that reads a collection and returns what it finds."""
    upstream = dg.AssetIn(key, input_manager_key="qdrant_io_manager")

    @dg.asset(ins={"films": upstream}, **options)
    def answer(films: QdrantCollection):
        return read(films)

    return answer


def answer_of(assets: list[Any], resources: dict[str, Any], **options: Any) -> Any:
    return dg.materialize(assets, resources=resources, **options).output_for_node("answer")


def read_all(films: QdrantCollection) -> Any:
    second = models.FieldCondition(key="id", match=models.MatchValue(value=2))
    only_second = models.Filter(must=[second])
    hit, *_ = films.search("robots chased through the streets")
    assert [each.payload["id"] for each in films.search("robots", 5, only_second)] == [2]
    assert [len(hits) for hits in films.search(["robots", "Paris"], limit=1)] == [1, 1]
    assert (films.count(), films.count(only_second)) == (2, 1)
    assert [row["id"] for row in films.scroll(only_second)] == [2]
    assert sorted(row["id"] for row in films.scroll(page=1)) == [1, 2]
    assert [row["value"] for row in films.of("films__tags").scroll()] == ["rain"]
    with pytest.raises(QdrantConfigurationError, match="no.* table `tag`.*`films__tags`"):
        films.of("tag")
    return films.name, hit.payload["id"]


class Renamed(QdrantDltTranslator):
    def get_asset_spec(self, data):
        return super().get_asset_spec(data).replace_attributes(key=dg.AssetKey(["some", "films"]))


def test_a_collection_is_searched_scrolled_and_counted(given, dataset):
    loaded = films(dataset)
    answer = reader(loaded.key, read_all)
    assert answer_of([loaded, answer], given) == (f"{dataset}_films", 1)


def test_keys_of_translators_and_copies_make_no_difference(given, dataset):
    loaded = films(dataset, dagster_dlt_translator=Renamed())
    prefixed = loaded.with_attributes(
        asset_key_replacements={loaded.key: loaded.key.with_prefix("prod")}
    )
    answer = reader(dg.AssetKey(["prod", "some", "films"]), lambda films: films.count())
    assert answer_of([prefixed, answer], given) == 2


def test_an_asset_of_another_run_or_code_location_is_found(given, dataset):
    loaded = films(dataset)
    answer = reader(loaded.key, lambda films: films.count())
    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize([loaded], resources=given, instance=instance)
        apart = [dg.AssetSpec(loaded.key), answer]
        assert answer_of(apart, given, selection=[answer], instance=instance) == 2
    # Loaded by something that this instance knows nothing of.
    assert answer_of([loaded, answer], given, selection=[answer]) == 2


@pytest.mark.parametrize(
    ("rows", "first", "words"),
    [
        (FILMS, False, "films was not materialized, so there is no collection for input `films`"),
        (FILMS, True, "no collection `{dataset}_films` that this package made for the asset"),
        ([], True, "was materialized without a collection: its source has given no row so far"),
    ],
)
def test_a_missing_collection_is_named(given, dataset, rows, first, words):
    table: Any = "films" if rows else lambda row: row["title"]
    data = dlt.resource(rows, name="films", table_name=table)
    loaded = build_qdrant_assets(dlt_source=data, dataset_name=dataset)
    answer = reader(loaded.key, lambda films: films.count())
    with dg.DagsterInstance.ephemeral() as instance:
        if first:
            dg.materialize([loaded], resources=given, instance=instance)
        with given["qdrant"].get_client() as client:
            client.delete_collection(f"{dataset}_films")
        with pytest.raises(Exception, match=words.format(dataset=dataset)):
            dg.materialize([loaded, answer], selection=[answer], resources=given, instance=instance)


@pytest.mark.parametrize(
    ("disposition", "found", "said"), [("replace", 1, False), ("append", 2, True)]
)
def test_of_a_partition_its_rows_are_given_where_they_bear_it(
    given, dataset, disposition, found, said, capfd
):
    days = dg.StaticPartitionsDefinition(DAYS)

    def of_day(day: str) -> Any:
        rows = [{"id": day, "title": f"what happened on {day}"}]
        data = dlt.resource(rows, name="films", write_disposition=disposition)
        return qdrant_adapter(data, embed="title")

    loaded = build_qdrant_assets(dlt_source=of_day, dataset_name=dataset, partitions_def=days)
    daily = reader(
        loaded.key,
        lambda films: (films.count(), len(films.search("what happened"))),
        partitions_def=days,
    )
    whole = reader(loaded.key, lambda films: films.count(), name="whole")
    with dg.DagsterInstance.ephemeral() as instance:
        options: Any = {"resources": given, "instance": instance}
        for day in DAYS:
            dg.materialize([loaded], partition_key=day, **options)
        result = dg.materialize(
            [loaded, daily], selection=[daily], partition_key=DAYS[1], **options
        )
        assert result.output_for_node("answer") == (found, found)
        assert ("do not carry their partition" in capfd.readouterr().err) is said
        result = dg.materialize([loaded, whole], selection=[whole], **options)
        assert result.output_for_node("whole") == 2


def test_a_value_is_not_stored(given):
    @dg.asset(io_manager_key="qdrant_io_manager")
    def number():
        return 1

    with pytest.raises(Exception, match="stores no values, and `result` returned one of type int"):
        dg.materialize([number], resources=given)
