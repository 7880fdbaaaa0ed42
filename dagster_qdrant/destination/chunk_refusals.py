"""Chunks that cannot be as they are asked for, said before anything is written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from dlt.common.json import json

from dagster_qdrant.destination.tables.cuts import cut_asked, cut_there, told
from dagster_qdrant.destination.tables.rows import embedding_text, is_deleted
from dagster_qdrant.destination.tables.table_plan import TablePlan
from dagster_qdrant.embedding.options import EmbeddingOptions
from dagster_qdrant.errors import QdrantTerminalError
from dagster_qdrant.qdrant.collections import Collections, about

_PAGE = 1024


def refuse_other_chunks(
    plan: TablePlan, collections: Collections, embedding: EmbeddingOptions
) -> None:
    """Chunks of a function cannot be made of the rows that are stored.

    Args:
        plan: The table as it is to be loaded.
        collections: The dataset's collections.
        embedding: What embeds it.

    Raises:
        QdrantTerminalError: If former rows were cut in another way, and need not come again.
    """
    if plan.chunk is None or plan.chunks is None or plan.brings_all or not plan.chunk.function:
        return
    info = collections.describe(plan.chunks)
    asked, there = cut_asked(plan, embedding), cut_there(about(info) if info else {})
    if asked == there or not collections.exists(plan.collection):
        return
    if not _has_text(plan, collections):
        return
    raise QdrantTerminalError(
        f"Table `{plan.table_name}` is to have {told(asked)}, and its former rows have "
        f"{told(there)}. Rows that do not come again would stay so. Load all rows once with the "
        "write disposition 'replace', or have dlt drop the former ones with "
        "`refresh='drop_resources'`. (In a script, `pipeline.drop_pending_packages()` comes first.)"
    )


def _has_text(plan: TablePlan, collections: Collections) -> bool:
    """Whether a former row has a text, of which there should be chunks."""
    columns = [name for each in plan.chunked for name in (each, *plan.variants.get(each, ()))]
    return any(
        embedding_text(record.payload or {}, plan.chunked, plan.variants)
        for records in collections.pages(plan.collection, payload=columns, page=_PAGE)
        for record in records
    )


def refuse_rows_without_chunks(plan: TablePlan, lines_of: Callable[[str], Iterable[str]]) -> None:
    """Rows get their chunks while their source is read, by the step that `qdrant_adapter` adds.

    Another resource may fill the table that was not wrapped, and gives rows that nothing finds.

    Args:
        plan: The table.
        lines_of: The rows of a table that the load brings, as lines of JSON.

    Raises:
        QdrantTerminalError: If rows with text came without.
    """
    if plan.chunk is None or plan.chunks is None:
        return
    with_chunks = set(_values(lines_of(plan.chunks_table), plan.chunk_names.parent_id))
    if plan.chunk.function and with_chunks:  # it may leave rows out
        return
    for line in lines_of(plan.table_name):
        if with_chunks and not with_chunks.isdisjoint(_values([line], plan.row_id)):
            continue
        row = json.loads(line)
        if plan.hard_delete and is_deleted(row.get(plan.hard_delete)):
            continue
        if embedding_text(row, plan.chunked, plan.variants):
            raise QdrantTerminalError(
                f"Table `{plan.table_name}` is to have its texts cut into chunks, and a row came "
                f"with a text and without a chunk: {str(row)[:200]}. They are cut while a source "
                "gives rows: dicts, models or data frames, and no files and queries. All resources "
                "that fill the table have to be wrapped with `qdrant_adapter(..., chunk=...)`, and "
                "a function that cuts has to give texts."
            )


def _values(lines: Iterable[str], field: str) -> Iterator[str]:
    """A field's values in rows as lines of JSON, read without reading all of each."""
    value = re.compile(f'"{re.escape(field)}": ?"([^"]*)"')  # quotes in a text have a backslash
    return (found[1] for line in lines for found in value.finditer(line))
