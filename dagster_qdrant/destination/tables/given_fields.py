"""Fields that a user gives as a dict, in the place of an object that has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any


def unknown_fields(given: Mapping[Any, Any], kind: type[Any]) -> str | None:
    """What to say of fields that there are not; None if there are all.

    Args:
        given: The fields.
        kind: The data class that has them.

    Examples:
        >>> from dagster_qdrant import Rerank
        >>> unknown_fields({"modle": "x"}, Rerank)
        'has `modle`; it may have `model`, `candidates`, `columns`, `model_path`'
    """
    known = [field.name for field in fields(kind)]
    unknown = sorted(map(str, given.keys() - set(known)))
    if not unknown:
        return None
    has, may_have = (", ".join(f"`{name}`" for name in names) for names in (unknown, known))
    return f"has {has}; it may have {may_have}"
