"""Rows that were found are put into a better order by a cross-encoder."""

import re
from typing import Any

import dlt
import pytest

from dagster_qdrant import QdrantResource, QdrantTerminalError, qdrant_adapter
from dagster_qdrant.embedding import embedder
from dagster_qdrant.errors import QdrantConfigurationError
from dagster_qdrant.search import Hit
from tests.conftest import Load

FILMS = [
    {"id": 1, "title": "Robots", "plot": "machines that hunt people"},
    {"id": 2, "title": "Rain", "plot": "a hunter chases androids through the rainy city streets"},
    {"id": 3, "title": "Paris", "plot": "the baker of the streets of the city of love"},
]


def films(**said: Any) -> Any:
    rows = dlt.resource(FILMS, name="films", write_disposition="merge", primary_key="id")
    return qdrant_adapter(rows, **(said or {"embed": "plot"}))


def ids(hits: list[Hit]) -> list[int]:
    return [hit.payload["id"] for hit in hits]


def test_hits_have_the_rerankers_order_and_scores(
    load: Load, resource: QdrantResource, dataset, cross_encoder
):
    load(films())
    asked = ["the streets of the city", "machines that hunt"]
    by_meaning = resource.search(dataset, "films", asked)
    city, machines = resource.search(dataset, "films", asked, rerank=cross_encoder)
    assert ids(city) == [3, 2, 1]  # by the words that they share
    assert all(hit.score < 1 for hit in by_meaning[0])
    # `the` is twice in the question and three times in the text, and a [SEP] in each.
    assert city[0].score == 2 * 3 + len(["of"] * 3) + len(["streets", "city", "[SEP]"])
    assert ids(machines)[0] == 1
    # The order, the threshold and the pages are the reranker's.
    page = resource.search(dataset, "films", asked[0], 1, rerank=cross_encoder, offset=1)
    assert ids(page) == [2]
    good = resource.search(
        dataset, "films", asked[0], rerank=cross_encoder, score_threshold=city[0].score
    )
    assert ids(good) == [3]


def test_more_rows_are_reranked_than_are_asked_for(
    load: Load, resource: QdrantResource, dataset, cross_encoder
):
    rows = [{"id": number, "text": f"row {number}"} for number in range(60)]
    rows.append({"id": 99, "text": "zebra crossing"})
    texts = dlt.resource(rows, name="rows", write_disposition="merge", primary_key="id")
    load(qdrant_adapter(texts, embed="text", keywords=True))

    def found(**how: Any) -> list[int]:
        text = "row 7 crossing"
        return ids(resource.search(dataset, "rows", text, 1, mode="dense", **how))

    [nearest] = found()
    # Only 99 shares `crossing`, and only 7 both others.
    assert found(rerank=cross_encoder) == [7]
    assert found(rerank={**cross_encoder, "candidates": 1}) == [nearest]
    with pytest.raises(QdrantConfigurationError, match="`candidates` of `rerank` is 3, but .* 11"):
        found(rerank={**cross_encoder, "candidates": 3}, offset=10)


def test_the_columns_that_a_row_is_found_by_are_read(
    load: Load, resource: QdrantResource, dataset, cross_encoder
):
    load(films(keywords={"columns": ["title"]}))
    by_titles = resource.search(dataset, "films", "rain or paris", rerank=cross_encoder)
    assert {hit.payload["id"]: hit.score for hit in by_titles} == {2: 2.0, 3: 2.0}
    columns = {**cross_encoder, "columns": ["plot"]}
    [hit] = resource.search(dataset, "films", "paris", rerank=columns)
    assert hit.score == 1.0  # [SEP] alone
    with pytest.raises(QdrantTerminalError, match=r"a text to rerank it by in `plots`.*`plot`"):
        resource.search(dataset, "films", "paris", rerank={**cross_encoder, "columns": "plots"})


def test_values_of_another_type_are_read_with_any_naming(
    load: Load, resource: QdrantResource, dataset, cross_encoder, monkeypatch
):
    monkeypatch.setenv("SCHEMA__NAMING", "direct")
    for rows in ([{"id": 1, "plot": 1984}], [{"id": 2, "plot": "The streets of Brazil"}]):
        source = dlt.resource(rows, name="films", write_disposition="merge", primary_key="id")
        load(qdrant_adapter(source, embed="plot"))
    hits = resource.search(dataset, "films", "streets", rerank=cross_encoder)
    assert [(hit.payload["id"], hit.score) for hit in hits] == [(2, 2.0), (1, 1.0)]


def test_a_model_is_loaded_once_in_a_process(
    load: Load, resource: QdrantResource, dataset, cross_encoder, monkeypatch
):
    monkeypatch.setattr(embedder, "_embedders", {})
    load(films())
    for text in ("androids", "love"):
        resource.search(dataset, "films", text, rerank=cross_encoder)
    assert sorted(options.kind for options in embedder._embedders) == ["dense", "reranker"]


@pytest.mark.parametrize(
    ("rerank", "words"),
    [
        ("Xenova/ms-marco-MiniLM-L6-v2", "is 'Xenova/ms-marco-MiniLM-L6-v2', no cross-encoder"),
        ("Xenova/ms-marco-MiniLM-L6-v2", "Did you mean Xenova/ms-marco-MiniLM-L-6-v2"),
        ("plot", "`fastembed.TextCrossEncoder.list_supported_models()`"),
        ({"model_path": "/m"}, "`rerank` is ''; it must be the name of a cross-encoder"),
        (7, "`rerank` is 7; it must be the name of a cross-encoder"),
        ({"model": "a", "columms": "b"}, "`rerank` has `columms`; it may have `model`"),
        ({"model": "a", "candidates": 0}, "`candidates` of `rerank` is 0"),
        ({"model": "BAAI/bge-reranker-base", "model_path": "/nowhere"}, "/nowhere, which is no"),
    ],
)
def test_mistakes_are_explained(load: Load, resource: QdrantResource, dataset, rerank, words):
    load(films())
    with pytest.raises((QdrantConfigurationError, QdrantTerminalError), match=re.escape(words)):
        resource.search(dataset, "films", "androids", rerank=rerank)


def test_a_collection_that_does_not_say_its_columns_needs_them(
    load: Load, resource: QdrantResource, dataset, cross_encoder
):
    load(films())
    with resource.get_client() as client:
        client.update_collection(f"{dataset}_films", metadata={"dagster_qdrant": {}})
    with pytest.raises(QdrantTerminalError, match="does not say which columns"):
        resource.search(dataset, "films", "streets", rerank=cross_encoder)
    named = {**cross_encoder, "columns": ["plot"]}
    assert ids(resource.search(dataset, "films", "the streets of", rerank=named))[0] == 3
