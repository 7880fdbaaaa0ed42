"""Row -> point id. The same row always has the same id, two rows never share one.

dlt's own destination joins key columns with "_", so ("a_b", "c") and ("a", "b_c") become one
point. Its ids for keys of a single column are kept, so that data it loaded is updated, not doubled.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from dagster_qdrant.destination.tables.typed_values import DECIMALS, shortest_decimal

# The Python types in which dlt hands over a value of a column's type. Only the types in whose text
# no two values look alike; keys of other types get the unambiguous encoding.
_PLAIN_TYPES: Mapping[str, type] = {
    "text": str,
    "bigint": int,
    "double": float,
    "timestamp": str,
    "date": str,
    "time": str,
    "decimal": str,
    "wei": str,
    "binary": str,
    "bool": bool,
}


_NAMESPACE = uuid.NAMESPACE_DNS.bytes

# Made once: `json.dumps` would make one for each value.
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str)


def key_point_id(collection: str, values: Sequence[Any], types: Sequence[str | None]) -> str:
    """The id of a row that has a key.

    Args:
        collection: Name of the collection.
        values: The key's values, in the order of the table's columns.
        types: dlt's data types of these columns.

    Returns:
        A UUID as text. For one column whose value has the column's type, it equals the id that
        dlt's own Qdrant destination gives, but for decimals with zeros at their end.

    Example:
        >>> key_point_id("movies", [1], ["bigint"]) == key_point_id("movies", ["1"], ["bigint"])
        False
    """
    values = key_values(values, types)
    if len(values) == 1 and type(values[0]) is _PLAIN_TYPES.get(types[0] or ""):
        return _uuid5(f"{collection}{values[0]}")
    return content_point_id(collection, values)


def key_values(values: Sequence[Any], types: Sequence[str | None]) -> list[Any]:
    """The values of a key, the same for the same key.

    Args:
        values: The values as a row has them.
        types: dlt's data types of their columns.
    """
    if DECIMALS.isdisjoint(types):
        return list(values)
    return [
        shortest_decimal(value) if data_type in DECIMALS and isinstance(value, str) else value
        for value, data_type in zip(values, types, strict=True)
    ]


def content_point_id(collection: str, content: Any, occurrence: int = 0) -> str:
    """The id of a row that is told from others by its content alone.

    Args:
        collection: Name of the collection.
        content: What of the row counts, as JSON can hold it.
        occurrence: How many rows with the same content came before this one.

    Returns:
        A UUID as text.
    """
    text = canonical_json([content, occurrence] if occurrence else content)
    # The zero byte keeps these apart from ids of plain keys: no text that dlt loads holds one.
    return _uuid5(f"{collection}\0{text}")


def _uuid5(name: str) -> str:
    """`uuid.uuid5(uuid.NAMESPACE_DNS, name)` as text, in half the time."""
    digest = bytearray(hashlib.sha1(_NAMESPACE + name.encode()).digest()[:16])  # noqa: S324
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def canonical_json(value: Any) -> str:
    """JSON text that is the same for equal values and differs for different ones."""
    return _ENCODER.encode(value)
