"""How the texts of a table are cut into chunks, as it is asked for and as its chunks were made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster_qdrant.destination.tables.table_plan import TablePlan
from dagster_qdrant.embedding.options import EmbeddingOptions
from dagster_qdrant.qdrant.collections import CUT_FOR

# The columns that are embedded, and stand beside chunks too since they are indexed.
_BESIDE = "beside"


def cut_asked(plan: TablePlan, embedding: EmbeddingOptions) -> dict[str, Any]:
    """How texts are to be cut.

    Args:
        plan: The plan of a table that has chunks, or of its chunks.
        embedding: What embeds the chunks.
    """
    chunk = plan.chunk.to_json() if plan.chunk else {}
    return {
        "chunk": chunk,
        "chunked": list(plan.chunked),
        CUT_FOR: None if "function" in chunk else embedding.model,
        _BESIDE: sorted(plan.index.keys() & set(plan.chunked)),
    }


def cut_there(made: Mapping[str, Any]) -> dict[str, Any]:
    """How chunks were cut.

    Args:
        made: What their collection says of itself.
    """
    chunk, chunked = made.get("chunk") or {}, made.get("chunked") or []
    return {
        "chunk": chunk,
        "chunked": list(chunked),
        CUT_FOR: None if "function" in chunk else made.get(CUT_FOR),
        _BESIDE: sorted(set(made.get("index") or ()) & set(chunked)),
    }


def told(cut: Mapping[str, Any]) -> str:
    """What is to be said of it, to people."""
    if not cut["chunk"]:
        return "no chunks"
    how = [f"{name} {value!r}" for name, value in cut["chunk"].items()]
    columns = ", ".join(f"`{name}`" for name in cut["chunked"])
    model = f" for the model {cut[CUT_FOR]!r}" if cut[CUT_FOR] else ""
    beside = f", with {', '.join(f'`{name}`' for name in cut[_BESIDE])} beside" * bool(cut[_BESIDE])
    return f"chunks of {columns}{model} ({', '.join(how)}){beside}"
