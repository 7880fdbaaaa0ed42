"""Chunks that are made anew of the rows of a collection, since texts are to be cut otherwise.

The rows have the whole texts, so nothing has to be read from the source. What chunks have the same
text as before keep their vectors.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dlt.common.json import json
from dlt.common.normalizers.json.helpers import get_nested_row_hash

from dagster_qdrant.destination.configuration import QdrantDestinationConfiguration
from dagster_qdrant.destination.tables.cuts import cut_asked, cut_there, told
from dagster_qdrant.destination.tables.names import is_of_dlt
from dagster_qdrant.destination.tables.rows import Fingerprints, Row, embedding_text
from dagster_qdrant.destination.tables.table_plan import DELETED, PARTITION, TablePlan
from dagster_qdrant.destination.writing.load_counts import load_reports
from dagster_qdrant.destination.writing.progress import Progress
from dagster_qdrant.destination.writing.row_file import WINDOW_ROWS
from dagster_qdrant.destination.writing.table_loader import TableLoader
from dagster_qdrant.embedding.options import EmbeddingOptions
from dagster_qdrant.embedding.text_measure import text_measure
from dagster_qdrant.errors import EmbeddingError, QdrantTerminalError
from dagster_qdrant.qdrant.collections import Collections, about

if TYPE_CHECKING:
    from qdrant_client import models

logger = logging.getLogger(__name__)

_PAGE = 256


def is_cut_otherwise(
    plan: TablePlan,
    info: models.CollectionInfo | None,
    collections: Collections,
    embedding: EmbeddingOptions,
) -> bool:
    """Whether rows have other chunks than they shall, or none.

    Chunks of a function cannot be made of what is stored: such a load is refused, unless it brings
    all rows.

    Args:
        plan: The plan of a table.
        info: What Qdrant says of its collection; None: there is none.
        collections: The dataset's collections.
        embedding: What embeds it.
    """
    if plan.chunk is None or plan.chunks is not None:
        return False
    if plan.chunk.function and not plan.brings_all:
        return False
    if info is not None:
        return cut_there(about(info)) != cut_asked(plan, embedding)
    rows = collections.name(str(plan.parent))
    return not plan.brings_all and collections.exists(rows) and collections.count(rows) > 0


def cut_again(
    collections: Collections,
    plan: TablePlan,
    of_rows: TablePlan,
    config: QdrantDestinationConfiguration,
    load_id: str,
) -> None:
    """Bring the chunks of all rows into the collection that takes the place of the former chunks.

    May be done again. What an attempt before had embedded is not embedded again.

    Args:
        collections: The dataset's collections.
        plan: The plan of the chunks, with another target.
        of_rows: The plan of the rows.
        config: The destination's options.
        load_id: The load that is under way.
    """
    info, total = collections.describe(plan.collection), collections.count(of_rows.collection)
    logger.warning(
        "The texts of `%s` get %s; so far they have %s. The %d rows that are there are cut anew, "
        "and chunks whose text is new are embedded.",
        of_rows.table_name,
        told(cut_asked(plan, config.embedding)),
        told(cut_there(about(info) if info else {})),
        total,
    )
    as_they_are = replace(plan, write_disposition="append", hard_delete=None)
    loader = TableLoader(collections, as_they_are, config, load_id)
    brought: set[str] = set()
    with Progress(f"{plan.table_name}, again", total).shown() as report:
        windows = _windows(collections, as_they_are, of_rows, config.embedding)
        loader.load(_noted(windows, brought), report)
    load_reports.add(load_id, plan.table_name, loader.counts.of_texts())
    for records in collections.pages(plan.target, payload=False, page=_PAGE):
        if others := [record.id for record in records if str(record.id) not in brought]:
            collections.delete(plan.target, others)


def _noted(windows: Iterator[list[Row]], brought: set[str]) -> Iterator[list[Row]]:
    for rows in windows:
        brought.update(row.point_id for row in rows)
        yield rows


def _windows(
    collections: Collections, plan: TablePlan, of_rows: TablePlan, embedding: EmbeddingOptions
) -> Iterator[list[Row]]:
    made_by, rows = Fingerprints.of(plan, embedding), list[Row]()
    for records in collections.pages(of_rows.collection, payload=True, page=_PAGE):
        for record in records:
            for payload in _chunks(record.payload or {}, plan, of_rows, embedding):
                size = len(json.dumpb(payload))
                identity = [payload[name] for name in plan.key]
                # Of each partition, also those that the load does not bring.
                point_id = replace(plan, partition=payload.get(PARTITION)).point_id(identity)
                rows.append(Row.of(payload, plan, made_by, size=size, point_id=point_id))
                if len(rows) >= WINDOW_ROWS:
                    yield rows
                    rows = []
    if rows:
        yield rows


def _chunks(
    row: Mapping[str, Any], plan: TablePlan, of_rows: TablePlan, embedding: EmbeddingOptions
) -> Iterator[dict[str, Any]]:
    """The chunks of a row, as dlt makes rows of them where they come with it."""
    text = embedding_text(row, plan.chunked, of_rows.variants)
    if text is None or plan.chunk is None or row.get(DELETED):
        return
    not_copied = set(plan.chunked) - plan.index.keys()
    others = {
        name: value for name, value in row.items() if not (is_of_dlt(name) or name in not_copied)
    }
    parent = row[of_rows.row_id]
    try:
        chunks = [each for each in plan.chunk.of_text(text, text_measure(embedding)) if each]
    except (EmbeddingError, ValueError) as error:
        raise QdrantTerminalError(f"Table `{of_rows.table_name}`: {error}") from error
    names = plan.chunk_names
    for number, chunk in enumerate(chunks):
        links = {
            plan.row_id: get_nested_row_hash(parent, plan.table_name, number),
            names.parent_id: parent,
            names.list_index: number,
            plan.load_id: row.get(plan.load_id),
        }
        if plan.root_id:
            links[plan.root_id] = parent
        if PARTITION in row:
            links[PARTITION] = row[PARTITION]
        yield {**others, **names.columns(chunk), **links}
