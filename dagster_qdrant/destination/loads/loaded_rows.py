"""The rows that the loads of this process have brought, by load and table.

What the process does not know of a load, since another one did it, is read from the load's files.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from dagster_qdrant.destination.configuration import QdrantDestinationConfiguration
from dagster_qdrant.destination.loads.load_package import files_of
from dagster_qdrant.destination.loads.shared_load import part_rows
from dagster_qdrant.destination.tables.table_plan import TablePlan
from dagster_qdrant.destination.writing.loaded_ids import FileIds, IdSet, LoadedIds
from dagster_qdrant.destination.writing.row_file import RowFile

# Of how many loads it is kept at once; of others it is read again.
_KEPT_LOADS = 8

_guard = threading.Lock()
_kept: dict[str, dict[str, LoadedIds]] = {}


def begin_file(file: RowFile, completed: Iterable[RowFile]) -> FileIds:
    """Begin with a file of a load.

    Args:
        file: The file.
        completed: The files of the table that were loaded before.
    """
    with _guard:
        ids = _of_load(file.load_id).get(file.plan.table_name)
        if ids is None or not ids.may_begin(file.name):
            others = [other for other in completed if other.name != file.name]
            ids = _keep(file.load_id, file.plan, _read(file.plan, others))
        return ids.begin(file.name)


class LoadedRows:
    """The rows of a load whose files are all loaded.

    Args:
        load_id: The load.
        config: The destination's options.
    """

    def __init__(self, load_id: str, config: QdrantDestinationConfiguration) -> None:
        self.load_id = load_id
        self._config = config

    def ids(self, plan: TablePlan) -> IdSet:
        """The ids of the points that the rows of a table are."""
        if parts := part_rows.of(self.load_id):  # other processes have loaded them
            joined = IdSet()
            for part in parts:
                joined.update(part.ids.get(plan.table_name, IdSet()))
            return joined
        files = self._files(plan)
        with _guard:
            ids = _of_load(self.load_id).get(plan.table_name)
            if ids is None or ids.complete_files != {file.name for file in files}:
                ids = _keep(self.load_id, plan, _read(plan, files))
            return ids.all()

    def row_ids(self, plan: TablePlan) -> Iterator[str]:
        """The ids that dlt gave to the rows of a table."""
        for part in part_rows.of(self.load_id):
            yield from part.row_ids.get(plan.table_name, ())
        for file in self._files(plan):
            yield from file.row_ids()

    def _files(self, plan: TablePlan) -> list[RowFile]:
        paths = map(Path, files_of(self.load_id, plan.table_name))
        return [RowFile(path, plan, self._config, self.load_id) for path in paths]


def start_over(load_id: str, plan: TablePlan) -> None:
    """Forget what a load has brought of a table, all of which is going to be loaded again."""
    with _guard:
        _keep(load_id, plan, _read(plan, ()))


def forget(load_id: str) -> None:
    """Let go what a load has brought."""
    with _guard:
        _kept.pop(load_id, None)


def _of_load(load_id: str) -> dict[str, LoadedIds]:
    while len(_kept) >= _KEPT_LOADS and load_id not in _kept:
        _kept.pop(next(iter(_kept)))
    return _kept.setdefault(load_id, {})


def _keep(load_id: str, plan: TablePlan, ids: LoadedIds) -> LoadedIds:
    _of_load(load_id)[plan.table_name] = ids
    return ids


def _read(plan: TablePlan, files: Iterable[RowFile]) -> LoadedIds:
    ids = LoadedIds(counts=plan.numbers_rows)
    for file in files:
        of_file = ids.begin(file.name)
        for rows in file.windows():
            of_file.take_in(rows, plan)
        of_file.complete()
    return ids
