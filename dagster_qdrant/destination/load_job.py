"""One file of rows: read in windows -> ids -> what changed -> embed -> write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from dlt.common.destination.client import RunnableLoadJob
from dlt.common.json import json
from dlt.common.storages import FileStorage
from dlt.common.storages.load_package import PackageStorage

from dagster_qdrant.destination.configuration import QdrantDestinationConfiguration
from dagster_qdrant.destination.loads.dlt_tables import DltTables
from dagster_qdrant.destination.loads.load_leases import (
    LoadLease,
    LoadTakenBackError,
    remove_stragglers,
)
from dagster_qdrant.destination.tables.point_ids import canonical_json
from dagster_qdrant.destination.tables.rows import Row, digest
from dagster_qdrant.destination.tables.table_plan import PARTITION, TablePlan
from dagster_qdrant.destination.writing.load_counts import load_reports
from dagster_qdrant.destination.writing.progress import Progress
from dagster_qdrant.destination.writing.table_collection import ensure_collection
from dagster_qdrant.destination.writing.table_loader import TableLoader
from dagster_qdrant.errors import (
    QdrantNotFoundError,
    QdrantTerminalError,
    QdrantTransientError,
)
from dagster_qdrant.qdrant.collections import Collections

# Bounds of a window, and with it of a job's memory.
_WINDOW_ROWS = 1024
_WINDOW_BYTES = 8 * 1024 * 1024


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
        self._progress = Progress(plan.table_name, _count_rows(file_path))

    def run(self) -> None:
        """Load the file; dlt calls this in a thread of its own."""
        client: _Client = self._job_client  # type: ignore[assignment]
        try:
            with self._lease.alive(client.dlt_tables):
                self._load(client)
        except LoadTakenBackError:
            remove_stragglers(self._load_id, client.dlt_tables, client.collections)
            raise
        except QdrantNotFoundError as error:
            # dlt creates collections once a load, and loads files once that it knows are loaded.
            ensure_collection(client.collections, self._plan, self._config.embedding)
            for completed in self._completed_files():
                completed._load(client)
            raise QdrantTransientError(
                f"Collection `{self._plan.target}` was deleted while table "
                f"`{self._plan.table_name}` was loaded into it. It was created anew; what former "
                f"loads had written is lost. ({error})"
            ) from error

    def _completed_files(self) -> Iterator[QdrantLoadJob]:
        """The jobs for the files of the same table that were loaded before this one."""
        folder = Path(self._file_path).parent.with_name(PackageStorage.COMPLETED_JOBS_FOLDER)
        for path in sorted(folder.glob(f"{self._plan.table_name}.*")):
            job = QdrantLoadJob(str(path), self._plan, self._config, self._lease)
            job.set_run_vars(self._load_id, self._schema, self._load_table)
            yield job

    def _load(self, client: _Client) -> None:
        loader = TableLoader(
            client.collections,
            self._plan,
            self._config,
            self._load_id,
            lambda loads: self._lease.incomplete(loads, client.dlt_tables),
        )
        with self._progress.shown() as report:
            loader.load(self._windows(), report)
        load_reports.add(self._load_id, self._plan.table_name, loader.counts)

    def _windows(self) -> Iterator[list[Row]]:
        rows: list[Row] = []
        size = 0
        with FileStorage.open_zipsafe_ro(self._file_path) as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                if not rows:
                    self._lease.refuse_if_lost()
                rows.append(self._row(json.loads(line), number, len(line)))
                size += len(line)
                if len(rows) >= _WINDOW_ROWS or size >= _WINDOW_BYTES:
                    yield rows
                    rows, size = [], 0
        if rows:
            yield rows

    def _row(self, payload: dict[str, Any], number: int, size: int) -> Row:
        plan = self._plan
        payload[plan.load_id] = self._load_id
        if plan.partition is not None:
            payload[PARTITION] = plan.partition
        if plan.row_id not in payload:  # dlt gives none to rows of Arrow tables and data frames
            place = [self._load_id, self.job_file_info().job_id(), number]
            payload[plan.row_id] = digest(canonical_json(place))
        missing = [name for name in plan.key if payload.get(name) is None]
        if missing:
            raise QdrantTerminalError(
                f"Row {number} of table `{plan.table_name}` has no value in its key column "
                f"{' and '.join(f'`{name}`' for name in missing)}, so it cannot be told from "
                f"other rows: {_preview(payload)}. Fill the column, choose another "
                "`primary_key`, or drop such rows with `resource.add_filter(...)`."
            )
        key = [payload[name] for name in plan.key] if plan.key else None
        embedding = self._config.embedding.fingerprint
        return Row.of(payload, plan, embedding, size=size, identity=key)


def _count_rows(file_path: str) -> int:
    with FileStorage.open_zipsafe_ro(file_path) as lines:
        return sum(1 for line in lines if line.strip())


def _preview(row: Mapping[str, Any]) -> str:
    text = json.dumps(row)
    return text if len(text) <= 200 else f"{text[:200]}..."
