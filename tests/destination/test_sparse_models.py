"""Keywords are made by a sparse model of fastembed in the place of BM25."""

import re
from pathlib import Path
from typing import Any

import pytest
from dlt.pipeline.exceptions import PipelineStepFailed

from dagster_qdrant import Keywords, QdrantResource
from dagster_qdrant.embedding.embedder import load_embedder
from tests.conftest import Load
from tests.destination.conftest import loaded
from tests.destination.test_keywords import (
    ROWS,
    about,
    films,
    keyword_vectors,
    sparse_params,
)
from tests.small_models import BM42, SPLADE, bm42_folder, splade_folder
from tests.targets import Target


@pytest.fixture(scope="session")
def splade(tmp_path_factory: pytest.TempPathFactory, model: dict[str, Any]) -> dict[str, Any]:
    folder = splade_folder(tmp_path_factory.mktemp("splade"), Path(model["model_path"]))
    return {"model": SPLADE, "model_path": str(folder)}


@pytest.fixture(scope="session")
def bm42(tmp_path_factory: pytest.TempPathFactory, model: dict[str, Any]) -> dict[str, Any]:
    folder = bm42_folder(tmp_path_factory.mktemp("bm42"), Path(model["model_path"]))
    return {"model": BM42, "model_path": str(folder)}


@pytest.mark.every_qdrant
def test_a_model_makes_the_vectors_and_only_of_texts_that_changed(
    load: Load, resource: QdrantResource, qdrant_target: Target, dataset, splade
):
    said = {"embed": "title", "keywords": Keywords(columns=["plot"], **splade)}
    counts = loaded(load, films(**said))
    assert (counts.keywords, counts.texts) == (2, 5)
    vectors = keyword_vectors(qdrant_target, f"{dataset}_films")
    options = Keywords(**splade).options(resource.configuration().embedding)
    [expected] = load_embedder(options).embed([ROWS[0]["plot"]])
    assert dict(zip(vectors[1].indices, vectors[1].values, strict=True)) == pytest.approx(
        dict(zip(expected.indices, expected.values, strict=True)), rel=1e-4
    )
    assert vectors[3] is None
    [params] = sparse_params(qdrant_target, f"{dataset}_films").values()
    assert params.modifier in (None, "none")
    again = loaded(load, films(**said))
    assert (again.keywords, again.texts, again.unchanged) == (0, 0, 3)
    # Another title embeds the title alone, and the model of keywords does not run.
    titled = loaded(load, films([ROWS[0] | {"title": "Replicants"}], **said))
    assert (titled.texts, titled.keywords, titled.written) == (1, 0, 1)
    assert keyword_vectors(qdrant_target, f"{dataset}_films")[1].indices == vectors[1].indices
    # Neither does it for a collection that is made anew for other reasons.
    others = {"embed": ["title", "plot"], "keywords": said["keywords"]}
    assert loaded(load, films(ROWS[:1], **others)).keywords == 0
    found = resource.search(dataset, "films", "androids in the rain", mode="keywords")
    assert found[0].payload["id"] == 1
    assert len(resource.search(dataset, "films", "androids in the rain", mode="hybrid")) == 3


@pytest.mark.parametrize("direction", ["to a model", "to BM25"])
def test_a_change_between_models_ends_in_what_a_fresh_load_gives(
    load: Load, qdrant_target: Target, dataset, splade, direction
):
    both = [{"embed": "plot", "keywords": True}, {"embed": "plot", "keywords": splade}]
    before, after = both if direction == "to a model" else both[::-1]
    load(films(**before))
    counts = loaded(load, films(ROWS[:1], **after))
    assert (counts.keywords, counts.texts) == (2, 2 if direction == "to a model" else 0)
    load(films(**after), dataset_name=f"{dataset}_fresh", machine="another")
    names = [f"{dataset}_films", f"{dataset}_fresh_films"]
    assert sparse_params(qdrant_target, names[0]) == sparse_params(qdrant_target, names[1])
    changed, fresh = (keyword_vectors(qdrant_target, name) for name in names)
    assert {id_: vector and sorted(vector.indices) for id_, vector in changed.items()} == {
        id_: vector and sorted(vector.indices) for id_, vector in fresh.items()
    }
    keywords = [about(qdrant_target, name)["keywords"] for name in names]
    assert keywords[0] == keywords[1]
    assert loaded(load, films(**after)).written == 0


def test_models_whose_words_are_weighed_by_rarity_get_that(
    load: Load, resource: QdrantResource, qdrant_target: Target, dataset, bm42
):
    load(films(keywords=Keywords(columns=["plot"], **bm42)))
    [params] = sparse_params(qdrant_target, f"{dataset}_films").values()
    assert params.modifier == "idf"
    hits = resource.search(dataset, "films", "neighbours")
    assert [hit.payload["id"] for hit in hits] == [2]
    assert resource.search(dataset, "films", "the") == []  # a stopword


def test_fastembeds_name_of_bm25_is_what_is_built_in():
    assert Keywords(model="Qdrant/bm25") == Keywords()


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"model": "a/b", "language": "german"}, "`language` and `avg_len`, which are BM25's"),
        ({"model": "a/b", "avg_len": 3}, "have no effect"),
        ({"model_path": "/m"}, "has a `model_path` and no `model`"),
    ],
)
def test_what_cannot_work_is_refused(keywords, words):
    with pytest.raises(ValueError, match=words):
        films(embed="plot", keywords=keywords)


def test_a_model_that_is_not_known_is_named_before_the_load(load: Load):
    words = "keywords: `model` is 'prithivida/Splade_PP', no sparse model of fastembed. Did you"
    with pytest.raises(PipelineStepFailed, match=re.escape(words)):
        load(films(embed="plot", keywords={"model": "prithivida/Splade_PP"}))
