"""`qdrant_adapter`: the same call as dlt's, with mistakes said at once."""

import dlt
import pytest

from dagster_qdrant import QdrantTerminalError, qdrant_adapter
from dagster_qdrant.destination.tables.hints import EMBED_HINT


def embedded(resource) -> list[str]:
    return [name for name, column in resource.columns.items() if column.get(EMBED_HINT)]


def test_one_column_or_several_are_marked():
    assert embedded(qdrant_adapter([{"a": "x"}], embed="a")) == ["a"]
    assert embedded(qdrant_adapter([{"a": "x"}], embed=["a", "b"])) == ["a", "b"]


def test_a_resource_is_wrapped_in_place():
    @dlt.source
    def shop():
        yield dlt.resource([{"description": "a chair"}], name="products")
        yield dlt.resource([{"text": "good"}], name="reviews")

    source = shop()
    qdrant_adapter(source.products, embed="description")
    assert embedded(source.products) == ["description"]
    assert embedded(source.reviews) == []


def test_a_source_with_one_resource_will_do():
    @dlt.source
    def shop():
        yield dlt.resource([{"description": "a chair"}], name="products")

    assert qdrant_adapter(shop(), embed="description").name == "products"


@pytest.mark.parametrize("embed", [None, "", [], [""], [1], {"a": 1}])
def test_columns_have_to_be_named(embed):
    with pytest.raises(ValueError, match="`embed` must name"):
        qdrant_adapter([{"a": "x"}], embed=embed)


def test_a_row_without_a_key_is_refused_where_it_comes_up():
    rows = [{"id": 1, "a": "x"}, {"a": "y"}]
    resource = qdrant_adapter(
        dlt.resource(rows, name="things", write_disposition="merge", primary_key="id"), embed="a"
    )
    with pytest.raises(Exception, match="Row 2 of resource `things` has no value") as caught:
        list(resource)
    causes = [caught.value, caught.value.__cause__]
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
        with pytest.raises(Exception, match="Row 3 of resource `things` has no value"):
            list(resource)
    assert len(list(resource.add_filter(lambda row: "id" in row))) == 2
