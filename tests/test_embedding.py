"""Texts -> vectors: the same as fastembed's, in order, on all cores, with one model a process."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_qdrant.embedding import (
    EmbeddingError,
    EmbeddingOptions,
    TextEmbedder,
    available_cores,
    load_embedder,
    models_for_vector,
)

TEXTS = ["a short text", "one that is " + "quite " * 60 + "long", "", "third", "é 漢字 🎬"]


@pytest.fixture(scope="module")
def alone(embedder: TextEmbedder):
    """What fastembed gives for a text without company."""
    return lambda text: next(iter(embedder._model.embed([text])))


def test_vectors_are_those_of_fastembed_and_in_the_order_of_the_texts(embedder, alone):
    vectors = embedder.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), 384)
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_allclose(vector, alone(text), atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.text(max_size=80), max_size=12))
def test_any_texts_in_any_company_get_their_own_vector(embedder, alone, texts):
    vectors = embedder.embed(texts)
    assert len(vectors) == len(texts)
    for text, vector in zip(texts, vectors, strict=True):
        np.testing.assert_allclose(vector, alone(text), atol=1e-5)


def test_no_texts_give_no_vectors(embedder):
    assert embedder.embed([]).shape == (0, 384)


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"parallelism": 3}, {"threads": 2}])
def test_options_change_the_speed_and_not_the_vectors(model, embedder, options):
    other = TextEmbedder(EmbeddingOptions(**model, **options))
    np.testing.assert_allclose(other.embed(TEXTS), embedder.embed(TEXTS), atol=1e-5)


def test_no_batch_has_more_texts_than_allowed(model, monkeypatch):
    embedder = TextEmbedder(EmbeddingOptions(**model, batch_size=4))
    sizes = []
    embed_batch = embedder._embed_batch

    def spy(texts):
        sizes.append(len(texts))
        return embed_batch(texts)

    monkeypatch.setattr(embedder, "_embed_batch", spy)
    embedder.embed([f"text {n}" for n in range(18)])
    assert sum(sizes) == 18
    assert max(sizes) == 4


def test_parallelism_is_the_number_of_threads(model):
    assert EmbeddingOptions(**model, parallelism=3).workers == 3
    assert EmbeddingOptions(**model).workers == available_cores()
    assert EmbeddingOptions(**model, threads=available_cores()).workers == 1


def test_a_process_loads_a_model_once(model):
    assert load_embedder(EmbeddingOptions(**model)) is load_embedder(EmbeddingOptions(**model))


def test_cores_are_those_this_process_may_use():
    import os

    assert 1 <= available_cores() <= len(os.sched_getaffinity(0))


def test_the_size_of_vectors_is_known_without_the_model():
    assert EmbeddingOptions(model="BAAI/bge-base-en").vector_size == 768


def test_an_unknown_model_is_refused_with_its_likes():
    with pytest.raises(EmbeddingError, match="Did you mean.*all-MiniLM-L6-v2"):
        _ = EmbeddingOptions(model="all-MiniLM-L6-v2").vector_size


def test_a_folder_without_the_model_is_named(tmp_path, model):
    with pytest.raises(EmbeddingError, match="nowhere, which is no folder"):
        load_embedder(EmbeddingOptions(model=model["model"], model_path="nowhere"))
    with pytest.raises(EmbeddingError, match=f"could not be loaded from {tmp_path}"):
        load_embedder(EmbeddingOptions(model=model["model"], model_path=str(tmp_path)))


def test_a_model_that_may_not_be_downloaded_is_looked_for_in_the_cache(tmp_path, model):
    options = EmbeddingOptions(
        model=model["model"], cache_dir=str(tmp_path / "cache"), local_files_only=True
    )
    with pytest.raises(EmbeddingError, match="could not be loaded from .*/cache"):
        load_embedder(options)


def test_a_provider_that_is_not_there_is_an_error(model):
    with pytest.raises(EmbeddingError, match="CUDAExecutionProvider"):
        load_embedder(EmbeddingOptions(**model, providers=("CUDAExecutionProvider",)))


def test_the_model_can_be_read_off_a_vectors_name():
    assert "sentence-transformers/all-MiniLM-L6-v2" in models_for_vector("fast-all-minilm-l6-v2")
    assert models_for_vector("fast-unheard-of") == []


def test_a_model_can_be_loaded_ahead_and_its_failure_waits_for_who_asks(model, monkeypatch):
    from dagster_qdrant import embedding

    monkeypatch.setattr(embedding, "_embedders", {})
    good, bad = EmbeddingOptions(**model), EmbeddingOptions(model="no/such-model")
    for options in (good, bad):
        embedding.preload_embedder(options)
    for thread in embedding.threading.enumerate():
        if thread.name == "preload-model":
            thread.join()
    assert list(embedding._embedders) == [good]
    with pytest.raises(EmbeddingError, match="does not know"):
        load_embedder(bad)
