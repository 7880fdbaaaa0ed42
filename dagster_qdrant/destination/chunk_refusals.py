"""Chunks that cannot be as they are asked for, said before anything is written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from dlt.common.json import json

from dagster_qdrant.destination.tables.chunks import PARENT_ID
from dagster_qdrant.destination.tables.rows import embedding_text, is_deleted
from dagster_qdrant.destination.tables.table_plan import TablePlan
from dagster_qdrant.embedding.options import EmbeddingOptions
from dagster_qdrant.errors import QdrantTerminalError
from dagster_qdrant.qdrant.collections import CUT_FOR, Collections, about


def refuse_other_chunks(
    plan: TablePlan, collections: Collections, embedding: EmbeddingOptions
) -> None:
    """Rows that do not come again would keep the chunks that they have, or have none.

    Args:
        plan: The table as it is to be loaded.
        collections: The dataset's collections.
        embedding: What embeds it.

    Raises:
        QdrantTerminalError: If former rows were cut in another way, and need not come again.
    """
    brings_all = plan.write_disposition == "replace" and plan.partition is None
    if plan.chunk is None or plan.chunks is None or brings_all:
        return
    info = collections.describe(plan.collection)
    if info is None or not collections.count(plan.collection):
        return
    made = about(info)
    asked = {"chunk": plan.chunk.to_json(), "chunked": list(plan.chunked), CUT_FOR: embedding.model}
    there = {name: made.get(name) for name in asked}
    if there == asked:
        _refuse_other_columns(plan, made.get("index") or {})
        return
    was = f"were cut into chunks with {_told(there)}" if there["chunk"] else "are in no chunks"
    raise QdrantTerminalError(
        f"Table `{plan.table_name}` is to have its texts cut into chunks with {_told(asked)}, and "
        f"its former rows {was}. Rows that do not come again would stay so. Load all rows once "
        "with the write disposition 'replace', or have dlt drop the former ones with "
        "`refresh='drop_resources'`. (In a script, `pipeline.drop_pending_packages()` comes first.)"
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
    with_chunks = set(_values(lines_of(plan.chunks_table), PARENT_ID))
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


def _refuse_other_columns(plan: TablePlan, index: Mapping[str, Any]) -> None:
    """Of the columns that are embedded, chunks have those beside them that were indexed."""
    asked, there = (sorted(set(plan.chunked) & names.keys()) for names in (plan.index, index))
    if new := [name for name in asked if name not in there]:
        raise QdrantTerminalError(
            f"Table `{plan.table_name}` is to index `{new[0]}`, which does not stand beside the "
            "chunks of its former rows, since it is embedded. No search would find those by it. "
            "Load all rows once with the write disposition 'replace', or have dlt drop the former "
            "ones with `refresh='drop_resources'`. (In a script, "
            "`pipeline.drop_pending_packages()` comes first.)"
        )


def _told(cut: dict[str, Any]) -> str:
    columns = ", ".join(f"`{name}`" for name in cut["chunked"] or ())
    how = ", ".join(f"{name} {value!r}" for name, value in cut["chunk"].items())
    return f"{how}, of {columns}, for the model {cut[CUT_FOR]!r}"


def _values(lines: Iterable[str], field: str) -> Iterator[str]:
    """A field's values in rows as lines of JSON, read without reading all of each."""
    value = re.compile(f'"{re.escape(field)}": ?"([^"]*)"')  # quotes in a text have a backslash
    return (found[1] for line in lines for found in value.finditer(line))
