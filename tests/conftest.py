"""What tests share: the model, the Qdrants to test against, and a way to load into them."""

import os

# Before dlt and Dagster are imported: there may be no network.
os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
os.environ["DAGSTER_DISABLE_TELEMETRY"] = "yes"
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "false"
# gRPC tells on stderr of servers that go, which here they do all the time.
os.environ["GRPC_VERBOSITY"] = "NONE"

import gc
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dlt
import pytest

from dagster_qdrant import QdrantResource
from dagster_qdrant.embedding.embedder import load_embedder
from dagster_qdrant.embedding.local import TextEmbedder
from dagster_qdrant.embedding.options import EmbeddingOptions
from example_project.model import MODEL_NAME, model_folder
from tests.once import remember
from tests.small_models import (
    COLBERT,
    CROSS_ENCODER,
    colbert_folder,
    cross_encoder_folder,
)
from tests.targets import Target, targets

Load = Callable[..., Any]

remember()
gc.disable()  # while tests are imported; `_no_look_through_libraries_for_garbage` enables it

# A server and a folder bring each change to disk, and tests would wait for that most of the time.
# What they write is in memory where there is enough of it, also that of processes which they start.
_IN_MEMORY = Path("/dev/shm")
if (
    "TMPDIR" not in os.environ
    and _IN_MEMORY.is_dir()
    and shutil.disk_usage(_IN_MEMORY).free > 4 * 2**30
):
    os.environ["TMPDIR"] = tempfile.tempdir = str(_IN_MEMORY)


@pytest.fixture(scope="module", autouse=True)
def _no_look_through_libraries_for_garbage() -> None:
    """What was imported so far stays; looking through it took an eighth of the tests' time."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _no_configuration_from_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Each test has a working directory, pipelines and a configuration of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    for name in [name for name in os.environ if name.startswith("DESTINATION__")]:
        monkeypatch.delenv(name)
    dlt.current.run_context().reload()
    yield
    monkeypatch.undo()
    dlt.current.run_context().reload()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The options for a real model that needs no hub."""
    return {"model": MODEL_NAME, "model_path": str(model_folder(tmp_path_factory.mktemp("model")))}


@pytest.fixture(scope="session")
def embedder(model: dict[str, Any]) -> TextEmbedder:
    embedder = load_embedder(EmbeddingOptions(**model))
    assert isinstance(embedder, TextEmbedder)
    return embedder


@pytest.fixture(scope="session")
def cross_encoder(
    tmp_path_factory: pytest.TempPathFactory, model: dict[str, Any]
) -> dict[str, Any]:
    """What `rerank` takes: a model whose scores are the numbers of tokens that texts share."""
    folder = tmp_path_factory.mktemp("cross-encoder")
    made = cross_encoder_folder(folder, Path(model["model_path"]))
    return {"model": CROSS_ENCODER, "model_path": str(made)}


@pytest.fixture(scope="session")
def colbert(tmp_path_factory: pytest.TempPathFactory, model: dict[str, Any]) -> dict[str, Any]:
    """Fields of a vector of late interaction."""
    folder = colbert_folder(tmp_path_factory.mktemp("colbert"), Path(model["model_path"]))
    return {"model": COLBERT, "model_path": str(folder), "late_interaction": True}


@pytest.fixture
def dataset() -> str:
    """A dataset that no other test uses."""
    return f"films_{uuid.uuid4().hex[:8]}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test against the kinds of Qdrant that matter to it."""
    chosen = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "qdrant_kind" in metafunc.fixturenames and "qdrant_kind" not in chosen:
        marked = {mark.name for mark in metafunc.definition.iter_markers()}
        chosen = targets(every="every_qdrant" in marked, memory="in_memory" in marked)
        metafunc.parametrize("qdrant_kind", chosen, indirect=True)


@pytest.fixture
def qdrant_kind(request: pytest.FixtureRequest) -> Callable[[Path], Any]:
    """How to make a Qdrant of one kind."""
    kind: Callable[[Path], Any] = request.param
    return kind


@pytest.fixture
def qdrant_target(
    qdrant_kind: Callable[[Path], Any], tmp_path: Path, dataset: str
) -> Iterator[Target]:
    """A Qdrant to test against. Modules that need certain kinds have a fixture of their own."""
    with qdrant_kind(tmp_path) as qdrant_target:
        yield qdrant_target
        qdrant_target.clean_up(dataset)


@pytest.fixture
def resource(qdrant_target: Target, model: dict[str, Any]) -> QdrantResource:
    # Loads that fail in a test are not resumed, and need not be waited for for long.
    return QdrantResource(**qdrant_target.options, **model, abandoned_after=1.0)


@pytest.fixture
def without_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that count requests: how many a heart makes depends on the machine's speed."""
    from dagster_qdrant.destination.loads.load_leases import LoadLease

    monkeypatch.setattr(LoadLease, "_beat", lambda self, dlt_tables: None)


@pytest.fixture
def load(resource: QdrantResource, dataset: str, tmp_path: Path) -> Load:
    """Load some data with a plain dlt pipeline, as a script would."""

    def load(data: Any, *, machine: str = "here", name: str = "films", **options: Any) -> Any:
        options.setdefault("dataset_name", dataset)
        pipeline = dlt.pipeline(
            name,
            destination=resource.destination(),
            dataset_name=options.pop("dataset_name"),
            pipelines_dir=str(tmp_path / machine),
        )
        pipeline.run(data, **options)
        return pipeline

    return load
