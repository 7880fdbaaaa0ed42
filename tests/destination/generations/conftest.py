"""What tests of collections that take the place of others share."""

import shutil
from typing import Any

import pytest

OTHER_MODEL = "BAAI/bge-small-en"


@pytest.fixture(scope="session")
def other_model(model: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Another model as far as anybody can tell: the same network under another name."""
    folder = tmp_path_factory.mktemp("other") / "model"
    shutil.copytree(model["model_path"], folder)
    (folder / "model.onnx").rename(folder / "model_optimized.onnx")
    return {"model": OTHER_MODEL, "model_path": str(folder)}
