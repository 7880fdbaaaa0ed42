"""What another model, or other columns to embed, make of a collection that has rows already."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dlt.common.json import json

from dagster_qdrant.destination.configuration import QdrantDestinationConfiguration
from dagster_qdrant.destination.tables.hints import TableHint
from dagster_qdrant.destination.tables.keywords import Keywords
from dagster_qdrant.destination.tables.payload_indexes import as_decimal
from dagster_qdrant.destination.tables.rows import Fingerprints, Row
from dagster_qdrant.destination.tables.table_plan import TablePlan, is_hash_of_vector
from dagster_qdrant.destination.writing.load_counts import load_reports
from dagster_qdrant.destination.writing.progress import Progress
from dagster_qdrant.destination.writing.table_loader import TableLoader
from dagster_qdrant.embedding.embedder import load_embedder, vector_size
from dagster_qdrant.embedding.options import EmbeddingOptions
from dagster_qdrant.embedding.sparse import KEYWORD_VECTOR
from dagster_qdrant.errors import EmbeddingError, QdrantTerminalError, QdrantTransientError
from dagster_qdrant.qdrant.collections import ARE_CHUNKS, Collections, about, vector_params

if TYPE_CHECKING:
    from qdrant_client import models

logger = logging.getLogger(__name__)

_PAGE = 1024
_SAMPLE = 32


def has_vectors_for(
    plan: TablePlan, info: models.CollectionInfo, embedding: EmbeddingOptions
) -> bool:
    """Whether a collection can hold the vectors that a table asks for, and no others of ours."""
    has_keywords = KEYWORD_VECTOR in (info.config.params.sparse_vectors or {})
    if has_keywords is not bool(plan.keywords) or not _weighs_words(plan, info, embedding):
        return False
    if not _has_named_vectors(plan, info, embedding):
        return False
    if not plan.embed:
        return not about(info).get("embed")
    params = vector_params(info).get(embedding.vector_name)
    return params is not None and params.size == vector_size(embedding)


def _has_named_vectors(
    plan: TablePlan, info: models.CollectionInfo, embedding: EmbeddingOptions
) -> bool:
    """Whether a collection has the further vectors of a table, made as they shall be."""
    made, there = TableHint.read(about(info)).vectors, vector_params(info)
    return made.keys() == plan.vectors.keys() and all(
        name in there
        and there[name].size == vector_size(vector.options(embedding))
        and (there[name].multivector_config is not None) is vector.late_interaction
        and vector.is_made_as(made[name], embedding)
        for name, vector in plan.vectors.items()
    )


def is_outdated(plan: TablePlan, info: models.CollectionInfo, embedding: EmbeddingOptions) -> bool:
    """Whether a collection holds other vectors than it shall, or other decimals as numbers."""
    if about(info).get(ARE_CHUNKS) and not plan.chunk:  # they are not wanted, and go
        return False
    return not (
        _holds_texts(plan, info, embedding)
        and _has_named_vectors(plan, info, embedding)
        and _holds_keywords(plan, info)
        and _weighs_words(plan, info, embedding)
        and _holds_numbers(plan, info)
    )


def _holds_numbers(plan: TablePlan, info: models.CollectionInfo) -> bool:
    """Whether the decimals that are to be numbers, and no others, are numbers in all rows."""
    return sorted(about(info).get("numbers") or ()) == list(plan.numbers)


def _holds_texts(plan: TablePlan, info: models.CollectionInfo, embedding: EmbeddingOptions) -> bool:
    made = about(info)
    if not plan.embed:
        return not made.get("embed")
    params = vector_params(info).get(embedding.vector_name)
    if params is None or params.size != vector_size(embedding):
        return False
    # Collections of dlt's own destination, and those from before there were prefixes, have none.
    if made.get("passage_prefix", "") != embedding.prefixes.passage:
        return False
    asked = (embedding.model, list(plan.embed))
    return not made or (made.get("model"), made.get("embed")) == asked


def _holds_keywords(plan: TablePlan, info: models.CollectionInfo) -> bool:
    has_keywords = KEYWORD_VECTOR in (info.config.params.sparse_vectors or {})
    if plan.keywords is None or not has_keywords:
        return has_keywords is (plan.keywords is not None)
    return plan.keywords.fits(Keywords.of(about(info).get("keywords")))


def _weighs_words(
    plan: TablePlan, info: models.CollectionInfo, embedding: EmbeddingOptions
) -> bool:
    """Whether Qdrant weighs keywords by how rare they are, if they need it and only then."""
    params = (info.config.params.sparse_vectors or {}).get(KEYWORD_VECTOR)
    if params is None or plan.keywords is None or plan.keywords.model is None:
        return True
    return (params.modifier == "idf") is plan.keywords.has_idf(embedding)


def embed_again(
    collections: Collections, plan: TablePlan, config: QdrantDestinationConfiguration, load_id: str
) -> dict[str, int]:
    """Bring all rows of a collection into the one that takes its place. May be done again.

    What an attempt before had embedded is not embedded again.

    Args:
        collections: The dataset's collections.
        plan: The plan of the table, with another target.
        config: The destination's options.
        load_id: The load that is under way.

    Returns:
        How many rows of each load the collection had, for `refuse_change`.

    Raises:
        QdrantTransientError: If the collection changes meanwhile.
    """
    rows_by_load = collections.values(plan.collection, plan.load_id)
    total = collections.count(plan.collection)
    _announce(collections, plan, config, total)
    as_they_are = replace(plan, write_disposition="append", hard_delete=None)
    loader = TableLoader(collections, as_they_are, config, load_id)
    with Progress(f"{plan.table_name}, again", total).shown() as report:
        loader.load(_windows(collections, plan, config.embedding), report)
    load_reports.add(load_id, plan.table_name, loader.counts.of_texts())
    _remove_others(collections, plan)
    if collections.count(plan.target) != total:
        raise QdrantTransientError(_changed(plan.collection))
    return rows_by_load


def refuse_change(
    collections: Collections, collection: str, load_id_field: str, rows_by_load: dict[str, int]
) -> None:
    """See that nobody loaded into a collection since it was embedded again.

    Raises:
        QdrantTransientError: If somebody did, whose rows would be lost with it.
    """
    if collections.values(collection, load_id_field) != rows_by_load:
        raise QdrantTransientError(_changed(collection))


def _changed(collection: str) -> str:
    return (
        f"Another load changed collection `{collection}` while it was embedded again. Run this "
        "load again; it reuses the vectors that it made. (Without Dagster, drop the load first: "
        "`dlt pipeline ... abort-packages`.)"
    )


def _remove_others(collections: Collections, plan: TablePlan) -> None:
    """Remove points that an attempt before brought and that the collection does not have."""
    from qdrant_client import models

    client, request = collections.connection.client, collections.connection.request
    for records in collections.pages(plan.target, payload=False, page=_PAGE):
        ids = [record.id for record in records]
        found = request(client.retrieve, plan.collection, ids=ids, with_payload=False)
        if others := sorted({str(each) for each in ids} - {str(record.id) for record in found}):
            selector = models.PointIdsList(points=list(others))
            request(client.delete, plan.target, points_selector=selector, wait=True)


def _windows(
    collections: Collections, plan: TablePlan, embedding: EmbeddingOptions
) -> Iterator[list[Row]]:
    made_by = Fingerprints.of(plan, embedding)
    info = collections.describe(plan.collection)
    numbers = TableHint.read(about(info)).numbers if info else ()
    no_numbers_now = set(numbers) - set(plan.numbers)
    for records in collections.pages(plan.collection, payload=True, page=plan.rows_at_once):
        payloads = [(str(record.id), _without_hashes(record.payload or {})) for record in records]
        for _, payload in payloads:
            for name in no_numbers_now & payload.keys():
                payload[name] = as_decimal(payload[name])
        yield [
            Row.of(payload, plan, made_by, size=len(json.dumpb(payload)), point_id=point_id)
            for point_id, payload in payloads
        ]


def _without_hashes(payload: dict[str, Any]) -> dict[str, Any]:
    """A row without the fingerprints of vectors that it had, some of which it may have no more."""
    return {name: value for name, value in payload.items() if not is_hash_of_vector(name)}


def _announce(
    collections: Collections,
    plan: TablePlan,
    config: QdrantDestinationConfiguration,
    total: int,
) -> None:
    """Say what is going to be done and, from a sample, how long it takes."""
    before = collections.describe(plan.collection)
    made = about(before) if before else {}
    if before and _holds_texts(plan, before, config.embedding):
        logger.warning(
            "Collection `%s` gets other %s. Its %d points are copied with the vectors that "
            "they have%s. The former ones can be searched until then.",
            plan.collection,
            _what_changes(plan, before, config.embedding),
            total,
            "" if _has_named_vectors(plan, before, config.embedding) else ", and get the new ones",
        )
        return
    if plan.chunks:
        logger.warning(
            "Collection `%s` gets vectors of chunks, which are in `%s`. Its %d points are written "
            "without.",
            plan.collection,
            plan.chunks,
            total,
        )
        return
    if not plan.embed:
        logger.warning(
            "Collection `%s` was embedded with %s of %s, which no hint asks for any more. Its %d "
            "points are written without %svectors. (To keep them, wrap the resource with "
            "`qdrant_adapter(resource, embed=[...])`, each time that it is loaded.)",
            plan.collection,
            made.get("model", "a model"),
            _columns(made.get("embed")),
            total,
            "these " if plan.vectors else "",
        )
        return
    sample = next(_windows(collections, plan, config.embedding), [])[:_SAMPLE]
    texts = [row.text for row in sample if row.text]
    try:
        embedder = load_embedder(config.embedding)
        start = time.monotonic()
        embedder.embed(texts)
    except EmbeddingError as error:
        raise QdrantTerminalError(f"Table `{plan.table_name}`: {error}") from error
    seconds = (time.monotonic() - start) * total / max(1, len(sample))
    logger.warning(
        "Collection `%s` was embedded with %s of %s%s. Now %s of %s%s is asked for. All of its "
        "%d points are embedded again, in about %s. The former ones can be searched until then.",
        plan.collection,
        made.get("model", "another model"),
        _columns(made.get("embed")),
        _after(made.get("passage_prefix", "")),
        config.model,
        _columns(plan.embed),
        _after(config.embedding.prefixes.passage),
        total,
        f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s",
    )


def _what_changes(
    plan: TablePlan, before: models.CollectionInfo, embedding: EmbeddingOptions
) -> str:
    """What a collection gets, where its main vectors stay as they are."""
    if not _has_named_vectors(plan, before, embedding):
        return "vectors beside the main one"
    if not _holds_keywords(plan, before):
        return "keywords"
    return "indexes of decimals, and stores indexed decimals as numbers"


def _columns(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names or ()) or "no column that is known"


def _after(prefix: str) -> str:
    return f" after the prefix {prefix!r}" if prefix else ""
