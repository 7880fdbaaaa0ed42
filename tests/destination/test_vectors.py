"""Rows have several vectors, each of columns of its own."""

import logging
from typing import Any

import dlt
import pytest
from dlt.pipeline.exceptions import PipelineStepFailed

from dagster_qdrant import NamedVector, QdrantResource, qdrant_adapter
from tests.conftest import Load
from tests.destination.conftest import loaded
from tests.targets import Target

ROWS = [
    {"id": 1, "title": "Blade Runner", "plot": "A detective hunts androids in the rain."},
    {"id": 2, "title": "Amelie", "plot": "A waitress mends her neighbours' lives."},
    {"id": 3, "title": "Moon", "plot": None},
]
BOTH: dict[str, Any] = {"embed": "plot", "vectors": {"title": "title"}}


def films(rows: Any = ROWS, disposition: str = "merge", **said: Any) -> Any:
    resource = dlt.resource(rows, name="films", write_disposition=disposition, primary_key="id")
    return qdrant_adapter(resource, **said)


def vectors(target: Target, collection: str) -> dict[int, dict[str, Any]]:
    """The vectors by the id of their row."""
    points = target.points(collection, vectors=True)
    return {point.payload["id"]: point.vector or {} for point in points}


def embedded(embedder, text: str) -> Any:
    return pytest.approx(embedder.embed([text])[0].tolist(), abs=1e-4)


def info(target: Target, collection: str) -> Any:
    with QdrantResource(**target.options).get_client() as client:
        return client.get_collection(collection)


@pytest.mark.every_qdrant
def test_each_vector_is_of_its_columns_and_only_what_changed_is_embedded(
    load: Load, qdrant_target: Target, dataset, embedder
):
    counts = loaded(load, films(**BOTH))
    there = vectors(qdrant_target, f"{dataset}_films")
    assert there[1]["title"] == embedded(embedder, "Blade Runner")
    assert there[1]["fast-all-minilm-l6-v2"] == embedded(embedder, ROWS[0]["plot"])
    assert there[3].keys() == {"title"}  # a row whose plot is NULL
    assert (counts.embedded, counts.texts, dict(counts.texts_of_vectors)) == (3, 5, {"title": 3})
    again = loaded(load, films(**BOTH))
    assert (again.texts, again.written, again.unchanged, again.reused) == (0, 0, 3, 3)
    # A change of one embeds that one alone, and the other stays.
    changed = loaded(load, films([ROWS[0] | {"title": "Replicants"}], **BOTH))
    assert (changed.texts, changed.texts_of_vectors["title"], changed.written) == (1, 1, 1)
    now = vectors(qdrant_target, f"{dataset}_films")[1]
    assert now["title"] == embedded(embedder, "Replicants")
    assert now["fast-all-minilm-l6-v2"] == embedded(embedder, ROWS[0]["plot"])
    other = loaded(load, films([ROWS[0] | {"title": "Replicants", "plot": "Rain."}], **BOTH))
    assert (other.texts, other.texts_of_vectors["title"]) == (1, 0)
    # One whose text is gone has no such vector.
    loaded(load, films([ROWS[0] | {"title": None}], **BOTH))
    assert vectors(qdrant_target, f"{dataset}_films")[1].keys() == {"fast-all-minilm-l6-v2"}


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "added": ({"embed": "plot"}, BOTH, 3),
    "removed": (BOTH, {"embed": "plot"}, 0),
    "other columns": (BOTH, {"embed": "plot", "vectors": {"title": ["title", "plot"]}}, 3),
    "another prefix": (
        BOTH,
        {"embed": "plot", "vectors": {"title": NamedVector("title", passage_prefix="film: ")}},
        3,
    ),
    "another datatype": (
        BOTH,
        {"embed": "plot", "vectors": {"title": {"columns": "title", "datatype": "float16"}}},
        3,
    ),
    "another distance": (
        {"vectors": {"title": {"columns": ["title"], "distance": "Euclid"}}},
        {"vectors": {"title": "title"}},
        3,
    ),
    "another index": (
        BOTH,
        {"embed": "plot", "vectors": {"title": {"columns": "title", "hnsw_config": {"m": 8}}}},
        0,
    ),
    "an index as Qdrant has it": (
        {"embed": "plot", "vectors": {"title": {"columns": "title", "hnsw_config": {"m": 8}}}},
        BOTH,
        0,
    ),
    "the main one removed": (BOTH, {"vectors": {"title": "title"}}, 0),
    "the main one added": ({"vectors": {"title": "title"}}, BOTH, 2),
    "the main one of other columns": (BOTH, {**BOTH, "embed": ["title", "plot"]}, 3),
    "all removed": ({"vectors": {"title": "title"}}, {"index": ["title"]}, 0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_ends_in_what_a_fresh_load_gives_and_embeds_no_other_text(
    load: Load, qdrant_target: Target, dataset, change
):
    before, after, texts = CHANGES[change]
    load(films(**before))
    counts = loaded(load, films(ROWS[:1], **after))  # an incremental load
    assert counts.texts == texts
    load(films(**after), dataset_name=f"{dataset}_fresh", machine="another")
    changed, fresh = (f"{dataset}_films", f"{dataset}_fresh_films")
    ours, theirs = vectors(qdrant_target, changed), vectors(qdrant_target, fresh)
    assert {id_: sorted(each) for id_, each in ours.items()} == {
        id_: sorted(each) for id_, each in theirs.items()
    }
    for id_, each in ours.items():
        for name, vector in each.items():
            assert vector == pytest.approx(theirs[id_][name], abs=1e-3)
    one, other = (info(qdrant_target, name) for name in (changed, fresh))
    assert one.config.params.vectors == other.config.params.vectors
    assert fields(one) == fields(other)
    again = loaded(load, films(**after))
    assert (again.texts, again.written, again.unchanged) == (0, 0, 3)


def fields(described: Any) -> Any:
    metadata = dict(described.config.metadata["dagster_qdrant"])
    own = ("dataset", "aliases", "complete")  # the latter are of collections that took a place
    return {name: value for name, value in metadata.items() if name not in own}


def test_a_change_of_vectors_is_announced(load: Load, caplog):
    load(films(embed="plot"))
    with caplog.at_level(logging.WARNING):
        load(films(ROWS[:1], **BOTH))
    assert "gets other vectors beside the main one. Its 3 points are copied" in caplog.text


def test_rows_that_a_replace_brings_again_keep_their_vectors(load: Load):
    load(films(**BOTH, disposition="replace"))
    again = loaded(load, films(**BOTH, disposition="replace"))
    assert (again.texts, again.unchanged) == (0, 3)


def test_appended_rows_share_the_vectors_of_equal_texts(load: Load):
    load(films(**BOTH, disposition="append"))
    again = loaded(load, films(**BOTH, disposition="append"))
    assert (again.rows, again.texts, again.reused) == (3, 0, 3)


def test_a_load_without_rows_leaves_vectors_as_they_are(load: Load, qdrant_target: Target, dataset):
    load(films(**BOTH))

    @dlt.resource(name="films", write_disposition="merge", primary_key="id")
    def nothing() -> Any:
        yield from ()

    load([nothing, dlt.resource([{"a": 1}], name="others")])
    assert vectors(qdrant_target, f"{dataset}_films")[1].keys() == {
        "title",
        "fast-all-minilm-l6-v2",
    }


def test_a_vector_has_the_settings_that_are_asked_for(load: Load, qdrant_target: Target, dataset):
    from qdrant_client import models

    load(
        films(
            embed="plot",
            vectors={
                "title": NamedVector(
                    "title", distance="Dot", hnsw_config=models.HnswConfigDiff(m=4), on_disk=True
                )
            },
        )
    )
    params = info(qdrant_target, f"{dataset}_films").config.params.vectors
    assert (params["title"].distance, params["title"].on_disk) == ("Dot", True)
    assert params["title"].hnsw_config.m == 4
    assert params["fast-all-minilm-l6-v2"].distance == "Cosine"


def test_vectors_have_models_of_their_own(
    load: Load, resource: QdrantResource, qdrant_target: Target, dataset, model
):
    from tests.embedding.test_embedder import register

    theirs = register("acme/of-titles")
    own = NamedVector("title", model=theirs, model_path=model["model_path"], query_prefix="a ")
    load(films(embed="plot", vectors={"title": own}))
    metadata = fields(info(qdrant_target, f"{dataset}_films"))["vectors"]["title"]
    assert (metadata["model"], metadata["query_prefix"]) == (theirs, "a ")
    # A search takes all of it from the collection.
    [hit] = resource.search(dataset, "films", "moon", 1, using="title")
    assert hit.payload["id"] == 3
    # The configured model may change; this one stays, and so do its vectors.
    again = loaded(load, films(embed="plot", vectors={"title": own}))
    assert again.texts == 0


def test_a_vector_that_is_named_is_searched_alone(load: Load, resource: QdrantResource, dataset):
    load(films(**BOTH, keywords=True))

    def found(text: str, **how: Any) -> list[int]:
        return [hit.payload["id"] for hit in resource.search(dataset, "films", text, **how)]

    assert found("the moon", using="title")[0] == 3
    assert found("the moon", mode="dense") != found("the moon", using="title")
    assert found("androids", using="bm25") == [1]
    assert found("androids moon", using="title", mode="hybrid")[:2] in ([1, 3], [3, 1])
    assert found("androids", using="fast-all-minilm-l6-v2") == found("androids", mode="dense")


def test_without_a_main_vector_the_only_one_is_searched_and_of_several_one_is_named(
    load: Load, resource: QdrantResource, dataset
):
    from dagster_qdrant import QdrantTerminalError

    load(films(vectors={"title": "title"}))
    assert resource.search(dataset, "films", "moon", 1)[0].payload["id"] == 3
    load(films(vectors={"title": "title", "plot": "plot"}, keywords={"columns": ["plot"]}))
    with pytest.raises(QdrantTerminalError, match="the vectors `title`, `plot`.*`using='title'`"):
        resource.search(dataset, "films", "moon")
    assert resource.search(dataset, "films", "detective", using="plot")[0].payload["id"] == 1
    assert resource.search(dataset, "films", "androids", mode="keywords")[0].payload["id"] == 1
    with pytest.raises(QdrantTerminalError, match="no vector `name`.*has `title`, `plot`, `bm25`"):
        resource.search(dataset, "films", "moon", using="name")


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        ({"bm25": "title"}, "which the vector of keywords has"),
        ({"fast-x": "title"}, "those of main vectors"),
        ({"a.b": "title"}, "letters, digits"),
        ({"": "title"}, "letters, digits"),
        ({"title": []}, r"`vectors\['title'\]` must name the columns"),
        ({"title": 3}, r"`vectors\['title'\]` must name the columns"),
        ({"title": {"model": "x"}}, "must name the columns"),
        ({"title": {"column": "title"}}, "has `column`; it may have `columns`"),
        ({"title": {"columns": "title", "distance": "Far"}}, "has `distance` 'Far'"),
        ({"title": {"columns": "title", "hnsw_config": {"mm": 1}}}, r"has `hnsw_config.mm` 1"),
        ({"title": {"columns": "title", "datatype": "uint8"}}, "would all become 0"),
        (["title"], "`vectors` must name columns by vector"),
    ],
)
def test_what_cannot_work_is_refused(vectors, words):
    with pytest.raises(ValueError, match=words):
        films(embed="plot", vectors=vectors)


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        ({"title": "tilte"}, "is to embed `tilte`, but no row has a value"),
        (
            {"title": {"columns": "title", "model": "no/such"}},
            "vector `title`: `model` is 'no/such'",
        ),
        ({"tags": "tags"}, "is to embed `tags`, which holds nested data|no row has a value"),
    ],
)
def test_what_no_load_can_do_is_said_before_it(load: Load, vectors, words):
    rows = [row | {"tags": ["a"]} for row in ROWS]
    with pytest.raises(PipelineStepFailed, match=words):
        load(films(rows, embed="plot", vectors=vectors))


def test_rows_whose_texts_are_in_chunks_have_further_vectors_themselves(
    load: Load, resource: QdrantResource, qdrant_target: Target, dataset
):
    said = {**BOTH, "chunk": True}
    load(films(**said))
    assert vectors(qdrant_target, f"{dataset}_films")[1].keys() == {"title"}
    [hit] = resource.search(dataset, "films", "the moon", 1, using="title")
    assert (hit.payload["id"], hit.passages) == (3, ())
    [hit] = resource.search(dataset, "films", "the detective and the androids", 1)
    assert (hit.payload["id"], hit.passages[0].text) == (1, ROWS[0]["plot"])
    again = loaded(load, films(**said))
    assert (again.texts, again.written) == (0, 0)
