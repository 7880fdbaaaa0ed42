"""Rows have a vector of each token of their text, by which they are found or put in order."""

import numpy as np
import pytest

from dagster_qdrant import QdrantResource, QdrantTerminalError
from dagster_qdrant.destination.tables import table_plan
from dagster_qdrant.destination.writing import text_vectors
from dagster_qdrant.embedding.embedder import load_embedder
from dagster_qdrant.embedding.options import EmbeddingOptions
from dagster_qdrant.errors import QdrantConfigurationError
from tests.conftest import Load
from tests.destination.conftest import loaded
from tests.destination.test_vectors import films, info, vectors
from tests.targets import Target

ROWS = [
    {"id": 1, "title": "Runner", "plot": "A hunter chases androids through a rainy city."},
    {"id": 2, "title": "Amelie", "plot": "A baker who falls in love in Paris."},
    {"id": 3, "title": "Moon", "plot": None},
]


@pytest.fixture
def tokens(colbert):
    """What makes the vectors."""
    return load_embedder(
        EmbeddingOptions(
            model=colbert["model"], model_path=colbert["model_path"], kind="late_interaction"
        )
    )


def said(colbert, **settings):
    return {"embed": "plot", "vectors": {"tokens": {"columns": "plot", **colbert, **settings}}}


def max_sim(question, text) -> float:
    """The sum of each question token's best cosine similarity."""
    normed = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (question, text)]
    return float((normed[0] @ normed[1].T).max(axis=1).sum())


@pytest.mark.every_qdrant
def test_each_token_has_a_vector_and_rows_are_found_and_reranked_by_them(
    load: Load,
    resource: QdrantResource,
    qdrant_target: Target,
    dataset,
    colbert,
    tokens,
    monkeypatch,
):
    # They are large, so few are held in memory and asked for at once.
    monkeypatch.setattr(table_plan, "_ROWS_OF_LATE_VECTORS", 1)
    monkeypatch.setattr(text_vectors, "_LATE_AT_ONCE", 1)
    counts = loaded(load, films(ROWS, **said(colbert)))
    assert (counts.texts, counts.texts_of_vectors["tokens"]) == (4, 2)
    there = vectors(qdrant_target, f"{dataset}_films")
    expected = tokens.embed([ROWS[0]["plot"], "a text", ROWS[1]["plot"]])
    assert np.asarray(there[1]["tokens"]).shape == expected[0].shape
    assert np.allclose(there[1]["tokens"], expected[0], atol=1e-4)
    assert "tokens" not in there[3]
    params = info(qdrant_target, f"{dataset}_films").config.params.vectors["tokens"]
    assert params.multivector_config.comparator == "max_sim"
    assert params.hnsw_config is None or params.hnsw_config.m == 0  # local mode keeps none
    # What did not change is not embedded again, also in another collection.
    again = loaded(load, films(ROWS, **said(colbert)))
    assert (again.texts, again.unchanged) == (0, 3)
    assert loaded(load, films(ROWS[:1], **said(colbert), keywords=True)).texts == 0
    assert np.allclose(
        vectors(qdrant_target, f"{dataset}_films")[1]["tokens"], expected[0], atol=1e-4
    )
    # Its scores are the sums over the question's tokens.
    question = "love in Paris"
    of_question = tokens.embed_query(question)
    wanted = {
        id_: pytest.approx(max_sim(of_question, text), rel=1e-3)
        for id_, text in ((1, expected[0]), (2, expected[2]))
    }
    found = resource.search(dataset, "films", question, using="tokens")
    assert found[0].payload["id"] == 2
    assert {hit.payload["id"]: hit.score for hit in found} == wanted
    for mode in ("dense", "hybrid", "keywords"):
        [better] = resource.search(dataset, "films", [question], rerank="tokens", mode=mode)
        scores = {hit.payload["id"]: hit.score for hit in better}
        assert scores == {id_: score for id_, score in wanted.items() if id_ in scores}
        assert 2 in scores
    page = resource.search(dataset, "films", question, 1, rerank="tokens", mode="dense", offset=1)
    assert [hit.payload["id"] for hit in page] == [1]
    least = max(hit.score for hit in found) - 0.01
    good = resource.search(dataset, "films", question, rerank="tokens", score_threshold=least)
    assert [hit.payload["id"] for hit in good] == [2]
    nearest = {"model": "tokens", "candidates": 1}
    one = resource.search(dataset, "films", question, 1, rerank=nearest, mode="dense")
    assert [hit.payload["id"] for hit in one] == [2]


def test_texts_beyond_the_models_window_are_counted(load: Load, colbert, tokens):
    words = {"id": 1, "plot": "rain " * (tokens.max_tokens + 10)}
    counts = loaded(load, films([words], vectors=said(colbert)["vectors"]))
    assert counts.texts_cut == 1
    assert counts.tokens_cut >= 10


def test_a_vector_may_get_an_index(load: Load, qdrant_target: Target, dataset, colbert):
    load(films(ROWS, **said(colbert)))
    load(films(ROWS[:1], **said(colbert, hnsw_config={"m": 8})))
    params = info(qdrant_target, f"{dataset}_films").config.params.vectors["tokens"]
    assert params.hnsw_config is None or params.hnsw_config.m == 8
    # And be one vector of the text again, with the index that Qdrant makes.
    load(films(ROWS[:1], embed="plot", vectors={"tokens": "plot"}))
    params = info(qdrant_target, f"{dataset}_films").config.params.vectors["tokens"]
    assert (params.multivector_config, params.hnsw_config) == (None, None)


def test_what_cannot_work_is_refused(load: Load, resource: QdrantResource, dataset, colbert):
    with pytest.raises(ValueError, match="late interaction, and the configured model is not"):
        films(vectors={"tokens": {"columns": "plot", "late_interaction": True}})
    with pytest.raises(Exception, match="is 'colbert-ir/v2', no late-interaction model of"):
        model = {"model": "colbert-ir/v2", "late_interaction": True}
        load(films(ROWS, vectors={"tokens": {"columns": "plot", **model}}), name="unknown")
    load(films(ROWS, **said(colbert)))
    with pytest.raises(QdrantTerminalError, match="'token', no cross-encoder.* by `tokens`"):
        resource.search(dataset, "films", "a", rerank="token")
    with pytest.raises(QdrantConfigurationError, match="`columns` and `model_path` have no effect"):
        resource.search(dataset, "films", "a", rerank={"model": "tokens", "columns": ["plot"]})
