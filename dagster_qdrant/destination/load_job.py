"""One file of rows: read in windows -> ids -> what changed -> embed -> write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from dlt.common.destination.client import RunnableLoadJob

from dagster_qdrant.destination.configuration import QdrantDestinationConfiguration
from dagster_qdrant.destination.loads.dead_loads import remove_stragglers
from dagster_qdrant.destination.loads.dlt_tables import DltTables
from dagster_qdrant.destination.loads.load_leases import (
    LoadLease,
    LoadOverError,
    LoadTakenBackError,
)
from dagster_qdrant.destination.loads.load_package import completed_files
from dagster_qdrant.destination.loads.loaded_rows import begin_file, start_over
from dagster_qdrant.destination.tables.rows import Row
from dagster_qdrant.destination.tables.table_plan import TablePlan
from dagster_qdrant.destination.writing.load_counts import load_reports
from dagster_qdrant.destination.writing.progress import Progress
from dagster_qdrant.destination.writing.row_file import (
    WINDOW_BYTES,
    WINDOW_ROWS,
    RowFile,
    count_rows,
)
from dagster_qdrant.destination.writing.table_collection import ensure_collection
from dagster_qdrant.destination.writing.table_loader import TableLoader
from dagster_qdrant.errors import QdrantNotFoundError, QdrantTransientError
from dagster_qdrant.garbage_collection import only_new_collected
from dagster_qdrant.qdrant.collections import Collections

_WINDOW_ROWS = WINDOW_ROWS
_WINDOW_BYTES = WINDOW_BYTES


class _Client(Protocol):
    """What a job needs of the job client, which dlt gives it entered."""

    @property
    def collections(self) -> Collections: ...

    @property
    def dlt_tables(self) -> DltTables: ...


class QdrantLoadJob(RunnableLoadJob):
    """Loads one jsonl file into one collection. Running it again changes nothing.

    Args:
        file_path: The file.
        plan: How its rows become points.
        config: The destination's options.
        lease: The load's lease.
    """

    def __init__(
        self,
        file_path: str,
        plan: TablePlan,
        config: QdrantDestinationConfiguration,
        lease: LoadLease,
    ) -> None:
        super().__init__(file_path)
        self._plan = plan
        self._config = config
        self._lease = lease
        self._progress = Progress(plan.table_name, count_rows(file_path), Path(file_path))

    def run(self) -> None:
        """Load the file; dlt calls this in a thread of its own."""
        client: _Client = self._job_client  # type: ignore[assignment]
        try:
            with self._lease.alive(client.dlt_tables):
                self._load(Path(self._file_path), client)
        except LoadTakenBackError:
            remove_stragglers(self._load_id, client.dlt_tables, client.collections)
            raise
        except QdrantNotFoundError as error:
            if self._lease.is_joined:  # what other processes have loaded is lost with it
                raise LoadOverError(
                    self._load_id,
                    f"lost the collection `{self._plan.target}`, which was deleted meanwhile",
                ) from error
            # dlt creates collections once a load, and loads files once that it knows are loaded.
            ensure_collection(client.collections, self._plan, self._config.embedding)
            start_over(self._load_id, self._plan)
            for path in self._completed_files():
                self._load(path, client)
            raise QdrantTransientError(
                f"Collection `{self._plan.target}` was deleted while table "
                f"`{self._plan.table_name}` was loaded into it. It was created anew; what former "
                f"loads had written is lost. ({error})"
            ) from error

    def _completed_files(self) -> list[Path]:
        """The files of the same table that were loaded before this one."""
        return completed_files(Path(self._file_path).parents[1], self._plan.table_name)

    def _load(self, path: Path, client: _Client) -> None:
        file = RowFile(path, self._plan, self._config, self._load_id)
        ids = None
        if self._plan.is_exclusive:
            completed = (replace(file, path=other) for other in self._completed_files())
            ids = begin_file(file, completed)
        loader = TableLoader(
            client.collections,
            self._plan,
            self._config,
            self._load_id,
            ids=ids,
            incomplete=lambda loads: self._lease.incomplete(loads, client.dlt_tables),
        )
        with only_new_collected(), self._progress.shown() as report:
            loader.load(self._windows(file), report)
        if ids is not None:
            ids.complete()
        load_reports.add(self._load_id, self._plan.table_name, loader.counts)

    def _windows(self, file: RowFile) -> Iterator[list[Row]]:
        rows_at_once = min(_WINDOW_ROWS, self._plan.rows_at_once)
        for rows in file.windows(rows_at_once, _WINDOW_BYTES):
            self._lease.refuse_if_lost()
            yield rows
