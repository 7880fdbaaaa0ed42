"""Texts that are much longer or shorter than those by whose length keywords are weighed.

BM25 weighs a word by how long its text is beside the mean length, which is measured once and kept:
another one would mean to write the keywords of all rows anew. So it is said when the rows of a
collection have become others.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from dagster_qdrant.destination.tables.rows import embedding_text
from dagster_qdrant.destination.tables.table_plan import TablePlan
from dagster_qdrant.destination.writing.load_counts import load_reports
from dagster_qdrant.errors import QdrantNotFoundError
from dagster_qdrant.qdrant.collections import Collections

logger = logging.getLogger(__name__)

# How many rows of a collection are read. Ids are hashes, so the first ones are any.
_SAMPLE = 1_000


def warn_of_other_lengths(
    load_id: str, plans: Iterable[TablePlan], collections: Collections
) -> None:
    """Say which collections have texts of quite another length than their keywords are weighed by.

    A collection is read only if the texts that the load brought are so.

    Args:
        load_id: The load, whose rows are all in.
        plans: The tables that it has rows of.
        collections: The dataset's collections.
    """
    counted = load_reports.so_far(load_id)
    for plan in plans:
        counts = counted.get(plan.table_name)
        if not plan.keywords or not counts or not counts.texts_measured:
            continue
        mean = counts.words_measured / counts.texts_measured
        if not plan.keywords.other_length(mean):
            continue
        mean_now = _mean_length(plan, collections)
        if mean_now and (said := plan.keywords.other_length(mean_now)):
            logger.warning("Collection `%s`: %s", plan.collection, said)


def _mean_length(plan: TablePlan, collections: Collections) -> float | None:
    """The mean number of words in the texts of a collection; None if that is not known."""
    if plan.keywords is None:
        return None
    columns = plan.keywords.columns
    fields = [*columns, *(other for name in columns for other in plan.variants.get(name, ()))]
    try:
        points = next(collections.pages(plan.collection, payload=fields, page=_SAMPLE), [])
    except QdrantNotFoundError:  # somebody deleted it
        return None
    texts = [embedding_text(point.payload or {}, columns, plan.variants) for point in points]
    return plan.keywords.bm25.mean_length([text for text in texts if text])
