"""Notes: each text file in a folder becomes a row. `automation.py` loads files as they arrive."""

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

import dlt
from dagster import AssetExecutionContext, Config

from dagster_qdrant import QdrantResource, qdrant_adapter, qdrant_assets
from example_project.settings import data_dir

DATASET = "inbox"
INBOX = data_dir() / "inbox"
_SUFFIXES = {".md", ".txt"}


class NotesConfig(Config):
    """What a run loads.

    Args:
        file: Name of a file in the inbox. Default: all of them.
    """

    file: Optional[str] = None


def inbox_files() -> list[Path]:
    """The notes in the inbox, which is made if there is none."""
    INBOX.mkdir(parents=True, exist_ok=True)
    return sorted(path for path in INBOX.iterdir() if path.suffix in _SUFFIXES and path.is_file())


@dlt.resource(name="notes", primary_key="file", write_disposition="merge")
def notes(file: Optional[str] = None) -> Iterator[dict[str, Any]]:
    """Text files that somebody put into the inbox."""
    for path in inbox_files():
        if file in (None, path.name):
            text = path.read_text(encoding="utf-8", errors="replace").strip()
            modified = datetime.fromtimestamp(path.stat().st_mtime, tz=timezone.utc)
            yield {"file": path.name, "text": text, "modified_at": modified}


# The hint stays on the resource when it is called with an argument.
qdrant_adapter(notes, embed="text")


@qdrant_assets(dlt_source=notes, dataset_name=DATASET, name="notes", group_name="inbox")
def notes_assets(
    context: AssetExecutionContext, config: NotesConfig, qdrant: QdrantResource
) -> Iterator[Any]:
    """Load one file, or all; a source made for the run takes the place of the definition's."""
    yield from qdrant.run(context, dlt_source=notes(config.file))
