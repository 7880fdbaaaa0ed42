"""Rows that are found by the chunks of their texts, and what is said of them."""

import dagster as dg
import dlt
import pyarrow
import pytest
from qdrant_client import models

from dagster_qdrant import QdrantConfigurationError, build_qdrant_assets, qdrant_adapter
from dagster_qdrant.destination import passages
from tests.conftest import Load

PLANETS = ["Mercury", "Venus", "Mars", "Jupiter", "Saturn"]
# Many chunks that are alike, so that the nearest ones are those of few rows.
ROWS = [
    {"id": number, "body": f"{planet} is a planet of the sun. " * 12, "rank": number}
    for number, planet in enumerate(PLANETS)
] + [{"id": 9, "body": "A bicycle has two wheels. " * 12, "rank": 9}]


@pytest.fixture
def search(load: Load, resource, dataset):
    rows = dlt.resource(ROWS, name="docs", write_disposition="merge", primary_key="id")
    load(qdrant_adapter(rows, embed="body", keywords=True, chunk=10, index=["rank"]))

    def search(text, **how):
        return resource.search(dataset, "docs", text, **how)

    return search


def ids(hits):
    return [hit.payload["id"] for hit in hits]


@pytest.mark.parametrize("mode", ["dense", "keywords", "hybrid"])
def test_as_many_rows_are_found_as_are_asked_for(search, monkeypatch, mode):
    monkeypatch.setattr(passages, "_LEAST_CHUNKS", 2)
    monkeypatch.setattr(passages, "_CHUNKS_A_ROW", 1)
    hits = search("Venus is a planet of the sun", limit=5, mode=mode)
    assert ids(hits)[0] == 1
    assert set(ids(hits)) == set(range(5))
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert (
        ids(search("Venus is a planet of the sun", limit=3, offset=2, mode=mode)) == ids(hits)[2:]
    )


def test_a_row_has_as_many_passages_as_are_asked_for(search):
    for passages_ in (1, 2):
        [hit] = search("bicycle wheels", limit=1, passages=passages_, mode="dense")
        assert [passage.text for passage in hit.passages] == [
            "A bicycle has two wheels. "
        ] * passages_
        assert hit.passages[0].score == hit.score
    with pytest.raises(QdrantConfigurationError, match="`passages` is 0"):
        search("bicycle", passages=0)


def test_several_texts_are_searched_for_at_once(search):
    planets, bicycles, stopwords = search(
        ["a planet named Mars", "two wheels", "is of the"], limit=1, mode="hybrid"
    )
    assert (ids(planets), ids(bicycles)) == ([2], [9])
    assert len(stopwords) == 1


@pytest.mark.parametrize("fusion", ["rrf", "dbsf"])
def test_a_threshold_and_a_filter_hold_for_rows(search, fusion):
    first, second, *_ = search("Mars is a planet", fusion=fusion)
    assert ids(search("Mars is a planet", fusion=fusion, score_threshold=first.score)) == [2]
    assert second.score < first.score
    above = models.FieldCondition(key="rank", range=models.Range(gte=3, lt=9))
    hits = search("Mars is a planet", fusion=fusion, query_filter=models.Filter(must=[above]))
    assert set(ids(hits)) == {3, 4}


@pytest.mark.parametrize("as_rows", [list, pyarrow.Table.from_pylist])
def test_rows_are_filtered_by_whatever_column_they_have(load: Load, resource, dataset, as_rows):
    rows = [{**row, "labels": [f"no {row['id']}"], "gone": False} for row in ROWS]
    types = {"labels": {"data_type": "json"}, "gone": {"hard_delete": True}}

    def loaded(rows, chunk):
        hints = {"name": "docs", "write_disposition": "merge", "primary_key": "id"}
        docs = dlt.resource([as_rows(rows)], columns=types, **hints)
        load(qdrant_adapter(docs, embed="body", chunk=chunk))
        for key, value, found in (("labels", "no 2", [2]), ("gone", True, [])):
            condition = models.FieldCondition(key=key, match=models.MatchValue(value=value))
            where = models.Filter(must=[condition]), models.Filter(must_not=[condition])
            some, others = (resource.search(dataset, "docs", "a", query_filter=f) for f in where)
            assert ids(some) == found
            assert sorted([*ids(some), *ids(others)]) == [0, 1, 2, 3, 4, 9]

    loaded(rows, chunk=10)
    loaded(rows[:1], chunk=20)  # all rows are cut anew, of what is stored


@pytest.mark.parametrize("mode", ["auto", "dense", "keywords", "hybrid"])
def test_nothing_is_found_where_no_row_has_had_a_text(load: Load, resource, dataset, mode):
    rows = dlt.resource([{"id": 1}], name="docs", columns={"body": {"data_type": "text"}})
    load(qdrant_adapter(rows, embed="body", keywords=True, chunk=True))
    assert resource.search(dataset, "docs", "a planet", mode=mode) == []


def test_a_weight_of_none_leaves_a_way_out(search):
    by_meaning = search("Mars is a planet", mode="dense")
    hits = search("Mars is a planet", weights={"keywords": 0}, limit=5)
    assert ids(hits) == ids(by_meaning)[:5]


def test_points_cannot_be_named_in_a_filter(search):
    condition = models.HasIdCondition(has_id=[1])
    with pytest.raises(Exception, match="Filter by a column"):
        search("Mars", query_filter=models.Filter(must_not=[condition]))


def materialized(resource, dataset, rows, chunk=10, **hints):
    source = dlt.resource(rows, name="docs", primary_key="id", **hints)
    assets = build_qdrant_assets(
        dlt_source=qdrant_adapter(source, embed="body", chunk=chunk),
        dataset_name=dataset,
        checks=True,
    )
    result = dg.materialize([assets], resources={"qdrant": resource})
    [event] = result.get_asset_materialization_events()
    failed = {e.check_name: e for e in result.get_asset_check_evaluations() if not e.passed}
    return {name: each.value for name, each in event.materialization.metadata.items()}, failed


def test_a_function_cuts_the_texts_of_an_asset(resource, dataset):
    shown, failed = materialized(resource, dataset, ROWS[:1], chunk=lambda text: [text, "more"])
    assert (shown["chunks"], failed) == (2, {})


def test_an_asset_counts_rows_and_beside_them_chunks(resource, dataset):
    rows = [*ROWS, {"id": 10, "body": None, "rank": 10}]
    shown, failed = materialized(resource, dataset, rows, write_disposition="merge")
    assert not failed
    assert (shown["rows_loaded"], shown["dagster/row_count"]) == (7, 7)
    assert (shown["rows_without_text"], shown["texts_embedded"]) == (1, 6)
    assert shown["chunks"] == shown["chunks_loaded"] == shown["chunks_embedded"] == 72
    assert "rows_embedded" not in shown
    assert "7 rows loaded in" in shown["summary"]
    assert "72 chunks embedded" in shown["summary"]
    columns = {column.name: column for column in shown["dagster/column_schema"].columns}
    assert "in chunks" in columns["body"].constraints.other
    first, *others = shown["nearest"].split("| --- |")[-1].strip().splitlines()
    ids = [line.split("|")[2].strip() for line in (first, *others)]
    assert sorted(ids) == ["0", "1", "2", "3", "4", "9"]  # rows, each once, with a passage
    assert all("wheels" in line or "planet" in line for line in others)

    with resource.get_client() as client:
        [bicycle] = [p for p in client.scroll(f"{dataset}_docs")[0] if p.payload["id"] == 9]
        client.delete(f"{dataset}_docs", [bicycle.id])
        chunks = client.scroll(f"{dataset}_docs__chunks", limit=100)[0]
        client.delete(f"{dataset}_docs__chunks", [p.id for p in chunks if p.payload["id"] != 9])
    _, failed = materialized(resource, dataset, rows[:0], write_disposition="merge")
    assert "does not find its row" in failed["search_finds_row"].description
    assert {"search_finds_row", "no_orphans"} <= failed.keys()

    texts_gone = [row | {"body": " "} for row in rows]
    shown, failed = materialized(resource, dataset, texts_gone, write_disposition="replace")
    assert (shown["chunks"], shown["rows_without_text"]) == (0, 7)
    assert "not one text" in failed["all_vectors_present"].description


def test_a_row_is_reranked_by_its_best_passage(search, cross_encoder):
    text = "Saturn is a planet"
    hits = search(text, limit=2, rerank=cross_encoder, passages=2)
    assert ids(hits)[0] == 4
    assert [passage.score for passage in hits[0].passages] == [hits[0].score] * 2
    assert hits[1].score < hits[0].score
    assert ids(search(text, limit=1, offset=1, rerank=cross_encoder)) == ids(hits)[1:]
    by_column = search(text, limit=1, rerank={**cross_encoder, "columns": ["body"]})
    assert ids(by_column) == [4]
    assert by_column[0].score > hits[0].score  # the whole text has more words


def test_chunks_have_the_names_that_a_convention_makes(
    load: Load, resource, qdrant_target, dataset, monkeypatch
):
    monkeypatch.setenv("SCHEMA__NAMING", "tests.upper_case")
    hints = {"name": "docs", "write_disposition": "merge", "primary_key": "id"}

    def loaded(chunk, rows=ROWS):
        docs = dlt.resource(rows, columns={"gone": {"hard_delete": True}}, **hints)
        load(qdrant_adapter(docs, embed="body", keywords=True, chunk=chunk))
        chunks = qdrant_target.points(f"{dataset.upper()}_DOCS__CHUNKS")
        text = {}
        for each in sorted(chunks, key=lambda chunk: chunk.payload["CHUNK_START"]):
            text[each.payload["ID"]] = text.get(each.payload["ID"], "") + each.payload["TEXT"]
        columns = {n for each in chunks for n in each.payload if not n.lower().startswith("_dlt")}
        assert columns == {"TEXT", "CHUNK_NUMBER", "CHUNK_START", "CHUNK_END", "ID", "RANK"}
        return text, resource.search(dataset, "docs", "bicycle wheels", limit=9)

    whole = {row["id"]: row["body"] for row in ROWS}
    text, [bicycle, *_] = loaded(10)
    assert text == whole
    assert bicycle.payload["ID"] == 9
    [passage, *_] = bicycle.passages
    assert whole[9][passage.start : passage.end] == passage.text == "A bicycle has two wheels. "

    text, [bicycle, *_] = loaded(20, ROWS[:1])  # all rows are cut anew, of what is stored
    assert text == whole
    assert "wheels. A bicycle" in bicycle.passages[0].text
    text, hits = loaded(20, [{"id": 9, "gone": True}])
    assert text.keys() == {hit.payload["ID"] for hit in hits} == set(range(5))


def test_the_next_row_takes_the_place_of_one_that_is_not_there(search, resource, dataset):
    first, second, third = search("Venus is a planet of the sun", limit=3)
    with resource.get_client() as client:  # as while it is loaded: chunks may come before
        client.delete(f"{dataset}_docs", [first.id])
    assert search("Venus is a planet of the sun", limit=2) == [second, third]
    assert search("Venus is a planet of the sun", limit=1, offset=1) == [third]


def test_rows_that_chunks_found_are_reranked_by_a_vector_of_theirs(
    load: Load, resource, dataset, colbert
):
    titles = ["Our solar system", "Wheels", None, "Cooking", "A planet", "Roads"]
    rows = [row | {"title": title} for row, title in zip(ROWS, titles, strict=True)]
    docs = dlt.resource(rows, name="docs", write_disposition="merge", primary_key="id")
    vectors = {"title": "title", "tokens": {**colbert, "columns": ["title"]}}
    load(qdrant_adapter(docs, embed="body", chunk=10, vectors=vectors, keywords=True))

    def search(text, **how):
        return resource.search(dataset, "docs", text, **how)

    text = "Venus is a planet of the sun"
    for name in vectors:
        # All that have the vector, in its order and with its scores, and with their passages.
        alone = search(text, using=name)
        hits = search(text, rerank=name)
        assert ids(hits) == ids(alone)
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in alone])
        assert ids(hits)[0] == 4
        assert 2 not in ids(hits)
        texts = [passage.text for passage in hits[0].passages]
        assert texts == ["Saturn is a planet of the sun. "] * 3
        assert ids(search(text, rerank=name, limit=2, offset=1)) == ids(hits)[1:3]
        least = hits[1].score - 0.001
        assert ids(search(text, rerank=name, score_threshold=least)) == ids(hits)[:2]
        # Of the nearest row alone.
        assert ids(search(text, rerank={"model": name, "candidates": 1}, limit=1)) == [1]
        below = models.FieldCondition(key="rank", range=models.Range(lt=3))
        how = {"query_filter": models.Filter(must=[below]), "mode": "keywords", "rerank": name}
        some, none = search([text, "of the"], **how)
        assert (set(ids(some)), none) == ({0, 1}, [])
    with pytest.raises(Exception, match="no cross-encoder.*_docs` can be reranked by `title` or"):
        search(text, rerank="titles")
