"""Checks of what tables that are searched have: vectors, by which their rows are found.

Each reads a bounded part of the collection and changes nothing.
"""

from __future__ import annotations

import heapq

from dagster_qdrant.destination.tables.rows import embedding_text
from dagster_qdrant.destination.writing.table_collection import TEXTS_MISSING
from dagster_qdrant.embedding.embedder import load_embedder, vector_size
from dagster_qdrant.errors import EmbeddingError
from dagster_qdrant.qdrant.collections import about, vector_params
from dagster_qdrant.runs.checked_table import CheckedTable, Finding
from dagster_qdrant.runs.checked_vector import CheckedVector, numbers_in

# How many of the longest texts that were read are embedded, to see whether they are cut.
_TRIED_TEXTS = 3
# The most texts that are read of a table with chunks.
_READ_TEXTS = 256


def all_vectors_present(table: CheckedTable) -> Finding:
    """A point that was loaded with a text has a vector, and the last load had texts at all."""
    numbers: dict[str, int] = {}
    lacking: str | None = None
    for vector in table.vectors:
        if vector.keywords:  # these have a check of their own
            continue
        if vector.is_main:
            without = table.points_have_vector(vector.name, False)
            numbers["points_without_vector"] = table.collections.count(table.collection, without)
        missing = table.points_have_vector(vector.name, False, with_text=vector.hash_field)
        count = table.collections.count(table.collection, missing)
        numbers[vector.number("vectors_missing")] = count
        if count and lacking is None:
            [example] = table.scroll(table.collection, 1, missing, payload=[])
            lacking = (
                f"{count} rows were loaded with a text and have no {vector.told}, say point "
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


def vectors_valid(table: CheckedTable) -> Finding:
    """Vectors have the model's size; those of a sample are finite and not zero."""
    import numpy as np

    numbers: dict[str, int] = {}
    wrong: str | None = None
    for vector in table.vectors:
        sample = {id_: numbers_in(stored) for id_, (_, stored) in table.sample_of(vector).items()}
        unfit = [
            id_ for id_, each in sample.items() if not np.isfinite(each).all() or not each.any()
        ]
        if vector.options and not vector.keywords:
            numbers[vector.number("vector_size")] = vector_size(vector.options)
        numbers |= {
            vector.number("vectors_read"): len(sample),
            vector.number("vectors_unfit"): len(unfit),
        }
        if unfit and wrong is None:
            of = "" if vector.is_main else f" `{vector.name}`"
            wrong = (
                f"{len(unfit)} of {len(sample)} vectors{of} are zero or not finite, so no search "
                f"finds them, say that of point {unfit[0]}. Delete such points and materialize the "
                "asset."
            )
    if wrong is None:
        return Finding(True, "Vectors have the model's size and are finite.", numbers)
    return Finding(False, wrong, numbers)


def no_text_cut(table: CheckedTable) -> Finding:
    """The last load cut no text, nor is one of the longest texts of a sample too long."""
    cut_by_load = table.last_load.texts_cut if table.last_load else 0
    numbers = {"texts_cut_by_last_load": cut_by_load}
    windows, examples = set[str](), list[str]()
    for vector in table.vectors:
        if vector.options is None:  # which takes texts of any length
            continue
        texts = [(row.text, row.id) for row in table.texts_of(vector)]
        tried = heapq.nlargest(_TRIED_TEXTS, texts, key=lambda each: len(each[0]))
        try:
            embedder = load_embedder(vector.options)
            in_work = embedder.start([text for text, _ in tried])
            in_work.result()
        except EmbeddingError as error:
            return Finding(False, f"The model could not be loaded: {error}")
        numbers |= {
            vector.number("texts_read"): len(texts),
            vector.number("tokens_cut_of_longest"): max(in_work.cut.values(), default=0),
        }
        if in_work.cut or cut_by_load:
            windows |= {f" of {embedder.max_tokens:,} tokens"} if embedder.max_tokens else set()
            examples += [f", say that of point {tried[min(in_work.cut)][1]}"] if in_work.cut else []
    if not examples and not cut_by_load:
        return Finding(True, "No text is longer than the model's window.", numbers)
    window = windows.pop() if len(windows) == 1 else ""
    return Finding(
        False,
        f"Texts are longer than the model's window{window}{next(iter(examples), '')}, so searches "
        "do not find what was cut off. Set `chunk=True` in `qdrant_adapter`, embed fewer columns, "
        "or take a model with a larger window.",
        numbers,
    )


def unfit_vectors(table: CheckedTable) -> Finding | None:
    """Why the vectors cannot be those of the models; None if they can."""
    for vector in table.vectors:
        said = _why_unfit(table, vector)
        if said is not None:
            return said
    return None


def _why_unfit(table: CheckedTable, vector: CheckedVector) -> Finding | None:
    vectors, model = vector_params(table.info), vector.options
    lost = Finding(
        False,
        f"Collection `{table.collection}` has no vector `{vector.name}` any more. Materialize the "
        "asset, which makes it anew.",
    )
    if vector.keywords or model is None:
        there = table.info.config.params.sparse_vectors or {}
        return None if vector.name in there else lost
    params = vectors.get(vector.name)
    if params is None and not vector.is_main:
        return lost
    try:
        size = vector_size(model)
    except EmbeddingError as error:
        return Finding(False, str(error))
    if params and params.size == size:
        return None
    holds = [f"`{name}` of size {each.size}" for name, each in vectors.items()]
    return Finding(
        False,
        f"Collection `{table.collection}` has {' and '.join(holds) or 'no vectors'}, but the "
        f"model '{model.model}' makes `{vector.name}` of size {size}. Set "
        "`model` to the one it was loaded with, or materialize the asset, which embeds all "
        "rows anew.",
        {"model_size": size},
    )
