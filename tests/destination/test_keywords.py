"""Rows are found by the keywords of their texts, beside their meaning or alone."""

import logging
from typing import Any

import dlt
import pytest
from dlt.pipeline.exceptions import PipelineStepFailed

from dagster_qdrant import Keywords, qdrant_adapter
from dagster_qdrant.embedding.sparse import KeywordModel
from tests.conftest import Load
from tests.destination.conftest import loaded
from tests.targets import Target

ROWS = [
    {"id": 1, "title": "Blade Runner", "plot": "A detective hunts androids in the rain."},
    {"id": 2, "title": "Amelie", "plot": "A waitress mends her neighbours' lives."},
    {"id": 3, "title": "Moon", "plot": None},
]


def films(rows: Any = ROWS, disposition: str = "merge", **said: Any) -> Any:
    resource = dlt.resource(rows, name="films", write_disposition=disposition, primary_key="id")
    return qdrant_adapter(resource, **said)


def keyword_vectors(target: Target, collection: str) -> dict[int, Any]:
    """The keywords' vectors by the id of their row; None where there is none."""
    points = target.points(collection, vectors=True)
    return {point.payload["id"]: (point.vector or {}).get("bm25") for point in points}


def about(target: Target, collection: str) -> dict[str, Any]:
    from dagster_qdrant import QdrantResource

    with QdrantResource(**target.options).get_client() as client:
        metadata = client.get_collection(collection).config.metadata or {}
    return dict(metadata["dagster_qdrant"])


@pytest.mark.every_qdrant
def test_each_text_has_a_vector_of_its_keywords(load: Load, qdrant_target: Target, dataset):
    counts = loaded(load, films(embed="plot", keywords=True))
    vectors = keyword_vectors(qdrant_target, f"{dataset}_films")
    assert set(vectors[1].indices) == set(KeywordModel().query(ROWS[0]["plot"]).indices)
    assert vectors[3] is None
    assert (counts.keywords, counts.embedded) == (2, 2)
    [bm25] = sparse_params(qdrant_target, f"{dataset}_films").values()
    assert bm25.modifier == "idf"


def sparse_params(target: Target, collection: str) -> dict[str, Any]:
    from dagster_qdrant import QdrantResource

    with QdrantResource(**target.options).get_client() as client:
        return client.get_collection(collection).config.params.sparse_vectors or {}


@pytest.mark.every_qdrant
def test_keywords_alone_need_no_model(load: Load, qdrant_target: Target, dataset):
    counts = loaded(load, films(keywords=Keywords(columns=["title", "plot"])))
    vectors = keyword_vectors(qdrant_target, f"{dataset}_films")
    assert set(vectors[3].indices) == set(KeywordModel().query("Moon").indices)
    assert (counts.keywords, counts.texts) == (3, 0)


@pytest.mark.every_qdrant
def test_the_mean_length_is_measured_once_and_kept(load: Load, qdrant_target: Target, dataset):
    load(films([{"id": 1, "plot": "rain rain"}, {"id": 2, "plot": "androids"}], **BOTH))
    assert about(qdrant_target, f"{dataset}_films")["keywords"]["avg_len"] == 1.5
    load(films([{"id": 3, "plot": "rain " * 50}], **BOTH))
    assert about(qdrant_target, f"{dataset}_films")["keywords"]["avg_len"] == 1.5


BOTH = {"embed": "plot", "keywords": True}


def test_the_mean_length_is_measured_as_soon_as_there_is_a_text(
    load: Load, qdrant_target: Target, dataset
):
    films_without = dlt.resource(
        [{"id": 1}], name="films", write_disposition="merge", primary_key="id",
        columns={"plot": {"data_type": "text"}},
    )  # fmt: skip
    load(qdrant_adapter(films_without, **BOTH))
    load(films([{"id": 1, "plot": "rain rain"}, {"id": 2, "plot": "androids"}], **BOTH))
    assert about(qdrant_target, f"{dataset}_films")["keywords"]["avg_len"] == 1.5
    stored = keyword_vectors(qdrant_target, f"{dataset}_films")[2]
    [expected] = KeywordModel(avg_len=1.5).embed(["androids"])
    assert stored.values == pytest.approx(expected.values, rel=1e-5)


def test_texts_of_quite_another_length_are_said_and_what_mends_it(
    load: Load, qdrant_target: Target, dataset, caplog
):
    load(films([{"id": 1, "plot": "rain rain"}, {"id": 2, "plot": "androids"}], **BOTH))
    load(films([{"id": 3, "plot": "androids"}], **BOTH))
    load(films([{"id": 4, "plot": "rain " * 2}], **BOTH))
    assert "words on average" not in caplog.text
    load(films([{"id": 3, "plot": "rain " * 11}], **BOTH))
    assert f"`{dataset}_films`: its texts have 4.0 words on average" in caplog.text
    assert "are weighed by 1.5" in caplog.text
    assert "Set `keywords={'avg_len': 4.0}`" in caplog.text
    caplog.clear()
    mended = loaded(
        load, films([{"id": 5, "plot": "rain " * 5}], embed="plot", keywords={"avg_len": 4})
    )
    assert (mended.keywords, mended.texts) == (5, 1)
    assert "words on average" not in caplog.text


def test_a_mean_length_that_is_given_counts(load: Load, qdrant_target: Target, dataset):
    load(films(embed="plot", keywords={"avg_len": 30}))
    stored = keyword_vectors(qdrant_target, f"{dataset}_films")[1]
    [expected] = KeywordModel(avg_len=30).embed([ROWS[0]["plot"]])
    assert dict(zip(stored.indices, stored.values, strict=True)) == pytest.approx(
        dict(zip(expected.indices, expected.values, strict=True)), rel=1e-5
    )


def test_unchanged_rows_are_not_computed_again(load: Load):
    assert loaded(load, films(**BOTH)).keywords == 2
    again = loaded(load, films(**BOTH))
    assert (again.keywords, again.written, again.unchanged) == (0, 0, 3)


@pytest.mark.every_qdrant
def test_a_changed_text_of_other_columns_is_computed_and_not_embedded(
    load: Load, qdrant_target: Target, dataset
):
    said = {"embed": "plot", "keywords": {"columns": ["title"]}}
    load(films(**said))
    counts = loaded(load, films([ROWS[0] | {"title": "Replicants"}], **said))
    assert (counts.keywords, counts.texts, counts.reused) == (1, 0, 1)
    stored = keyword_vectors(qdrant_target, f"{dataset}_films")[1]
    assert set(stored.indices) == set(KeywordModel().query("replicants").indices)


CHANGES = {
    "added": ({"embed": "plot"}, {"embed": "plot", "keywords": True}),
    "removed": ({"embed": "plot", "keywords": True}, {"embed": "plot"}),
    "another language": (
        {"embed": "plot", "keywords": True},
        {"embed": "plot", "keywords": "german"},
    ),
    "other columns": (
        {"embed": "plot", "keywords": True},
        {"embed": "plot", "keywords": Keywords(columns=["title"])},
    ),
    "another length": (
        {"embed": "plot", "keywords": True},
        {"embed": "plot", "keywords": Keywords(avg_len=99)},
    ),
}


@pytest.mark.every_qdrant
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_ends_in_what_a_fresh_load_gives_and_embeds_nothing(
    load: Load, qdrant_target: Target, dataset, change, caplog
):
    before, after = CHANGES[change]
    load(films(**before))
    with caplog.at_level(logging.WARNING):
        counts = loaded(load, films(ROWS[:1], **after))  # an incremental load
    assert counts.texts == 0
    assert "gets other keywords. Its 3 points are copied" in caplog.text
    load(films(**after), dataset_name=f"{dataset}_fresh", machine="another")
    changed, fresh = (
        keyword_vectors(qdrant_target, f"{name}_films") for name in (dataset, f"{dataset}_fresh")
    )
    assert {id_: vector and sorted(vector.indices) for id_, vector in changed.items()} == {
        id_: vector and sorted(vector.indices) for id_, vector in fresh.items()
    }
    assert counts.keywords == sum(vector is not None for vector in changed.values())
    assert about(qdrant_target, f"{dataset}_films").get("keywords") == about(
        qdrant_target, f"{dataset}_fresh_films"
    ).get("keywords")


@pytest.mark.every_qdrant
def test_rows_that_a_replace_brings_again_keep_their_vectors(load: Load):
    said = {"disposition": "replace", "embed": "plot", "keywords": True}
    load(films(**said))
    assert loaded(load, films(**said)).keywords == 0


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"keywords": "klingon"}, "no rules"),
        ({"keywords": {"lang": "german"}}, "`keywords` has `lang`; it may have `language`"),
        ({"keywords": True, "embed": None}, "`embed` must name the columns"),
        ({"keywords": {"columns": [""]}}, "`keywords` must name columns"),
        ({"keywords": {"avg_len": 0}}, "`avg_len` is 0"),
    ],
)
def test_what_cannot_work_is_refused(said, words):
    with pytest.raises(ValueError, match=words):
        films(**({"embed": "plot"} | said))


def test_something_else_is_refused():
    with pytest.raises(TypeError, match="`keywords` is 3"):
        films(embed="plot", keywords=3)


def test_a_column_that_no_row_has_is_named(load: Load):
    with pytest.raises(PipelineStepFailed, match="find by its keywords `tilte`"):
        load(films(embed="plot", keywords={"columns": ["tilte"]}))
