"""What travels between the steps of a load that several steps share: files of dlt's pipeline.

Dagster's IO manager brings it from one step to the next, as a Python object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlt.common.storages.load_package import PackageStorage

from dagster_qdrant.destination.loads.shared_load import PartRows
from dagster_qdrant.destination.writing.load_counts import LoadCounts
from dagster_qdrant.runs.data_version import FormerVersion
from dagster_qdrant.runs.dlt_load import Loaded

_PACKAGES = "load/normalized"


@dataclass(frozen=True)
class SharedPackage:
    """A load package for one step, with the pipeline that it is of.

    Args:
        pipeline_name: The pipeline.
        dataset: The dataset's name, as dlt normalizes it.
        schema_name: The schema that the load's tables are of.
        partition: The partition that is loaded.
        load_id: The load; None if there was nothing to load.
        files: The files in the pipeline's folder, by their path there, and folders, which end with
            a slash.
        part: The number of the part, and how many there are; None: all that is in no part.
    """

    pipeline_name: str
    dataset: str | None
    schema_name: str
    partition: str | None
    load_id: str | None
    files: Mapping[str, bytes]
    part: tuple[int, int] | None = None

    def unpack(self, folder: Path) -> None:
        """Write the files into the folder of a pipeline."""
        for name, content in self.files.items():
            path = folder / name
            if name.endswith("/"):
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


@dataclass(frozen=True)
class BegunLoad:
    """What the first step of a load hands to the last one.

    Args:
        package: What is in no part.
        parts: How many parts there are.
        base_states: The states from which the load began, by load.
        counts: What was done for its tables already, when collections were made anew.
        loaded: What came of the first step.
        former: The data versions that the assets had before, by the name of their resource.
    """

    package: SharedPackage
    parts: int
    base_states: Mapping[str, Any]
    counts: Mapping[str, LoadCounts]
    loaded: Loaded
    former: Mapping[str, FormerVersion | None]


@dataclass(frozen=True)
class LoadedPart:
    """What a step that loads a part hands to the last one.

    Args:
        number: The part.
        counts: What was done with its rows, by table.
        rows: What has to be known of its rows.
        seconds: How long it took.
    """

    number: int
    counts: Mapping[str, LoadCounts] = field(default_factory=dict)
    rows: PartRows = field(default_factory=PartRows)
    seconds: float = 0.0


def files_in(folder: Path, is_wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """The files in a folder by their path in it, and its folders, which end with a slash.

    Args:
        folder: The folder.
        is_wanted: Whether a path is wanted.
    """
    found: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix() + ("/" if path.is_dir() else "")
        if is_wanted(name):
            found[name] = b"" if path.is_dir() else path.read_bytes()
    return found


def folder_of(load_id: str) -> str:
    """The folder of a load's package in that of its pipeline."""
    return f"{_PACKAGES}/{load_id}"


def as_jobs(load_id: str, paths: Iterable[Path]) -> dict[str, bytes]:
    """Files of rows, as they are to be loaded."""
    folder = f"{folder_of(load_id)}/{PackageStorage.NEW_JOBS_FOLDER}"
    return {f"{folder}/{path.name}": path.read_bytes() for path in paths}


def as_loaded(load_id: str, paths: Iterable[Path]) -> dict[str, bytes]:
    """Names of files that are loaded already, without their rows."""
    folder = f"{folder_of(load_id)}/{PackageStorage.COMPLETED_JOBS_FOLDER}"
    return {f"{folder}/{path.name}": b"" for path in paths}
