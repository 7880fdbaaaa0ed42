"""Rows -> points: what of a table's rows is new or changed is embedded and written.

Nothing here knows where the rows come from: a file of a load, or a collection that is made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dagster_qdrant.destination.configuration import QdrantDestinationConfiguration
from dagster_qdrant.destination.tables.rows import (
    Row,
    embedding_text,
    is_deleted,
    what_is_there,
)
from dagster_qdrant.destination.tables.table_plan import (
    DELETED,
    EMBEDDING_HASH,
    KEYWORDS_HASH,
    ROW_HASH,
    SUPERSEDED,
    TablePlan,
    hash_field,
)
from dagster_qdrant.destination.writing.load_counts import LoadCounts
from dagster_qdrant.destination.writing.loaded_ids import FileIds
from dagster_qdrant.destination.writing.look_ahead import AHEAD, Arrived, LookAhead
from dagster_qdrant.destination.writing.point_writer import PointWriter, Window
from dagster_qdrant.destination.writing.text_vectors import EmbeddedWindow, TextVectors
from dagster_qdrant.qdrant.collections import Collections
from dagster_qdrant.stopping import refuse_if_stopping


class TableLoader:
    """Brings windows of rows into the collection of a table.

    Args:
        collections: The dataset's collections.
        plan: How the rows become points.
        config: The destination's options.
        load_id: The load that the rows belong to.
        ids: The ids of the rows' points, if it has to be known which rows the load brought.
        incomplete: Tells which of some loads are not complete.
    """

    def __init__(
        self,
        collections: Collections,
        plan: TablePlan,
        config: QdrantDestinationConfiguration,
        load_id: str,
        *,
        ids: FileIds | None = None,
        incomplete: Callable[[Set[str]], Set[str]] = lambda _: frozenset(),
    ) -> None:
        self.counts = LoadCounts()
        self._incomplete = incomplete
        self._collections = collections
        self._connection = collections.connection
        self._plan = plan
        self._config = config
        self._load_id = load_id
        self._ids = ids
        hashes = [EMBEDDING_HASH, KEYWORDS_HASH, ROW_HASH, *map(hash_field, plan.vectors)]
        self._looked_up = [*hashes, *sorted(plan.links)]
        if plan.dedup_sort:
            self._looked_up.append(plan.dedup_sort[0])
        if plan.merges_nested:
            self._looked_up.append(SUPERSEDED)
        self._vectors = TextVectors(collections, plan, config, self.counts)

    def load(self, windows: Iterable[list[Row]], report: Callable[[LoadCounts], None]) -> None:
        """Load windows one after the other. Doing it again changes nothing.

        Args:
            windows: The rows.
            report: Called after each window.
        """
        config = self._config
        embedding: EmbeddedWindow | None = None
        following: EmbeddedWindow | None = None

        def write_embedded() -> None:
            if embedding is None:
                return
            self._vectors.give(embedding)
            writer.settle()
            writer.start(embedding.window)
            self._count(embedding)
            report(self.counts)

        with (
            PointWriter(
                self._connection, self._plan, config.upload_batch_size, config.upload_parallelism
            ) as writer,
            ThreadPoolExecutor(AHEAD, thread_name_prefix="look-up") as look_ups,
        ):
            ahead = LookAhead(map(self._come, windows), self._look_up, look_ups)
            try:
                # While a window is embedded, the one before it is written and the next ones are
                # looked up, unless they concern the same points.
                while arrived := ahead.take(
                    writer.pending_ids, embedding.window.rows if embedding else ()
                ):
                    refuse_if_stopping()
                    if embedding and not arrived.point_ids.isdisjoint(embedding.window.rows):
                        write_embedded()
                        embedding = None
                    if not arrived.point_ids.isdisjoint(writer.pending_ids):
                        writer.settle()
                    window = self._resolve(arrived, ahead.existing(arrived))
                    following = self._vectors.start(window, len(arrived.rows), embedding)
                    write_embedded()
                    embedding = following
                write_embedded()
            except BaseException:
                look_ups.shutdown(wait=False, cancel_futures=True)
                for begun in (embedding, following):
                    if begun:
                        begun.cancel()
                raise
            writer.finish()
        self.counts.seconds_writing = writer.seconds

    def _come(self, rows: list[Row]) -> Arrived:
        """Take in a window that comes."""
        brought = self._ids.take_in(rows, self._plan) if self._ids else set()
        return Arrived(rows, {row.point_id for row in rows}, brought)

    def _resolve(self, arrived: Arrived, existing: Mapping[str, Mapping[str, Any]]) -> Window:
        """Decide for each row what has to be done, by what is there."""
        window, plan = Window(), self._plan
        dead = self._dead_loads(existing.values())
        for row in arrived.rows:
            self._choose(row, window)
        for row in window.rows.values():
            known = existing.get(row.point_id, {})
            is_new = known.get(plan.load_id) != self._load_id
            is_first = is_new and row.point_id not in arrived.brought
            if not is_first and plan.counts_less(row.payload, known):
                if superseded := plan.superseded(known, [row.payload]):
                    row.payload = {SUPERSEDED: superseded, plan.load_id: self._load_id}
                    window.marked.append(row)
                    window.new_points += is_new
                continue
            if superseded := plan.superseded(row.payload, [known]):
                row.payload[SUPERSEDED] = superseded
            if plan.hard_delete and is_deleted(row.payload.get(plan.hard_delete)):
                window.new_points -= not is_new
                self._delete(row, window)
                continue
            self._count_texts(row, known)
            row.set_hashes()
            if row.point_id not in existing or not row.has_vectors_of(known):
                window.upsert.append(row)
            elif row.row_hash == known.get(ROW_HASH) and self._same_links(row, known):
                window.unchanged.append(row)
                if known.get(plan.load_id) not in dead and not self._has_to_be_marked(row, known):
                    continue
                window.marked.append(row)
            else:
                window.overwrite.append(row)
            window.new_points += is_new
        return window

    def _has_to_be_marked(self, row: Row, known: Mapping[str, Any]) -> bool:
        """Whether a row that did not change has something to say about others of its key."""
        place = self._plan.place(row.payload)
        if self._ids:
            return SUPERSEDED in row.payload or place != self._plan.place(known)
        return place > 0  # that it is of this load

    def _dead_loads(self, existing: Iterable[Mapping[str, Any]]) -> Set[str]:
        """The loads that wrote points and never became complete.

        A row of theirs that did not change gets this load's id. By its own, who reads rows together
        with dlt's loads would not find it.
        """
        if self._plan.write_disposition == "append":
            return frozenset()
        loads = {str(known.get(self._plan.load_id)) for known in existing} - {self._load_id}
        return self._incomplete(loads) if loads else loads

    def _count_texts(self, row: Row, known: Mapping[str, Any]) -> None:
        counts = self.counts
        for name in self._plan.vectors:
            if name in row.texts:
                counts.rows_with_text_of[name] += 1
            else:
                counts.rows_without_text_of[name] += 1
                counts.texts_lost_of[name] += hash_field(name) in known
        if not self._plan.text_columns:
            return
        text = row.text
        if self._plan.chunks:  # its chunks have the text
            text = embedding_text(row.payload, self._plan.chunked, self._plan.variants)
        if text is not None:
            counts.rows_with_text += 1
            return
        counts.rows_without_text += 1
        counts.texts_lost += EMBEDDING_HASH in known
        if not counts.without_text:
            counts.without_text.append(what_is_there(row.payload, self._plan))

    def _choose(self, row: Row, window: Window) -> None:
        """Take a row into a window, unless one of the same key counts that is there already."""
        other = window.rows.setdefault(row.point_id, row)
        if other is row:
            return
        if self._plan.counts_less(row.payload, other.payload):
            row, other = other, row
        if superseded := self._plan.superseded(row.payload, [other.payload]):
            row.payload[SUPERSEDED] = superseded
        window.rows[row.point_id] = row

    def _delete(self, row: Row, window: Window) -> None:
        plan = self._plan
        if not (plan.keeps_deleted or plan.place(row.payload)):
            window.deleted.append(row)
            return
        kept = {plan.row_id, plan.load_id, SUPERSEDED, *(plan.dedup_sort or ())}
        row.payload = {name: value for name, value in row.payload.items() if name in kept}
        row.payload[DELETED] = True
        row.text, row.texts = None, {}
        window.tombstones.append(row)

    def _same_links(self, row: Row, known: Mapping[str, Any]) -> bool:
        return not self._plan.is_linked or all(
            row.payload.get(name) == known.get(name)
            for name in self._plan.links
            if name != self._plan.load_id
        )

    def _look_up(self, point_ids: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        records = self._connection.request(
            self._connection.client.retrieve,
            self._plan.target,
            ids=list(point_ids),
            with_payload=self._looked_up,
            with_vectors=False,
        )
        return {str(record.id): record.payload or {} for record in records}

    def _count(self, embedding: EmbeddedWindow) -> None:
        counts, window = self.counts, embedding.window
        counts.rows += embedding.rows_read
        if self._plan.chunk and not self._plan.chunks:
            counts.chunks += embedding.rows_read
        counts.written += len(window.upsert)
        counts.payload_only += len(window.overwrite)
        counts.unchanged += len(window.unchanged)
        counts.deleted += len(window.deleted) + len(window.tombstones)
        counts.points += window.new_points
        counts.reused += sum(row.has_text for row in window.overwrite + window.unchanged)
