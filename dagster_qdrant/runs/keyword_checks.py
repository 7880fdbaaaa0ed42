"""Checks of the keywords by which rows are found.

Each reads a bounded part of the collection and changes nothing.
"""

from __future__ import annotations

from dagster_qdrant.destination.tables.keywords import Keywords
from dagster_qdrant.destination.tables.rows import embedding_text
from dagster_qdrant.embedding.sparse import KEYWORD_VECTOR
from dagster_qdrant.errors import EmbeddingError
from dagster_qdrant.runs.checked_table import CheckedTable, Finding

# The most texts that are read.
_READ_TEXTS = 256


def all_keywords_present(table: CheckedTable) -> Finding:
    """Of a sample of points without the vector of keywords, none has a text with keywords."""
    keywords, plan = table.plan.keywords, table.plan
    without = table.points_have_vector(KEYWORD_VECTOR, False)
    columns = list(keywords.columns) if keywords else []
    fields = [*columns, *(other for name in columns for other in plan.variants.get(name, ()))]
    records = table.scroll(table.collection, _READ_TEXTS, without, payload=fields)
    texts = {r.id: embedding_text(r.payload or {}, columns, plan.variants) for r in records}
    made_by = keywords or Keywords()
    try:
        missing = [
            id_
            for id_, text in texts.items()
            if text and made_by.query(text, table.embedding).indices
        ]
    except EmbeddingError as error:
        return Finding(False, f"The model of the keywords could not be loaded: {error}")
    numbers = {
        "points_without_keywords": table.collections.count(table.collection, without),
        "texts_read": len(records),
        "keywords_missing": len(missing),
    }
    if not missing:
        return Finding(True, "Rows whose text has keywords have the vector of these.", numbers)
    return Finding(
        False,
        f"{len(missing)} of {len(records)} rows that were read have a text with keywords and no "
        f"vector of these, say point {missing[0]}. Delete such points and materialize the asset.",
        numbers,
    )


def keyword_lengths_fit(table: CheckedTable) -> Finding:
    """Texts are about as long as those by whose length keywords are weighed."""
    keywords, plan = table.plan.keywords, table.plan
    columns = list(keywords.columns) if keywords else []
    fields = [*columns, *(other for name in columns for other in plan.variants.get(name, ()))]
    records = table.scroll(table.collection, _READ_TEXTS, None, payload=fields)
    texts = [embedding_text(record.payload or {}, columns, plan.variants) for record in records]
    mean = keywords.bm25.mean_length([text for text in texts if text]) if keywords else None
    if keywords is None or mean is None or not keywords.avg_len:
        return Finding(True, "No text is weighed by its length.")
    numbers = {"mean_length": round(mean, 1), "avg_len": keywords.avg_len}
    if said := keywords.other_length(mean):
        return Finding(False, f"{said[0].upper()}{said[1:]}", numbers)
    return Finding(True, "Texts are about as long as keywords are weighed by.", numbers)
