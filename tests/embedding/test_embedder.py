"""Models of a process: loaded once, with the prefixes they ask for, and never in anybody's way."""

import logging
import os
import signal
import subprocess
import sys
import threading
import traceback

import huggingface_hub
import numpy as np
import pytest
from fastembed import TextEmbedding
from fastembed.common import model_management
from fastembed.common.model_description import ModelSource, PoolingType

from dagster_qdrant.embedding import embedder as embedder_module
from dagster_qdrant.embedding import local_files
from dagster_qdrant.embedding.embedder import load_embedder, preload_embedder
from dagster_qdrant.embedding.options import EmbeddingOptions
from dagster_qdrant.errors import EmbeddingError, QdrantStoppedError


@pytest.fixture
def models(monkeypatch):
    """The models that a process has loaded: none so far."""
    monkeypatch.setattr(embedder_module, "_embedders", {})
    monkeypatch.setattr(embedder_module, "_without_hub", {})
    return embedder_module._embedders


def register(name: str, *, dim: int = 384, **options) -> str:
    """A model of a user's own, as fastembed takes it."""
    known = {entry["model"] for entry in TextEmbedding.list_supported_models()}
    if name not in known:
        TextEmbedding.add_custom_model(
            name,
            pooling=PoolingType.MEAN,
            normalization=True,
            sources=ModelSource(hf=f"{name}-onnx"),
            dim=dim,
            **{"model_file": "model.onnx", **options},
        )
    return name


def test_a_process_loads_a_model_once_whatever_the_prefixes(models, model):
    for prefixes in ({}, {"query_prefix": "query: "}, {"passage_prefix": "passage: "}):
        load_embedder(EmbeddingOptions(**model, **prefixes))
    assert len(models) == 1


def test_prefixes_stand_before_questions_and_passages(embedder, model):
    options = EmbeddingOptions(**model, query_prefix="query: ", passage_prefix="passage: ")
    with_prefixes = load_embedder(options)
    [passage] = with_prefixes.embed(["a text"])
    np.testing.assert_allclose(passage, embedder.embed(["passage: a text"])[0], atol=1e-5)
    query = with_prefixes.embed_query("a text")
    np.testing.assert_allclose(query, embedder.embed_query("query: a text"), atol=1e-5)
    assert not np.allclose(query, passage, atol=1e-2)
    # They take tokens of the model's window.
    assert with_prefixes.max_tokens == 512
    assert not embedder.start(["word " * 510]).cut
    assert with_prefixes.start(["word " * 510]).cut == {0: 2}


def test_a_model_can_be_loaded_ahead_and_its_failure_waits_for_who_asks(models, model):
    good, bad = EmbeddingOptions(**model), EmbeddingOptions(model="no/such-model")
    for options in (good, bad):
        preload_embedder(options)
    for thread in threading.enumerate():
        if thread.name == "preload-model":
            thread.join()
    assert list(models) == [good]
    with pytest.raises(EmbeddingError, match="does not know"):
        load_embedder(bad)


def test_a_model_of_another_size_than_it_is_registered_with_is_named(models, model):
    name = register("acme/of-another-size", dim=768)
    with pytest.raises(EmbeddingError, match=rf"{name}.* size 384, .*size 768.*`dim=384`"):
        load_embedder(EmbeddingOptions(model=name, model_path=model["model_path"]))


def test_a_folder_that_lacks_files_is_named_with_them(models, tmp_path):
    (tmp_path / "tokenizer.json").touch()
    options = EmbeddingOptions(model_path=str(tmp_path))
    lacks = rf"{tmp_path}.*lacks `model_optimized.onnx`\. `model_path` has to name"
    with pytest.raises(EmbeddingError, match=lacks):
        load_embedder(options)


@pytest.fixture
def no_hub(monkeypatch):
    """A machine that reaches no hub; how often it was tried."""
    tries = []

    def download(repo, *, local_files_only=False, **_):
        if not local_files_only:
            tries.append(repo)
        raise OSError("Name or service not known")

    for module in (model_management, huggingface_hub):
        monkeypatch.setattr(module, "snapshot_download", download)
        monkeypatch.setattr(module, "list_repo_tree", lambda repo, **_: download(repo))
        monkeypatch.setattr(module, "model_info", lambda repo, **_: download(repo))
    monkeypatch.setattr(model_management.time, "sleep", lambda _: None)
    monkeypatch.setattr(local_files, "pause", lambda _: None)
    return tries


def test_a_hub_that_cannot_be_reached_is_tried_once_a_process(
    models, no_hub, tmp_path, monkeypatch, caplog, model
):
    cache = tmp_path / "cache"
    options = EmbeddingOptions(cache_dir=str(cache))
    for _ in range(3):
        with (
            caplog.at_level(logging.WARNING, "dagster_qdrant"),
            pytest.raises(EmbeddingError) as caught,
        ):
            load_embedder(options)
        message = str(caught.value)
        assert f"could not be downloaded into {cache}" in message
        assert "Name or service not known" in message
        assert "`model_path`" in message
        assert "OSError" not in "".join(traceback.format_exception(caught.value))
    assert len(no_hub) == 3  # with short waits, of the first time
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"The model BAAI/bge-small-en is not in {cache} yet: it is downloaded")
    assert "130 MB" in line
    # Later it is asked again: the process may live for long.
    monkeypatch.setattr(embedder_module, "_SECONDS_WITHOUT_HUB", 0)
    with pytest.raises(EmbeddingError, match="could not be downloaded"):
        load_embedder(options)
    assert len(no_hub) == 6


def test_a_hub_that_fails_while_a_model_is_downloaded_is_said_to_be(
    models, no_hub, tmp_path, monkeypatch
):
    monkeypatch.setattr(huggingface_hub, "model_info", lambda *_, **__: None)
    with pytest.raises(EmbeddingError, match="downloaded into .*Could not download model from Hug"):
        load_embedder(EmbeddingOptions(cache_dir=str(tmp_path)))


def test_waiting_for_a_hub_ends_when_told_to_stop(models, no_hub, tmp_path, monkeypatch):
    def told_to_stop(_):
        raise QdrantStoppedError("The load was told to stop.")

    monkeypatch.setattr(local_files, "pause", told_to_stop)
    with pytest.raises(QdrantStoppedError):
        load_embedder(EmbeddingOptions(cache_dir=str(tmp_path)))
    assert len(no_hub) == 1


def test_a_model_that_came_in_another_way_is_found_though_the_hub_failed(
    models, no_hub, tmp_path, model
):
    name = register("acme/comes-later")
    options = EmbeddingOptions(model=name, cache_dir=str(tmp_path))
    with pytest.raises(EmbeddingError, match="could not be downloaded"):
        load_embedder(options)
    repo = tmp_path / "models--acme--comes-later-onnx"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("0" * 40)
    (repo / "snapshots").mkdir()
    (repo / "snapshots" / ("0" * 40)).symlink_to(model["model_path"])
    with pytest.MonkeyPatch.context() as patched:
        folder = str(repo / "snapshots" / ("0" * 40))
        patched.setattr(model_management, "snapshot_download", lambda *_, **__: folder)
        assert load_embedder(options).embed(["a text"]).shape == (1, 384)


@pytest.mark.parametrize("forbidden", ["option", "environment"])
def test_a_model_that_may_not_be_downloaded_is_not_and_the_advice_fits(
    models, no_hub, tmp_path, monkeypatch, forbidden
):
    if forbidden == "environment":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    options = EmbeddingOptions(cache_dir=str(tmp_path), local_files_only=forbidden == "option")
    asked = {"option": "`local_files_only`", "environment": "HF_HUB_OFFLINE"}[forbidden]
    with pytest.raises(EmbeddingError, match=f"not there, and {asked} forbids to download it"):
        load_embedder(options)
    assert no_hub == []


def test_nothing_is_downloaded_ahead(models, no_hub, tmp_path):
    preload_embedder(EmbeddingOptions(cache_dir=str(tmp_path)))
    for thread in threading.enumerate():
        if thread.name == "preload-model":
            thread.join()
    assert no_hub == []


_SCRIPT = """
import os, signal, sys, time
import dlt
from dagster_qdrant import qdrant_adapter
from dagster_qdrant.destination.factory import qdrant
from dagster_qdrant.embedding.embedder import preload_embedder

# What runs in a shell's background is started with Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
destination = qdrant(location=":memory:", model=sys.argv[2], model_path=sys.argv[3])

@dlt.resource
def films():
    yield from FILMS[sys.argv[1]]()

def fails():
    raise ValueError("the source is down")
    yield

def waits():
    print("waits", flush=True)
    time.sleep(60)
    yield {"title": "late"}

FILMS = {"no rows": lambda: [], "a source that fails": fails, "Ctrl-C": waits}

preload_embedder(destination.configuration(None).embedding)
pipeline = dlt.pipeline("films", destination=destination, dataset_name="d")
pipeline.run(qdrant_adapter(films, embed="title"))
"""


@pytest.mark.parametrize(
    ("kind", "code"), [("no rows", 0), ("a source that fails", 1), ("Ctrl-C", 1)]
)
def test_a_process_that_ends_while_a_model_is_loaded_ends_well(kind, code, model, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    arguments = [kind, model["model"], model["model_path"]]
    process = subprocess.Popen(
        [sys.executable, str(script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    if kind == "Ctrl-C":
        assert process.stdout.readline() == "waits\n"
        process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    assert "terminate called" not in errors
