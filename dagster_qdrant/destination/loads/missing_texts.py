"""Loads that have rows and not one text, where there were texts before.

A column that was renamed at the source looks like that. The rows are loaded, and it is said: in the
log, and in the collection's metadata, where checks find it until a load has a text.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from dagster_qdrant.destination.generations.load_targets import without_texts
from dagster_qdrant.destination.tables.table_plan import EMBEDDING_HASH, TablePlan, hash_field
from dagster_qdrant.destination.writing.load_counts import LoadCounts, load_reports
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
        if counts is None or not (plan.text_columns or plan.vectors):
            continue
        texts = list(_texts_of_vectors(plan, counts))
        missing = [
            each
            for each in texts
            if each.without
            and not each.rows_with_text
            and (each.lost or _has_texts(plan, each.field, collections))
        ]
        # Once it was said of the main vector, it is said until texts are back.
        lacking = [each for each in texts if each.without and not each.rows_with_text]
        if not missing and plan.collection in before:
            missing = [each for each in lacking if each.field == EMBEDDING_HASH]
        if missing:
            seen[plan.collection] = " ".join(_message(plan, load_id, each) for each in missing)
        elif plan.collection in before and not lacking and any(t.rows_with_text for t in texts):
            seen[plan.collection] = None
    return seen


@dataclass(frozen=True)
class _Texts:
    """What a load brought of texts for a vector.

    Args:
        vector: Its name; empty for the main one.
        field: The payload field with the fingerprints of its texts.
        rows_with_text: Rows with a text.
        without: Rows without.
        lost: Rows among these whose point had one before.
        example: What such a row has.
    """

    vector: str
    field: str
    rows_with_text: int
    without: int
    lost: int
    example: str = ""


def _texts_of_vectors(plan: TablePlan, counts: LoadCounts) -> Iterator[_Texts]:
    if plan.text_columns:
        yield _Texts(
            "",
            EMBEDDING_HASH,
            counts.rows_with_text,
            counts.rows_without_text,
            counts.texts_lost,
            f" A row has {counts.without_text[0]}." if counts.without_text else "",
        )
    for name in plan.vectors:
        yield _Texts(
            name,
            hash_field(name),
            counts.rows_with_text_of[name],
            counts.rows_without_text_of[name],
            counts.texts_lost_of[name],
        )


def _message(plan: TablePlan, load_id: str, texts: _Texts) -> str:
    of_vector = f" for the vector `{texts.vector}`" if texts.vector else ""
    argument = f"vectors={{{texts.vector!r}: [...]}}" if texts.vector else "embed=[...]"
    return (
        f"The last load of table `{plan.table_name}` ({load_id}) brought {texts.without:,} rows "
        f"and not one text{of_vector}, though there were texts before.{texts.example} Was a column "
        f"renamed at the source? Name the columns to embed in `qdrant_adapter(resource, "
        f"{argument})`."
    )


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


def _has_texts(plan: TablePlan, field: str, collections: Collections) -> bool:
    """Whether a row of a table has a text, or of the collection whose place it takes."""
    from qdrant_client import models

    if plan.chunks and field == EMBEDDING_HASH:
        return collections.exists(plan.chunks) and bool(collections.count(plan.chunks))
    no_text = models.IsEmptyCondition(is_empty=models.PayloadField(key=field))
    with_text = models.Filter(must_not=[no_text])
    names = {plan.target, plan.former or plan.target}
    return any(
        collections.exists(name) and collections.scroll(name, with_text, limit=1)[0]
        for name in names
    )
