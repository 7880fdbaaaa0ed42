"""`qdrant_adapter`: the same call as dlt's, with mistakes said at once."""

from typing import Any

import dlt
import pytest
from dlt.extract import DltResource
from dlt.extract.exceptions import ResourceExtractionError
from dlt.pipeline.exceptions import PipelineStepFailed
from pydantic import BaseModel

from dagster_qdrant import QdrantResource, QdrantTerminalError, qdrant_adapter
from dagster_qdrant.destination.tables.hints import TABLE_HINT, embedded_columns

pytestmark = pytest.mark.in_memory


def test_one_column_or_several_are_named_in_one_hint():
    for embed, columns in (("a", ["a"]), (["b", "a"], ["b", "a"])):
        resource = qdrant_adapter([{"a": "x"}], embed=embed)
        assert embedded_columns(resource) == columns
        assert resource.compute_table_schema()[TABLE_HINT] == {"embed": columns}


def test_a_resource_without_any_hint_takes_it():
    resource = qdrant_adapter(dlt.resource(DltResource.from_data([1], name="r")), embed="a")
    assert embedded_columns(resource) == ["a"]


def test_the_models_of_columns_go_on_to_be_checked():
    class Film(BaseModel):
        title: str

    resource = qdrant_adapter(dlt.resource([{"title": 1}], name="r", columns=Film), embed="title")
    with pytest.raises(ResourceExtractionError, match="title"):
        list(resource)


def test_a_resource_is_wrapped_in_place():
    @dlt.source
    def shop():
        yield dlt.resource([{"description": "a chair"}], name="products")
        yield dlt.resource([{"text": "good"}], name="reviews")

    source = shop()
    qdrant_adapter(source.products, embed="description")
    assert embedded_columns(source.products) == ["description"]
    assert embedded_columns(source.reviews) == []


def test_a_source_with_one_resource_will_do():
    @dlt.source
    def shop():
        yield dlt.resource([{"description": "a chair"}], name="products")

    assert qdrant_adapter(shop(), embed="description").name == "products"


def test_several_resources_are_not_made_one():
    @dlt.source
    def shop():
        yield dlt.resource([{"description": "a chair"}], name="products")
        yield dlt.resource([{"text": "good"}], name="reviews")

    for data, said in (
        (shop, "`shop` is a source function that was not called"),
        (shop(), "`shop` has 2 resources .products, reviews., and `qdrant_adapter` wraps one"),
        (list(shop().resources.values()), "is a list of dlt resources"),
        (None, "`data` is None"),
        ({"description": "a chair"}, "of type dict; it must be a dlt resource, or rows"),
    ):
        with pytest.raises(TypeError, match=said):
            qdrant_adapter(data, embed="text")


@pytest.mark.parametrize("embed", [None, "", [], [""], [1], {"a": 1}])
def test_columns_have_to_be_named(embed):
    with pytest.raises(ValueError, match="`embed` must name"):
        qdrant_adapter([{"a": "x"}], embed=embed)


def extract(resource: Any) -> int:
    """How many rows come of a resource."""
    destination = QdrantResource(location=":memory:adapter").destination()
    extracted = dlt.pipeline("things", destination=destination).extract(resource)
    metrics = extracted.metrics[extracted.loads_ids[0]][0]["resource_metrics"]
    return metrics[resource.name].items_count


def test_a_row_without_a_key_is_refused_where_it_comes_up():
    rows = [{"id": 1, "a": "x"}, {"a": "y"}]
    resource = qdrant_adapter(
        dlt.resource(rows, name="things", write_disposition="merge", primary_key="id"), embed="a"
    )
    with pytest.raises(
        PipelineStepFailed, match="Row 2 of resource `things` has no value"
    ) as caught:
        extract(resource)
    causes = [caught.value, caught.value.__cause__, caught.value.__cause__.__cause__]
    assert any(isinstance(cause, QdrantTerminalError) for cause in causes)


def test_rows_need_no_key_where_nothing_is_merged():
    resource = qdrant_adapter(dlt.resource([{"a": "y"}], primary_key="id", name="t"), embed="a")
    assert list(resource) == [{"a": "y"}]


def test_rows_are_counted_anew_each_time_and_after_filters_that_come_later():
    rows = [{"id": 1, "a": "x"}, {"a": "dropped"}, {"id": 2, "a": "y"}, {"a": "z"}]
    resource = qdrant_adapter(
        dlt.resource(rows, name="things", write_disposition="merge", primary_key="id"), embed="a"
    ).add_filter(lambda row: row["a"] != "dropped")
    for _ in range(2):
        with pytest.raises(PipelineStepFailed, match="Row 3 of resource `things` has no value"):
            extract(resource)
    assert extract(resource.add_filter(lambda row: "id" in row)) == 2
