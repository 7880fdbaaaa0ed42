"""What an embedding service has to give, asked of it before anything is written."""

from __future__ import annotations

from dagster_qdrant.destination.tables.table_plan import TablePlan
from dagster_qdrant.embedding.embedder import load_embedder, vector_size
from dagster_qdrant.embedding.options import EmbeddingOptions
from dagster_qdrant.errors import EmbeddingError, QdrantConfigurationError, QdrantTerminalError
from dagster_qdrant.qdrant.collections import Collections, about, vector_params


def refuse_unfit_service(
    plan: TablePlan, collections: Collections, embedding: EmbeddingOptions, *, is_new_table: bool
) -> None:
    """A service has to have the model, and to give vectors of the size that it gave before.

    It is asked before a collection is made for vectors that it may not give. A table that is there
    may have no new text, and then needs no service if the size of its vectors is set.

    Args:
        plan: The plan of the table.
        collections: The dataset's collections.
        embedding: The model, and where it is.
        is_new_table: Whether the table has no collection.

    Raises:
        QdrantConfigurationError: If it does not have the model, or refuses the key.
        QdrantTerminalError: If it gives vectors of another size than before, unasked.
        EmbeddingServiceError: If it cannot be reached, or fails.
    """
    if embedding.service is None:
        return
    models = {embedding.vector_name: embedding} if plan.embed else {}
    models |= {name: vector.options(embedding) for name, vector in plan.vectors.items()}
    for name, model in models.items():
        if is_new_table:
            try:
                load_embedder(model)
            except EmbeddingError as error:
                raise QdrantConfigurationError(f"Table `{plan.table_name}`: {error}") from error
        elif model.service and not model.service.dimensions:
            _refuse_other_size(plan, collections, model, name)


def _refuse_other_size(
    plan: TablePlan, collections: Collections, model: EmbeddingOptions, name: str
) -> None:
    info = collections.describe(plan.collection)
    held = vector_params(info).get(name) if info else None
    if info is None or held is None:
        return
    made = (about(info).get("vectors") or {}).get(name, about(info)).get("model")
    if made != model.model:
        return
    size = vector_size(model)
    if held.size != size and collections.count(plan.collection):
        raise QdrantTerminalError(
            f"Collection `{plan.collection}` holds vectors of {held.size} dimensions that model "
            f"'{model.model}' made, and the embedding service at {model.service} gives "
            f"vectors of {size} dimensions for it now. If it has another model, let it have the "
            f"former again, or set `model` to the new one's name. If {size} is right, set "
            f"`{'embedding_dimensions' if name == model.vector_name else 'dimensions'}` to it. "
            "Then all rows are embedded again."
        )
