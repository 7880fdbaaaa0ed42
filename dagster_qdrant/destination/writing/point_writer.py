"""Write points in the background, a batch a request, and check that they arrived.

A window is checked while the next one is written, unless they concern the same points.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from dagster_qdrant.destination.tables.rows import Row
from dagster_qdrant.destination.tables.table_plan import SUPERSEDED, TablePlan
from dagster_qdrant.errors import (
    QdrantTerminalError,
    QdrantTooLargeError,
    QdrantTransientError,
    QdrantUnsendableError,
)
from dagster_qdrant.qdrant.connection import Connection

if TYPE_CHECKING:
    from qdrant_client import models

# Qdrant refuses bodies of more than 32 MiB; payloads grow when they are escaped once more.
_REQUEST_BYTES = 24 * 1024 * 1024
_JSON_FLOAT = 22  # the most bytes of a number in a vector

# Turns a batch of rows into the request that writes them.
_Prepare = Callable[[list[Row]], Callable[[], object]]


@dataclass
class Window:
    """Some rows, the last one of each point id, and what is to be done with them."""

    rows: dict[str, Row] = field(default_factory=dict)
    deleted: list[Row] = field(default_factory=list)
    tombstones: list[Row] = field(default_factory=list)
    upsert: list[Row] = field(default_factory=list)
    overwrite: list[Row] = field(default_factory=list)
    unchanged: list[Row] = field(default_factory=list)
    marked: list[Row] = field(default_factory=list)
    new_points: int = 0  # that bear the load's id and did not before


class PointWriter:
    """Writes windows in the background, a batch a request, and checks that they arrived."""

    def __init__(
        self, connection: Connection, plan: TablePlan, batch_size: int, parallelism: int
    ) -> None:
        self._connection = connection
        self._plan = plan
        self._batch_size = batch_size
        # One thread more than there are requests at once: it prepares the next one meanwhile.
        self._pool = ThreadPoolExecutor(parallelism + 1, thread_name_prefix="upload")
        self._requests = threading.Semaphore(parallelism)
        self._running: list[Future[None]] = []
        self._written: list[str] = []
        self._checks = ThreadPoolExecutor(1, thread_name_prefix="check")
        self._check: Future[None] | None = None
        self._checked_ids: set[str] = set()
        self.pending_ids: set[str] = set()
        self.seconds = 0.0
        self._guard = threading.Lock()
        self._failed = False

    def __enter__(self) -> PointWriter:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._checks.shutdown(cancel_futures=True)

    def start(self, window: Window) -> None:
        """Begin to write a window. Its batches concern different points, so any order will do."""
        if not self._checked_ids.isdisjoint(window.rows):
            self._finish_check()
        self.pending_ids = set(window.rows)
        written = window.upsert + window.tombstones + window.overwrite
        self._written = [row.point_id for row in written]
        for write, rows in (
            (self._upsert, window.upsert + window.tombstones),
            (self._overwrite, window.overwrite),
            (self._mark, window.marked),
            (self._delete, window.deleted),
        ):
            for batch in self._batches(rows):
                self._running.append(self._pool.submit(self._try_to_write, write, batch))

    def finish(self) -> None:
        """Wait until all that was started is in the collection, and checked.

        Raises:
            QdrantError: The first failure.
        """
        self.settle()
        self._finish_check()

    def settle(self) -> None:
        """Wait until all that was started is in the collection, and begin to check it.

        Raises:
            QdrantError: The first failure, also of the check before.
        """
        if not self._running:
            return
        done, _ = wait(self._running, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
        self._running = []
        self.pending_ids = set()
        self._finish_check()
        if self._written:
            self._checked_ids = set(self._written)
            self._check = self._checks.submit(self._verify, self._written)

    def _finish_check(self) -> None:
        check, self._check, self._checked_ids = self._check, None, set()
        if check is not None:
            check.result()

    def _batches(self, rows: list[Row]) -> Iterator[list[Row]]:
        """Cut rows into requests, of so many points and not larger than a server takes."""
        batch: list[Row] = []
        size = 0
        for row in rows:
            row_size = row.size + sum(map(_size, (row.vector or {}).values()))
            if batch and (len(batch) >= self._batch_size or size + row_size > _REQUEST_BYTES):
                yield batch
                batch, size = [], 0
            batch.append(row)
            size += row_size
        if batch:
            yield batch

    def _try_to_write(self, prepare: _Prepare, rows: list[Row]) -> None:
        if self._failed:  # what still waits would most likely meet the same
            return
        try:
            self._write(prepare, rows)
        except BaseException:
            self._failed = True
            raise

    def _write(self, prepare: _Prepare, rows: list[Row]) -> None:
        """Write a batch, in halves if it is too large or to find the row that is unfit."""
        try:
            self._send(prepare(rows))
        except (QdrantTooLargeError, QdrantUnsendableError) as error:
            if len(rows) == 1 and isinstance(error, QdrantUnsendableError):
                raise QdrantTerminalError(
                    f"A row of table `{self._plan.table_name}` holds a value that cannot be sent "
                    f"to Qdrant: {str(rows[0].payload)[:200]}. Load integers beyond 64 bits with "
                    f"sign as text. ({error})"
                ) from error
            if len(rows) == 1:
                raise QdrantTerminalError(
                    f"A row of table `{self._plan.table_name}` has {rows[0].size:,} bytes, more "
                    f"than the server takes in a request: {str(rows[0].payload)[:200]}. Shorten "
                    f"it, or raise the server's limit. ({error})"
                ) from error
            middle = len(rows) // 2
            self._write(prepare, rows[:middle])
            self._write(prepare, rows[middle:])

    def _send(self, request: Callable[[], object]) -> None:
        """Make a request when it is its turn."""
        with self._requests:
            if self._failed:  # while it waited
                return
            start = time.monotonic()
            try:
                request()
            except (QdrantTooLargeError, QdrantUnsendableError):
                raise  # its halves may do
            except BaseException:
                self._failed = True  # before it is the next one's turn
                raise
            with self._guard:
                self.seconds += time.monotonic() - start

    def _upsert(self, rows: list[Row]) -> Callable[[], object]:
        from qdrant_client import models

        points = [
            models.PointStruct.model_construct(
                id=row.point_id,
                payload=row.payload,
                vector={
                    name: vector.tolist() if hasattr(vector, "tolist") else vector
                    for name, vector in (row.vector or {}).items()
                },
            )
            for row in rows
        ]
        return self._request(self._connection.client.upsert, points=points)

    def _overwrite(self, rows: list[Row]) -> Callable[[], object]:
        from qdrant_client import models

        operations: list[models.UpdateOperation] = [
            models.OverwritePayloadOperation(
                overwrite_payload=models.SetPayload(payload=row.payload, points=[row.point_id])
            )
            for row in rows
        ]
        return self._update(operations)

    def _mark(self, rows: list[Row]) -> Callable[[], object]:
        """Write down that rows are in this load, and which of its rows, and not which others."""
        from qdrant_client import models

        names = (self._plan.load_id, self._plan.row_id, SUPERSEDED)
        operations: list[models.UpdateOperation] = [
            models.SetPayloadOperation(
                set_payload=models.SetPayload(
                    payload={name: row.payload[name] for name in names if name in row.payload},
                    points=[row.point_id],
                )
            )
            for row in rows
        ]
        return self._update(operations)

    def _delete(self, rows: list[Row]) -> Callable[[], object]:
        from qdrant_client import models

        ids = models.PointIdsList(points=[row.point_id for row in rows])
        return self._request(self._connection.client.delete, points_selector=ids)

    def _update(self, operations: list[models.UpdateOperation]) -> Callable[[], object]:
        update = self._connection.client.batch_update_points
        return self._request(update, update_operations=operations)

    def _request(self, operation: Callable[..., object], **what: Any) -> Callable[[], object]:
        return partial(self._connection.request, operation, self._plan.target, wait=True, **what)

    def _verify(self, point_ids: list[str]) -> None:
        found = self._count(point_ids)
        if found != len(point_ids):
            raise QdrantTransientError(
                f"Collection `{self._plan.target}` holds {found} of {len(point_ids)} points "
                "that were just written. Was something deleted from it at the same time?"
            )

    def _count(self, point_ids: list[str]) -> int:
        """How many points there are of some. A server counts faster than it lists them."""
        from qdrant_client import models

        client, collection = self._connection.client, self._plan.target
        if self._connection.is_local:  # where a count compares all points with all ids
            return len(
                self._connection.request(
                    client.retrieve, collection, ids=point_ids, with_payload=False
                )
            )
        these = models.Filter(must=[models.HasIdCondition(has_id=list(point_ids))])
        counted = self._connection.request(client.count, collection, count_filter=these, exact=True)
        return counted.count


def _size(vector: Any) -> int:
    """The most bytes of a vector's JSON: dense, sparse, or of each token."""
    indices = getattr(vector, "indices", None)
    if indices is not None:
        return _JSON_FLOAT * 2 * len(indices)
    return _JSON_FLOAT * int(getattr(vector, "size", len(vector)))
