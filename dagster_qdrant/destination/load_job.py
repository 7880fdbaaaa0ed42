"""One file of rows: read in windows -> ids -> what changed -> embed -> write."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dlt.common.destination.client import RunnableLoadJob
from dlt.common.json import json
from dlt.common.storages import FileStorage

from dagster_qdrant.client import Connection
from dagster_qdrant.destination.configuration import QdrantDestinationConfiguration
from dagster_qdrant.destination.load_counts import LoadCounts, load_reports
from dagster_qdrant.destination.point_ids import canonical_json, content_point_id, key_point_id
from dagster_qdrant.destination.point_writer import PointWriter, Row, Window
from dagster_qdrant.destination.table_plan import DELETED, TablePlan
from dagster_qdrant.embedding import EmbeddingError, load_embedder
from dagster_qdrant.errors import (
    QdrantNotFoundError,
    QdrantTerminalError,
    QdrantTransientError,
)

if TYPE_CHECKING:
    from dagster_qdrant.destination.job_client import QdrantJobClient

logger = logging.getLogger(__name__)

# Bounds of a window, and with it of a job's memory.
_WINDOW_ROWS = 1024
_WINDOW_BYTES = 8 * 1024 * 1024

_PROGRESS_INTERVAL = 5.0

# What this destination adds to a payload. dlt keeps names that begin with "_dlt" to itself, so no
# column can have them.
EMBEDDING_HASH = "_dlt_embedding_hash"
ROW_HASH = "_dlt_row_hash"


class QdrantLoadJob(RunnableLoadJob):
    """Loads one jsonl file into one collection. Running it again changes nothing.

    Args:
        file_path: The file.
        plan: How its rows become points.
        config: The destination's options.
    """

    def __init__(
        self, file_path: str, plan: TablePlan, config: QdrantDestinationConfiguration
    ) -> None:
        super().__init__(file_path)
        self._plan = plan
        self._config = config
        self._counts = LoadCounts()
        # How often a content came that more than one row has.
        self._occurrences: dict[str, int] = {}

    def run(self) -> None:
        """Load the file; dlt calls this in a thread of its own."""
        job_client: QdrantJobClient = self._job_client  # type: ignore[assignment]
        try:
            self._load(job_client.connection)
        except QdrantNotFoundError as error:
            # dlt creates collections once a load, also if it tries the load again.
            job_client.ensure_collection(self._plan.table_name)
            raise QdrantTransientError(
                f"Collection `{self._plan.collection}` was deleted while table "
                f"`{self._plan.table_name}` was loaded into it. It was created anew; what former "
                f"loads had written is lost. ({error})"
            ) from error

    def _load(self, connection: Connection) -> None:
        config = self._config
        with PointWriter(
            connection, self._plan, config.upload_batch_size, config.upload_parallelism
        ) as writer:
            progress = _Progress(self._plan.table_name, self._file_path)
            for rows in self._windows():
                # Writes of the window before go on while this one is embedded, unless they
                # concern the same points.
                if not writer.pending_ids.isdisjoint(row.point_id for row in rows):
                    writer.finish()
                self._counts.rows += len(rows)
                window = self._resolve(connection, rows)
                self._embed(connection, window)
                writer.finish()
                writer.start(window)
                self._count(window)
                progress.report(self._counts)
            writer.finish()
        self._counts.seconds_writing = writer.seconds
        load_reports.add(self._load_id, self._plan.table_name, self._counts)

    def _windows(self) -> Iterator[list[Row]]:
        rows: list[Row] = []
        size = 0
        with FileStorage.open_zipsafe_ro(self._file_path) as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                rows.append(self._row(json.loads(line), number, len(line)))
                size += len(line)
                if len(rows) >= _WINDOW_ROWS or size >= _WINDOW_BYTES:
                    yield rows
                    rows, size = [], 0
        if rows:
            yield rows

    def _row(self, payload: dict[str, Any], number: int, size: int) -> Row:
        plan = self._plan
        content = {name: value for name, value in payload.items() if name not in plan.links}
        payload[plan.load_id] = self._load_id
        if plan.row_id not in payload:  # dlt gives none to the rows of Arrow tables and data frames
            place = [self._load_id, self.job_file_info().job_id(), number]
            payload[plan.row_id] = _digest(canonical_json(place))
        if plan.key:
            missing = [name for name in plan.key if payload.get(name) is None]
            if missing:
                raise QdrantTerminalError(
                    f"Row {number} of table `{plan.table_name}` has no value in its key column "
                    f"{' and '.join(f'`{name}`' for name in missing)}, so it cannot be told from "
                    f"other rows: {_preview(content)}. Fill the column, choose another "
                    "`primary_key`, or drop such rows with `resource.add_filter(...)`."
                )
            identity: Any = [payload[name] for name in plan.key]
        else:
            identity = content
        text = embedding_text(payload, plan.embed)
        return Row(
            payload=payload,
            identity=identity,
            point_id=self._point_id(identity, 0),
            text=text,
            size=size,
            row_hash=_digest(canonical_json(content)),
            embedding_hash=(
                None
                if text is None
                else _digest(canonical_json([self._config.model, plan.embed, text]))
            ),
        )

    def _point_id(self, identity: Any, occurrence: int) -> str:
        plan = self._plan
        if plan.key and not occurrence:
            return key_point_id(plan.collection, identity, plan.key_types)
        return content_point_id(plan.collection, identity, occurrence)

    def _resolve(self, connection: Connection, rows: list[Row]) -> Window:
        """Decide for each row what has to be done, with one look at what is there."""
        window = Window()
        existing = self._look_up(connection, [row.point_id for row in rows])
        if self._plan.write_disposition == "replace":
            existing |= self._tell_twins_apart(connection, rows, existing)
        for row in rows:
            window.rows[row.point_id] = row  # the last one of a key wins
        for row in window.rows.values():
            if self._plan.hard_delete and _is_deleted(row.payload.get(self._plan.hard_delete)):
                self._delete(row, window)
                continue
            known = existing.get(row.point_id, {})
            same_vector = row.embedding_hash == known.get(EMBEDDING_HASH)
            row.payload[ROW_HASH] = row.row_hash
            if row.embedding_hash:
                row.payload[EMBEDDING_HASH] = row.embedding_hash
            if row.point_id not in existing or not same_vector:
                window.upsert.append(row)
            elif row.row_hash == known.get(ROW_HASH) and self._same_links(row, known):
                window.unchanged.append(row)
            else:
                window.overwrite.append(row)
        return window

    def _delete(self, row: Row, window: Window) -> None:
        if not self._plan.is_linked:
            window.deleted.append(row)
            return
        # Its nested rows go when the load completes, and are found by what stays of it until then.
        kept = (self._plan.row_id, self._plan.load_id)
        row.payload = {name: row.payload[name] for name in kept} | {DELETED: True}
        row.text = None
        window.tombstones.append(row)

    def _same_links(self, row: Row, known: Mapping[str, Any]) -> bool:
        return not self._plan.is_linked or all(
            row.payload.get(name) == known.get(name)
            for name in self._plan.links
            if name != self._plan.load_id
        )

    def _look_up(
        self, connection: Connection, point_ids: Sequence[str]
    ) -> dict[str, Mapping[str, Any]]:
        records = connection.request(
            connection.client.retrieve,
            self._plan.collection,
            ids=list(dict.fromkeys(point_ids)),
            with_payload=[EMBEDDING_HASH, ROW_HASH, *sorted(self._plan.links)],
            with_vectors=False,
        )
        return {str(record.id): record.payload or {} for record in records}

    def _tell_twins_apart(
        self,
        connection: Connection,
        rows: list[Row],
        existing: Mapping[str, Mapping[str, Any]],
    ) -> dict[str, Mapping[str, Any]]:
        """Give rows that are equal in this load an id each.

        The first of them has the plain id, and so has a row of the next load. Which ids are taken
        by others of this load, earlier windows and files included, is read off the collection.
        """
        found: dict[str, Mapping[str, Any]] = {}
        taken: dict[str, Any] = {}

        def is_free(row: Row) -> bool:
            row_id = row.payload.get(self._plan.row_id)
            if taken.get(row.point_id, row_id) != row_id:
                return False
            known = found.get(row.point_id) or existing.get(row.point_id) or {}
            written_now = known.get(self._plan.load_id) == self._load_id
            return not written_now or known.get(self._plan.row_id) == row_id

        waiting = rows
        while waiting:
            blocked: list[Row] = []
            for row in waiting:
                if is_free(row):
                    taken[row.point_id] = row.payload.get(self._plan.row_id)
                    continue
                base = self._point_id(row.identity, 0)
                self._occurrences[base] = self._occurrences.get(base, 0) + 1
                row.point_id = self._point_id(row.identity, self._occurrences[base])
                blocked.append(row)
            if blocked:
                found |= self._look_up(connection, [row.point_id for row in blocked])
            waiting = blocked
        return found

    def _embed(self, connection: Connection, window: Window) -> None:
        """Give each row that is written its vector, and embed each text once."""
        rows = [row for row in window.upsert if row.text is not None]
        vectors = self._vectors_there_already(connection, window, {row.text for row in rows})
        self._counts.reused += sum(row.text in vectors for row in rows)
        self._counts.embedded += sum(row.text not in vectors for row in rows)
        texts = list(
            dict.fromkeys(row.text for row in rows if row.text and row.text not in vectors)
        )
        if texts:
            start = time.monotonic()
            try:
                made = load_embedder(self._config.embedding).embed(texts)
            except EmbeddingError as error:
                raise QdrantTerminalError(f"Table `{self._plan.table_name}`: {error}") from error
            vectors |= zip(texts, made, strict=True)
            self._counts.texts += len(texts)
            self._counts.seconds_embedding += time.monotonic() - start
        for row in rows:
            row.vector = {self._config.embedding.vector_name: vectors[row.text]}

    def _vectors_there_already(
        self, connection: Connection, window: Window, texts: set[str | None]
    ) -> dict[str | None, Any]:
        """Vectors of texts that other rows of the window, whose text stayed, have already."""
        import numpy as np

        points = {
            row.point_id: row.text
            for row in window.overwrite + window.unchanged
            if row.text and row.text in texts
        }
        if not points:
            return {}
        name = self._config.embedding.vector_name
        records = connection.request(
            connection.client.retrieve,
            self._plan.collection,
            ids=list(points),
            with_payload=False,
            with_vectors=[name],
        )
        return {
            points[str(record.id)]: np.asarray(record.vector[name], dtype=np.float32)
            for record in records
            if isinstance(record.vector, dict) and name in record.vector
        }

    def _count(self, window: Window) -> None:
        counts = self._counts
        counts.written += len(window.upsert)
        counts.payload_only += len(window.overwrite)
        counts.unchanged += len(window.unchanged)
        counts.deleted += len(window.deleted) + len(window.tombstones)
        counts.reused += sum(row.text is not None for row in window.overwrite + window.unchanged)


class _Progress:
    """Says every few seconds how far a file is; nothing of one that takes less."""

    def __init__(self, table_name: str, file_path: str) -> None:
        self._table_name = table_name
        self._file_path = file_path
        self._start = self._reported = time.monotonic()
        self._total = 0

    def report(self, counts: LoadCounts) -> None:
        now = time.monotonic()
        if now - self._reported < _PROGRESS_INTERVAL:
            return
        self._reported = now
        if not self._total:  # counted when it is first wanted
            with FileStorage.open_zipsafe_ro(self._file_path) as lines:
                self._total = sum(1 for line in lines if line.strip())
        rate = counts.rows / (now - self._start)
        with_text = counts.embedded + counts.reused
        logger.info(
            "%s: %d of %d rows, %.0f rows/s, %.0f %% of the vectors reused, %.0f s to go.",
            self._table_name,
            counts.rows,
            self._total,
            rate,
            100 * counts.reused / with_text if with_text else 0,
            max(0, self._total - counts.rows) / rate,
        )


def embedding_text(payload: Mapping[str, Any], columns: Sequence[str]) -> str | None:
    """The text of a row that is embedded, or None if it has none.

    Args:
        payload: The row.
        columns: The columns whose text counts.

    Returns:
        The texts of the columns joined by line breaks, without NULLs and blanks.
    """
    values = (payload.get(column) for column in columns)
    texts = [str(value) for value in values if value is not None]
    return "\n".join(text for text in texts if text.strip()) or None


def _is_deleted(mark: Any) -> bool:
    # dlt's rule: a boolean deletes when it is true, any other value when it is not NULL.
    return mark if isinstance(mark, bool) else mark is not None


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _preview(row: Mapping[str, Any]) -> str:
    text = json.dumps(row)
    return text if len(text) <= 200 else f"{text[:200]}..."
