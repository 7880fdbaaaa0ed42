"""Texts -> vectors: the same as fastembed's, in order, on all cores, with one model a process."""

import json
import shutil
import struct
import warnings
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_qdrant.embedding.embedder import load_embedder
from dagster_qdrant.embedding.local import TextEmbedder
from dagster_qdrant.embedding.options import EmbeddingOptions
from dagster_qdrant.errors import EmbeddingError

TEXTS = ["a short text", "one that is " + "quite " * 60 + "long", "", "third", "é 漢字 🎬"]


@pytest.fixture(scope="module")
def alone(embedder: TextEmbedder):
    """What fastembed gives for a text without company."""
    return lambda text: next(iter(embedder._models[0].embed([text])))


@pytest.fixture(scope="module")
def static_model(model, tmp_path_factory):
    """The options for a model of fastembed's static kind: a table of one vector a token."""
    folder = tmp_path_factory.mktemp("static")
    shutil.copy(Path(model["model_path"]) / "tokenizer.json", folder)
    table = np.random.default_rng(7).normal(size=(30_522, 256)).astype(np.float32)
    place = {"dtype": "F32", "shape": table.shape, "data_offsets": [0, table.nbytes]}
    header = json.dumps({"embeddings": place}).encode()
    content = struct.pack("<Q", len(header)) + header + table.tobytes()
    (folder / "model.safetensors").write_bytes(content)
    return {"model": "minishlab/potion-base-8M", "model_path": str(folder)}


def test_vectors_are_those_of_fastembed_and_in_the_order_of_the_texts(embedder, alone):
    vectors = embedder.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), 384)
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_allclose(vector, alone(text), atol=1e-5)


ANY_TEXT = st.one_of(
    st.text(max_size=80),
    st.text(" \t\n\u200b\x00", max_size=3),  # hardly a text
    st.sampled_from(["déjà vu", "日本語のテキスト", "👩‍👩‍👧‍👦 e\u0301", "a text that comes twice"]),
    st.integers(250, 300).map(lambda words: "word " * words),  # up to and beyond the limit
)


@settings(max_examples=12, deadline=None)
@given(st.lists(ANY_TEXT, max_size=12).flatmap(lambda texts: st.permutations([*texts, *texts[:2]])))
def test_any_texts_in_any_company_get_their_own_vector(embedder, alone, texts):
    in_model = embedder.start(texts)
    vectors = in_model.result()
    assert len(vectors) == len(texts)
    for text, vector in zip(texts, vectors, strict=True):
        np.testing.assert_allclose(vector, alone(text), atol=1e-5)
    assert in_model.tokens == embedder._models[0].token_count(texts)


def test_texts_can_be_given_up(model):
    embedder = TextEmbedder(EmbeddingOptions(**model, batch_size=1, parallelism=1))
    in_model = embedder.start([f"word {n} " * 200 for n in range(50)])
    in_model.cancel()
    assert sum(job.cancelled() for _, job in in_model.jobs) >= 48
    with pytest.raises(CancelledError):
        in_model.result()
    np.testing.assert_allclose(embedder.embed(["next"]), embedder.embed(["next"]))


def test_many_threads_can_use_it_at_once(embedder):
    lists = [[f"text {n} of {thread}" + " word" * n for n in range(9)] for thread in range(8)]
    with ThreadPoolExecutor(8) as threads:
        for texts, vectors in zip(lists, threads.map(embedder.embed, lists), strict=True):
            np.testing.assert_allclose(vectors, embedder.embed(texts), atol=1e-5)


def test_static_models_are_embedded_with_like_any_other(static_model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # fastembed's, of options without effect
        embedder = TextEmbedder(EmbeddingOptions(**static_model))
    in_model = embedder.start(TEXTS)
    vectors = in_model.result()
    for text, vector in zip(TEXTS, vectors, strict=True):
        [alone] = embedder._models[0].embed([text])
        np.testing.assert_allclose(vector, alone, atol=1e-5)
    assert in_model.tokens == embedder._models[0].token_count(TEXTS)


def test_tokens_beyond_the_models_window_are_counted(embedder, static_model):
    for each, special_tokens in (
        (embedder, 2),
        (TextEmbedder(EmbeddingOptions(**static_model)), 0),
    ):
        assert each.max_tokens == 512
        fits = 512 - special_tokens
        texts = ["word " * words for words in (fits, 2_000, 3, fits + 1)]
        assert each.start(texts).cut == {1: 2_000 - fits, 3: 1}
        assert each.start(texts[::-1]).cut == {2: 2_000 - fits, 0: 1}
    assert embedder.start(["word " * 2_000]).tokens == 512


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

    def spy(number, texts):
        sizes.append(len(texts))
        return embed_batch(number, texts)

    monkeypatch.setattr(embedder, "_embed_batch", spy)
    embedder.embed([f"text {n}" for n in range(18)])
    assert sum(sizes) == 18
    assert max(sizes) == 4


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


CUDA_FIRST = ("CUDAExecutionProvider", "CPUExecutionProvider")


@pytest.mark.parametrize("options", [{"cuda": True}, {"providers": CUDA_FIRST}])
def test_a_gpu_that_onnxruntime_cannot_use_is_an_error_with_the_remedy(model, options):
    asked = next(iter(options))
    message = f"`{asked}` asks for CUDAExecutionProvider, .*`onnxruntime-gpu`.*remove `{asked}`"
    with pytest.raises(EmbeddingError, match=message):
        load_embedder(EmbeddingOptions(**model, **options))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("options", [{"cuda": True}, {"providers": CUDA_FIRST}])
def test_a_gpu_is_not_replaced_by_the_cpu_in_silence(model, options, monkeypatch):
    # As with onnxruntime-gpu and without a driver: it offers CUDA and then runs on the CPU.
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: list(CUDA_FIRST))
    with pytest.raises(EmbeddingError, match="can use CPUExecutionProvider only"):
        load_embedder(EmbeddingOptions(**model, **options))


def test_a_static_model_cannot_be_asked_to_use_a_gpu(static_model, monkeypatch):
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: list(CUDA_FIRST))
    with (
        pytest.warns(UserWarning, match="no effect: cuda"),
        pytest.raises(EmbeddingError, match="static models never use one"),
    ):
        load_embedder(EmbeddingOptions(**static_model, cuda=True))


def test_the_cpu_can_be_asked_for(model, embedder):
    for options in ({"cuda": False}, {"providers": ("CPUExecutionProvider",)}):
        other = TextEmbedder(EmbeddingOptions(**model, **options))
        np.testing.assert_allclose(other.embed(TEXTS), embedder.embed(TEXTS), atol=1e-5)
