"""One file of rows that dlt has made for a load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlt.common.json import json
from dlt.common.storages import FileStorage, ParsedLoadJobFileName

from dagster_qdrant.destination.configuration import QdrantDestinationConfiguration
from dagster_qdrant.destination.tables.point_ids import canonical_json
from dagster_qdrant.destination.tables.rows import Fingerprints, Row, content_of, digest
from dagster_qdrant.destination.tables.table_plan import PARTITION, TablePlan
from dagster_qdrant.errors import QdrantTerminalError

# Bounds of a window, and with it of a job's memory.
WINDOW_ROWS = 1024
WINDOW_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class RowFile:
    """A file with the rows of a table, a line of JSON each.

    Args:
        path: Where it is.
        plan: How its rows become points.
        config: The destination's options.
        load_id: The load that it is of.
    """

    path: Path
    plan: TablePlan
    config: QdrantDestinationConfiguration
    load_id: str

    @property
    def name(self) -> str:
        """What tells it from the table's other files, however often it is tried."""
        return str(ParsedLoadJobFileName.parse(self.path.name).job_id())

    def rows(self) -> Iterator[Row]:
        """The rows on their way to become points."""
        made_by = Fingerprints.of(self.plan, self.config.embedding)
        for number, payload, line in self._lines():
            yield self._row(payload, number, len(line), made_by)

    def lines(self) -> Iterator[tuple[str, str]]:
        """The lines of the rows, each with the id of the row's point.

        Rows that are equal or share a key have one id here, however they are told apart later.
        """
        for number, payload, line in self._lines():
            key = self._complete(payload, number)
            identity = content_of(payload, self.plan) if key is None else key
            yield line, self.plan.point_id(identity)

    def windows(
        self, max_rows: int = WINDOW_ROWS, max_bytes: int = WINDOW_BYTES
    ) -> Iterator[list[Row]]:
        """The rows, some at a time.

        Args:
            max_rows: The most rows at a time.
            max_bytes: As many bytes of the file at a time, or some more.
        """
        rows: list[Row] = []
        size = 0
        for row in self.rows():
            rows.append(row)
            size += row.size
            if len(rows) >= max_rows or size >= max_bytes:
                yield rows
                rows, size = [], 0
        if rows:
            yield rows

    def row_ids(self) -> Iterator[str]:
        """The ids that dlt gave to the rows."""
        for _, payload, _ in self._lines():
            if (row_id := payload.get(self.plan.row_id)) is not None:
                yield row_id

    def _lines(self) -> Iterator[tuple[int, dict[str, Any], str]]:
        with FileStorage.open_zipsafe_ro(str(self.path)) as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, json.loads(line), line

    def _row(self, payload: dict[str, Any], number: int, size: int, made_by: Fingerprints) -> Row:
        key = self._complete(payload, number)
        return Row.of(payload, self.plan, made_by, size=size, identity=key)

    def _complete(self, payload: dict[str, Any], number: int) -> list[Any] | None:
        """Add to a row what the file does not say of it; the values of its key, if it has one."""
        plan = self.plan
        payload[plan.load_id] = self.load_id
        if plan.partition is not None:
            payload[PARTITION] = plan.partition
            self._link_within(plan.partition, payload)
        if plan.row_id not in payload:  # dlt gives none to rows of Arrow tables and data frames
            payload[plan.row_id] = digest(canonical_json([self.load_id, self.name, number]))
        key = [payload.get(name) for name in plan.key] or None
        if key and None in key:
            missing = [name for name in plan.key if payload.get(name) is None]
            raise QdrantTerminalError(
                f"Row {number} of table `{plan.table_name}` has no value in its key column "
                f"{' and '.join(f'`{name}`' for name in missing)}, by which rows are "
                f"distinguished: {_preview(payload)}. Fill the column, choose another "
                "`primary_key`, or drop such rows with `resource.add_filter(...)`."
            )
        return [payload[name] for name in plan.key] if plan.key else None

    def _link_within(self, partition: str, payload: dict[str, Any]) -> None:
        """Have a row's links lead to rows of its partition: another may have the same rows."""
        if not self.plan.is_linked:
            return
        for name in (self.plan.row_id, self.plan.parent_id, self.plan.root_id):
            if name is not None and name in payload:
                payload[name] = digest(canonical_json([partition, payload[name]]))


def count_rows(path: str) -> int:
    """How many rows a file has."""
    with FileStorage.open_zipsafe_ro(path) as lines:
        return sum(1 for line in lines if line.strip())


def _preview(row: Mapping[str, Any]) -> str:
    text = json.dumps(row)
    return text if len(text) <= 200 else f"{text[:200]}..."
