"""Where things are: everything that environment variables can change about this project."""

from __future__ import annotations

import os
from pathlib import Path

from dagster import EnvVar

from dagster_qdrant import QdrantResource
from example_project.model import MODEL_NAME, model_folder

# dlt would report its use over a network that is not there.
os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")


def data_dir() -> Path:
    """The folder that everything goes into; git ignores it."""
    given = os.environ.get("EXAMPLE_DATA_DIR")
    return Path(given).absolute() if given else Path(__file__).resolve().parent / "data"


def qdrant_resource() -> QdrantResource:
    """The resource: a local folder and a model from a package, unless the environment says else.

    `QDRANT_URL` chooses a server, `QDRANT_API_KEY` its key, `EMBEDDING_MODEL` another of
    fastembed's models, which is downloaded when it is first used.
    """
    url = os.environ.get("QDRANT_URL")
    model = os.environ.get("EMBEDDING_MODEL")
    return QdrantResource(
        location=url or None,
        path=None if url else str(data_dir() / "qdrant"),
        # An EnvVar shows its name in the UI. A literal key would be stored and shown there.
        api_key=EnvVar("QDRANT_API_KEY") if os.environ.get("QDRANT_API_KEY") else None,
        model=model or MODEL_NAME,
        model_path=None if model else str(model_folder(data_dir())),
    )
