"""Checks of what tables with embedded columns have: vectors, by which their rows are found.

Each reads a bounded part of the collection and changes nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

from dagster_qdrant.destination.tables.keywords import Keywords
from dagster_qdrant.destination.tables.rows import Fingerprints, Row, embedding_text
from dagster_qdrant.destination.tables.table_plan import EMBEDDING_HASH
from dagster_qdrant.destination.writing.table_collection import TEXTS_MISSING
from dagster_qdrant.embedding.embedder import load_embedder, vector_size
from dagster_qdrant.embedding.sparse import KEYWORD_VECTOR
from dagster_qdrant.errors import EmbeddingError
from dagster_qdrant.qdrant.collections import about, vector_params
from dagster_qdrant.runs.checked_table import CheckedTable, Finding

# Cosine similarity from which on two vectors count as those of one text.
_SAME = 0.95
# How many of the longest texts that were read are embedded, to see whether they are cut.
_TRIED_TEXTS = 3
# The most texts without a vector of keywords that are read.
_READ_TEXTS = 256


def all_vectors_present(table: CheckedTable) -> Finding:
    """A point that was loaded with a text has a vector, and the last load had texts at all."""
    numbers: dict[str, int] = {}
    if table.plan.embed:
        if unfit := unfit_vectors(table):
            return unfit
        without = table.points_have_vector(False)
        numbers["points_without_vector"] = table.collections.count(table.collection, without)
    lacking: str | None = None
    if gone := sorted(table.plan.vectors.keys() - vector_params(table.info).keys()):
        lost = f"Collection `{table.collection}` has no vector `{gone[0]}` any more."
        return Finding(False, f"{lost} Materialize the asset, which makes it anew.", numbers)
    for name in [*([None] if table.plan.embed else []), *table.plan.vectors]:
        missing = table.points_have_vector(False, with_text=True, name=name)
        count = table.collections.count(table.collection, missing)
        numbers[f"vectors_missing_{name}" if name else "vectors_missing"] = count
        if count and lacking is None:
            [example] = table.scroll(table.collection, 1, missing, payload=[])
            what = f"vector `{name}`" if name else "vector"
            lacking = (
                f"{count} rows were loaded with a text and have no {what}, say point "
                f"{example.id}. Delete such points and materialize the asset."
            )
    if seen := about(table.info).get(TEXTS_MISSING):
        return Finding(False, seen, numbers)
    if lacking:
        return Finding(False, lacking, numbers)
    return Finding(True, "Every row with text has its vector.", numbers)


def texts_in_chunks(table: CheckedTable) -> Finding:
    """The last load of a table had texts at all, and where rows have some, there are chunks."""
    chunks = str(table.plan.chunks)
    there = table.collections.count(chunks) if table.collections.exists(chunks) else 0
    numbers = {"chunks": there}
    if seen := about(table.info).get(TEXTS_MISSING):
        return Finding(False, seen, numbers)
    columns, variants = table.plan.chunked, table.plan.variants
    fields = [*columns, *(other for name in columns for other in variants.get(name, ()))]
    rows = table.scroll(table.collection, _READ_TEXTS, None, payload=fields)
    with_text = [r.id for r in rows if embedding_text(r.payload or {}, columns, variants)]
    if there or not with_text:
        return Finding(True, "The texts of rows are in chunks.", numbers)
    return Finding(
        False,
        f"Rows have texts, say point {with_text[0]}, and there is no chunk of any in `{chunks}`. "
        "Materialize the asset with all of its rows, say with `refresh='drop_resources'`.",
        numbers,
    )


def all_keywords_present(table: CheckedTable) -> Finding:
    """Of a sample of points without the vector of keywords, none has a text with keywords."""
    from qdrant_client import models

    keywords, plan = table.plan.keywords, table.plan
    has_vector = models.HasVectorCondition(has_vector=KEYWORD_VECTOR)
    without = models.Filter(must_not=[has_vector])
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


def vectors_valid(table: CheckedTable) -> Finding:
    """Vectors have the model's size; those of a sample are finite and not zero."""
    import numpy as np

    unfit = [
        point_id
        for point_id, (_, vector) in table.sample.items()
        if not np.isfinite(vector).all() or not vector.any()
    ]
    numbers = {
        "vector_size": vector_size(table.embedding),
        "vectors_read": len(table.sample),
        "vectors_unfit": len(unfit),
    }
    if not unfit:
        return Finding(True, "Vectors have the model's size and are finite.", numbers)
    return Finding(
        False,
        f"{len(unfit)} of {len(table.sample)} vectors are zero or not finite, so no search "
        f"finds them, say that of point {unfit[0]}. Delete such points and materialize the "
        "asset.",
        numbers,
    )


def search_finds_row(table: CheckedTable) -> Finding:
    """A search for the text of a row finds the row, or one that is just as near."""
    import numpy as np

    row = _row_to_search_for(table)
    if row is None:
        return Finding(True, "No row has a vector of the columns that are embedded now.")
    point_id, text, stored = row
    try:
        vector = load_embedder(table.embedding).embed([text])[0]
    except EmbeddingError as error:
        return Finding(False, f"The text could not be embedded: {error}")
    hits = table.connection.request(
        table.connection.client.query_points,
        table.collection,
        query=vector.tolist(),
        using=table.embedding.vector_name,
        limit=1,
        with_payload=False,
        with_vectors=[table.embedding.vector_name],
    ).points
    found: Any = hits[0].vector if hits else None
    nearest = np.asarray(found[table.embedding.vector_name] if found else vector * 0)
    # The score is of whatever distance the collection has.
    own, best = _similarity(vector, stored), _similarity(vector, nearest)
    numbers = {"similarity_of_row": round(own, 4), "similarity_of_best_hit": round(best, 4)}
    if own < _SAME:
        return Finding(
            False,
            f"Point {point_id} is not found by its text, since its vector is that of another "
            "text or was made by another model. Delete such points and materialize the asset.",
            numbers,
        )
    # By the dot product, one that is longer may be nearer.
    if best < _SAME and vector @ nearest < vector @ stored:
        return Finding(
            False,
            f"A search for the text of point {point_id} does not find it, though its vector "
            "is right. Is the collection's vector index damaged?",
            numbers,
        )
    return Finding(True, "A search for the text of a row finds it.", numbers)


def _similarity(one: Any, other: Any) -> float:
    """Cosine similarity; 0 where one of the vectors is."""
    import numpy as np

    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / lengths if lengths else 0.0


def _row_to_search_for(table: CheckedTable) -> tuple[str, str, Any] | None:
    """The id, text and vector of a row."""
    return next(_rows_with_vectors(table), None)


def _rows_with_vectors(table: CheckedTable) -> Iterator[tuple[str, str, Any]]:
    """The id, text and vector of the rows of the sample."""
    made_by = Fingerprints.of(table.plan, table.embedding)
    for point_id, (payload, vector) in table.sample.items():
        row = Row.of(dict(payload), table.plan, made_by, size=0, point_id=point_id)
        # Rows that came when other columns were embedded have the vector of another text.
        if row.text and row.hashes[EMBEDDING_HASH] == payload.get(EMBEDDING_HASH):
            yield point_id, row.text, vector


def no_text_cut(table: CheckedTable) -> Finding:
    """The last load cut no text, nor is one of the longest texts of a sample too long."""
    texts = [(text, point_id) for point_id, text, _ in _rows_with_vectors(table)]
    tried = heapq.nlargest(_TRIED_TEXTS, texts, key=lambda each: len(each[0]))
    try:
        embedder = load_embedder(table.embedding)
        in_work = embedder.start([text for text, _ in tried])
        in_work.result()
    except EmbeddingError as error:
        return Finding(False, f"The model could not be loaded: {error}")
    numbers = {
        "texts_read": len(texts),
        "texts_cut_by_last_load": table.last_load.texts_cut if table.last_load else 0,
        "tokens_cut_of_longest": max(in_work.cut.values(), default=0),
    }
    if not in_work.cut and not numbers["texts_cut_by_last_load"]:
        return Finding(True, "No text is longer than the model's window.", numbers)
    window = f" of {embedder.max_tokens:,} tokens" if embedder.max_tokens else ""
    example = f", say that of point {tried[min(in_work.cut)][1]}" if in_work.cut else ""
    return Finding(
        False,
        f"Texts are longer than the model's window{window}{example}, so no search finds what their "
        "ends say. Split such texts into several rows, embed fewer columns, or take a model with "
        "a larger window.",
        numbers,
    )


def unfit_vectors(table: CheckedTable) -> Finding | None:
    """Why the vectors cannot be those of the model; None if they can."""
    vectors, model = vector_params(table.info), table.embedding
    params = vectors.get(model.vector_name)
    try:
        size = vector_size(model)
    except EmbeddingError as error:
        return Finding(False, str(error))
    if params and params.size == size:
        return None
    holds = [f"`{name}` of size {params.size}" for name, params in vectors.items()]
    return Finding(
        False,
        f"Collection `{table.collection}` has {' and '.join(holds) or 'no vectors'}, but the "
        f"model '{model.model}' makes `{model.vector_name}` of size {size}. Set "
        "`model` to the one it was loaded with, or materialize the asset, which embeds all "
        "rows anew.",
        {"model_size": size},
    )
