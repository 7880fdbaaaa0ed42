"""The collection that a table is loaded into, made as the table's plan asks for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from dagster_qdrant.destination.tables.chunks import NAMES
from dagster_qdrant.destination.tables.hints import TableHint
from dagster_qdrant.destination.tables.table_plan import TablePlan
from dagster_qdrant.embedding.embedder import vector_size
from dagster_qdrant.embedding.options import EmbeddingOptions
from dagster_qdrant.embedding.sparse import KEYWORD_VECTOR
from dagster_qdrant.qdrant.asked_settings import NamedVectorParams, fixed_differences
from dagster_qdrant.qdrant.collections import ARE_CHUNKS, CHUNKS_IN, CUT_FOR, Collections, about

# In a collection's metadata: what was seen in a load without any text, until one has a text.
TEXTS_MISSING = "texts_missing"

if TYPE_CHECKING:
    from qdrant_client import models


def ensure_collection(
    collections: Collections,
    plan: TablePlan,
    embedding: EmbeddingOptions,
    former: models.CollectionInfo | None = None,
) -> None:
    """See that the collection which a table is loaded into is there, with its indexes.

    One that is going to take the place of another has all settings of that.

    Args:
        collections: The dataset's collections.
        plan: The plan of the table.
        embedding: The model whose vectors it holds, if columns are embedded.
        former: What was under its name before. Default: the one whose place it takes, if any.
    """
    if former is None and plan.former:
        former = collections.describe(plan.former)
    made: dict[str, Any] = {"dataset": collections.dataset_name, "table": plan.table_name}
    vectors: dict[str, int] = {}
    if plan.chunk:
        made[CUT_FOR] = embedding.model
        made |= {CHUNKS_IN: plan.chunks} if plan.chunks else {ARE_CHUNKS: True}
        if unusual := plan.chunk_names.to_json():
            made[NAMES] = unusual
    if plan.embed:
        made |= {
            "model": embedding.model,
            "query_prefix": embedding.prefixes.query,
            "passage_prefix": embedding.prefixes.passage,
        }
        if embedding.service and embedding.service.dimensions:  # what a search asks for too
            made["dimensions"] = embedding.service.dimensions
        vectors = {embedding.vector_name: vector_size(embedding)}
    if (plan.text_columns or plan.vectors) and former and TEXTS_MISSING in about(former):
        made[TEXTS_MISSING] = about(former)[TEXTS_MISSING]
    settled = {name: each.settled(embedding) for name, each in plan.vectors.items()}
    before = TableHint.read(about(former)).vectors if former else {}
    collections.ensure(
        plan.target,
        metadata=made | replace(plan.said, vectors=settled).to_hint(),
        vectors=vectors,
        named_vectors={
            name: NamedVectorParams(
                vector_size(each.options(embedding)),
                each.settings,
                each.late_interaction,
                frozenset(before[name].settings) if name in before else frozenset(),
            )
            for name, each in plan.vectors.items()
        },
        keyword_vectors=(
            {KEYWORD_VECTOR: plan.keywords.has_idf(embedding)} if plan.keywords else {}
        ),
        indexes=plan.indexes,
        settings=plan.settings,
        former=former,
    )


def ensure_collections(
    collections: Collections, plans: Iterable[TablePlan], embedding: EmbeddingOptions
) -> None:
    """See that the collections of some tables are there, some tables at once.

    Args:
        collections: The dataset's collections.
        plans: The plans of the tables.
        embedding: The model whose vectors they hold.
    """
    collections.connection.at_once(
        partial(ensure_collection, collections, plan, embedding) for plan in plans
    )


def fixed_differences_of(
    plan: TablePlan,
    info: models.CollectionInfo,
    embedding: EmbeddingOptions,
    collections: Collections,
) -> dict[str, tuple[Any, Any]]:
    """The settings that a table asks for and that its collection cannot be given any more."""
    is_local = collections.connection.is_local
    return fixed_differences(plan.settings, info, embedding.vector_name, is_local=is_local)
