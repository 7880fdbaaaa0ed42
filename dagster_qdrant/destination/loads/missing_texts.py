"""Loads that have rows and not one text, where there were texts before.

A column that was renamed at the source looks like that. The rows are loaded, and it is said: in the
log, and in the collection's metadata, where checks find it until a load has a text.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from dagster_qdrant.destination.generations.load_targets import without_texts
from dagster_qdrant.destination.tables.table_plan import EMBEDDING_HASH, TablePlan
from dagster_qdrant.destination.writing.load_counts import load_reports
from dagster_qdrant.destination.writing.table_collection import TEXTS_MISSING
from dagster_qdrant.qdrant.collections import Collections, about

logger = logging.getLogger(__name__)


def missing_texts(
    load_id: str, plans: Iterable[TablePlan], collections: Collections
) -> Mapping[str, str | None]:
    """Look for texts that are missing, while the former rows are there.

    Args:
        load_id: The load, whose rows are all in.
        plans: The tables that it has rows of.
        collections: The dataset's collections.

    Returns:
        What was seen, by the name of the collection; None where texts are back.
    """
    counted, before = load_reports.so_far(load_id), without_texts()
    seen: dict[str, str | None] = {}
    for plan in plans:
        counts = counted.get(plan.table_name)
        if counts is None or not plan.text_columns:
            continue
        if counts.rows_with_text:
            if plan.collection in before:
                seen[plan.collection] = None
        elif counts.rows_without_text and (
            counts.texts_lost or plan.collection in before or _has_texts(plan, collections)
        ):
            seen[plan.collection] = (
                f"The last load of table `{plan.table_name}` ({load_id}) brought "
                f"{counts.rows_without_text:,} rows and not one text, though there were texts "
                f"before. A row has {counts.without_text[0]}. Was a column renamed at the source? "
                "Name the columns to embed in `qdrant_adapter(resource, embed=[...])`."
            )
    return seen


def write_down(seen: Mapping[str, str | None], collections: Collections) -> None:
    """Say what was seen, and write it into the collections that now have the rows."""
    for collection, message in seen.items():
        info = collections.describe(collection)
        if info is None:
            continue
        made = {name: value for name, value in about(info).items() if name != TEXTS_MISSING}
        if message is not None:
            logger.warning("%s", message)
            made[TEXTS_MISSING] = message
        if made != about(info):
            collections.set_about(collection, made)


def _has_texts(plan: TablePlan, collections: Collections) -> bool:
    """Whether a row of a table has a text, or of the collection whose place it takes."""
    from qdrant_client import models

    if plan.chunks:
        return collections.exists(plan.chunks) and bool(collections.count(plan.chunks))
    no_text = models.IsEmptyCondition(is_empty=models.PayloadField(key=EMBEDDING_HASH))
    with_text = models.Filter(must_not=[no_text])
    names = {plan.target, plan.former or plan.target}
    return any(
        collections.exists(name) and collections.scroll(name, with_text, limit=1)[0]
        for name in names
    )
