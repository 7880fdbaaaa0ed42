"""The order in which a person reads what a materialization shows: what matters most comes first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster import MetadataValue

from dagster_qdrant.pages.markdown import table, windowed

# What somebody looks at after every load.
_FIRST = (
    "summary",
    "dagster/partition_row_count",
    "dagster/row_count",
    "preview",
    "nearest",
    "vector_map",
    "tables",
    "shared_tables",
    "rows_loaded",
    "rows_embedded",
    "rows_reused",
    "rows_without_text",
    "rows_deleted",
    "points_written",
    "points_unchanged",
)
# What checks and data versions compare with later.
_LAST = ("details", "load_id", "rows_by_table", "points_of_load")

# What somebody looks up once in a while, in one window: its name there, and its unit.
_DETAILS = {
    "dataset": ("dataset", ""),
    "collection": ("collection", ""),
    "write_disposition": ("write disposition", ""),
    "model": ("model", ""),
    "vector_name": ("vector", ""),
    "vector_size": ("size of the vector", "dimensions"),
    "points_payload_only": ("points whose payload alone was written", "points"),
    "rows_per_second": ("speed of the embedding", "rows/s"),
    "seconds_sync": ("restoring dlt's state", "s"),
    "seconds_extract": ("reading the source", "s"),
    "seconds_normalize": ("normalizing", "s"),
    "seconds_cut": ("cutting into parts for workers", "s"),
    "seconds_load": ("loading, with embedding and writing", "s"),
}


def arranged(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata in order, with what is seldom looked at as one entry, `details`.

    Args:
        metadata: The entries by name. The UI plots numbers by it, so names stay.
    """
    details = [
        {"": name, "value": _with_unit(metadata[key], unit)}
        for key, (name, unit) in _DETAILS.items()
        if key in metadata
    ]
    rest = {name: entry for name, entry in metadata.items() if name not in _DETAILS}
    if details:
        text = table(details, first=["", "value"], most=2, width=100)
        rest["details"] = MetadataValue.md(windowed(text))
    middle = [name for name in rest if name not in _FIRST and name not in _LAST]
    return {name: rest[name] for name in (*_FIRST, *middle, *_LAST) if name in rest}


def summary(numbers: Mapping[str, Any], seconds: Mapping[str, float]) -> str:
    """A load in one sentence.

    Args:
        numbers: What was done with the rows; not all of it is known of tables that others fill too.
        seconds: How long each step took.

    Example:
        >>> numbers = {"rows_loaded": 1200, "rows_embedded": 3, "rows_reused": 1197}
        >>> summary(numbers, {"extract": 0.5, "load": 1.5})
        '1,200 rows loaded in 2.0 s: 3 embedded, 1,197 reused.'
    """
    done = [
        f"{numbers[name]:,} {words}"
        for name, words in (
            ("rows_embedded", "embedded"),
            ("rows_reused", "reused"),
            ("chunks_embedded", "chunks embedded"),
            ("chunks_reused", "chunks reused"),
            ("points_unchanged", "points unchanged"),
            ("rows_deleted", "deleted"),
            ("rows_without_text", "without text"),
            ("texts_cut", "texts cut"),
        )
        if numbers.get(name) or (name in ("rows_embedded", "chunks_embedded") and name in numbers)
    ]
    rows = numbers["rows_loaded"]
    what = f"{rows:,} {'row' if rows == 1 else 'rows'} loaded in {sum(seconds.values()):.1f} s"
    return f"{what}: {', '.join(done)}." if done else f"{what}."


def _with_unit(value: Any, unit: str) -> str:
    shown = f"{value:,}" if isinstance(value, (int, float)) else str(value)
    return f"{shown} {unit}".strip()
