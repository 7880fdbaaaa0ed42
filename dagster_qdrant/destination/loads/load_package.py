"""What dlt's package of the load under way says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dlt.common.configuration.container import Container
from dlt.common.json import json
from dlt.common.storages import FileStorage
from dlt.common.storages.load_package import (
    LoadPackageStateInjectableContext,
    PackageStorage,
    ParsedLoadJobFileName,
    load_package_state,
)

_SOME_ROWS = 1_000


def loaded_tables(load_id: str) -> set[str]:
    """The tables that a load has files of."""
    return {job.table_name for jobs in _jobs(load_id).values() for job in jobs}


def is_untouched(load_id: str) -> bool:
    """Whether no file of a load was ever begun, so that it cannot have written any row."""
    jobs = _jobs(load_id)
    begun = [job for state, each in jobs.items() if state != "new_jobs" for job in each]
    return not begun and not any(job.retry_count for job in jobs["new_jobs"])


def has_rows(load_id: str, table_name: str) -> bool:
    """Whether a load brings any row of a table. A table that is emptied has a file without rows."""
    return next(lines_of(load_id, table_name), None) is not None


def some_rows(load_id: str, table_name: str) -> list[dict[str, Any]]:
    """Some of the rows that a load brings of a table, from all places of its files alike."""
    rows: list[dict[str, Any]] = []
    step = 1
    for number, line in enumerate(lines_of(load_id, table_name)):
        if number % step:
            continue
        rows.append(json.loads(line))
        if len(rows) == 2 * _SOME_ROWS:  # keep every other one, and take half as many from here on
            rows, step = rows[::2], 2 * step
    return rows


def lines_of(load_id: str, table_name: str) -> Iterator[str]:
    """The rows that a load brings of a table, as lines of JSON."""
    packages = Container()[LoadPackageStateInjectableContext].storage
    for state, jobs in _jobs(load_id).items():
        for job in jobs:
            if job.table_name == table_name:
                path = packages.get_job_file_path(load_id, state, job.file_name())
                with FileStorage.open_zipsafe_ro(packages.storage.make_full_path(path)) as lines:
                    yield from (line for line in lines if line.strip())


def failed_tables(load_id: str) -> set[str]:
    """The tables of which a file could not be loaded. dlt can be told to go on where one failed."""
    return {job.table_name for job in _jobs(load_id)["failed_jobs"]}


def files_of(load_id: str, table_name: str) -> list[str]:
    """The paths of a table's files in a load, in whatever state they are."""
    package = Container()[LoadPackageStateInjectableContext].storage
    paths = [
        package.get_job_file_path(load_id, state, job.file_name())
        for state, job in package.list_job_with_states_for_table(load_id, table_name)
    ]
    return sorted(map(package.storage.make_full_path, paths))


def emptied_tables() -> set[str]:
    """The tables that the load drops or empties before it loads: dlt's `refresh`."""
    truncated = load_package_state()["state"].get("truncated_tables", [])
    return dropped_tables() | {str(table["name"]) for table in truncated}


def dropped_tables() -> set[str]:
    """The tables whose collections the load drops before it loads: dlt's `refresh`."""
    dropped = load_package_state()["state"].get("dropped_tables", [])
    return {str(table["name"]) for table in dropped}


def completed_files(package: Path, table_name: str) -> list[Path]:
    """The files of a table that are loaded, in a package's folder."""
    return sorted((package / PackageStorage.COMPLETED_JOBS_FOLDER).glob(f"{table_name}.*"))


def _jobs(load_id: str) -> Mapping[Any, list[ParsedLoadJobFileName]]:
    package = Container()[LoadPackageStateInjectableContext].storage
    return package.get_load_package_jobs(load_id)
