"""Write points in the background, a batch a request, and check that they arrived."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dagster_qdrant.client import Connection
from dagster_qdrant.destination.table_plan import TablePlan
from dagster_qdrant.errors import QdrantTransientError

if TYPE_CHECKING:
    from qdrant_client import models


@dataclass
class Row:
    """A row on its way to become a point."""

    payload: dict[str, Any]
    identity: Any  # what tells it from other rows
    point_id: str
    text: str | None
    row_hash: str
    embedding_hash: str | None
    vector: Any = None


@dataclass
class Window:
    """Some rows, the last one of each point id, and what is to be done with them."""

    rows: dict[str, Row] = field(default_factory=dict)
    deleted: list[Row] = field(default_factory=list)
    upsert: list[Row] = field(default_factory=list)
    overwrite: list[Row] = field(default_factory=list)
    touch: list[Row] = field(default_factory=list)


class PointWriter:
    """Writes windows in the background, a batch a request, and checks that they arrived."""

    def __init__(
        self, connection: Connection, plan: TablePlan, batch_size: int, pool: ThreadPoolExecutor
    ) -> None:
        self._connection = connection
        self._plan = plan
        self._batch_size = batch_size
        self._pool = pool
        self._running: list[Future[None]] = []
        self._started = 0.0
        self.pending_ids: set[str] = set()
        self.seconds = 0.0

    def start(self, window: Window) -> None:
        """Begin to write a window. Its batches concern different points, so any order will do."""
        self._started = time.monotonic()
        self.pending_ids = set(window.rows)
        for write, rows in (
            (self._upsert, window.upsert),
            (self._overwrite, window.overwrite),
            (self._touch, window.touch),
            (self._delete, window.deleted),
        ):
            for at in range(0, len(rows), self._batch_size):
                batch = rows[at : at + self._batch_size]
                self._running.append(self._pool.submit(write, batch))

    def finish(self) -> None:
        """Wait until all that was started is in the collection.

        Raises:
            QdrantError: The first failure.
        """
        if not self._running:
            return
        wait(self._running)
        running, self._running = self._running, []
        self.pending_ids = set()
        for future in running:
            future.result()
        self.seconds += time.monotonic() - self._started

    def _upsert(self, rows: list[Row]) -> None:
        from qdrant_client import models

        points = [
            models.PointStruct.model_construct(
                id=row.point_id,
                payload=row.payload,
                vector={name: vector.tolist() for name, vector in (row.vector or {}).items()},
            )
            for row in rows
        ]
        self._connection.request(
            self._connection.client.upsert, self._plan.collection, points=points, wait=True
        )
        self._verify(rows)

    def _overwrite(self, rows: list[Row]) -> None:
        from qdrant_client import models

        operations: list[models.UpdateOperation] = [
            models.OverwritePayloadOperation(
                overwrite_payload=models.SetPayload(payload=row.payload, points=[row.point_id])
            )
            for row in rows
        ]
        self._connection.request(
            self._connection.client.batch_update_points,
            self._plan.collection,
            update_operations=operations,
            wait=True,
        )
        self._verify(rows)

    def _touch(self, rows: list[Row]) -> None:
        self._connection.request(
            self._connection.client.set_payload,
            self._plan.collection,
            payload={self._plan.load_id: rows[0].payload[self._plan.load_id]},
            points=[row.point_id for row in rows],
            wait=True,
        )

    def _delete(self, rows: list[Row]) -> None:
        from qdrant_client import models

        self._connection.request(
            self._connection.client.delete,
            self._plan.collection,
            points_selector=models.PointIdsList(points=[row.point_id for row in rows]),
            wait=True,
        )

    def _verify(self, rows: list[Row]) -> None:
        found = self._connection.request(
            self._connection.client.retrieve,
            self._plan.collection,
            ids=[row.point_id for row in rows],
            with_payload=False,
            with_vectors=False,
        )
        if len(found) != len(rows):
            raise QdrantTransientError(
                f"Collection `{self._plan.collection}` holds {len(found)} of {len(rows)} points "
                "that were just written. Was something deleted from it at the same time?"
            )
