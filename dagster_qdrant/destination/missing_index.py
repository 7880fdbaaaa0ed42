"""How Qdrant refuses a filter in strict mode, and what to do then."""

from __future__ import annotations

import re

# The column, and the types of indexes that would do.
_NEEDS_INDEX = re.compile(r'Index required but not found for "([^"]+)".*?: \[([^\]]*)\]')


def missing_index(words: str, what: str, collection: str) -> str | None:
    """What to do where strict mode refuses a filter, since a column has no payload index.

    Args:
        words: How Qdrant refused it.
        what: What filters.
        collection: What is filtered.

    Returns:
        None if it was refused for another reason.
    """
    found = _NEEDS_INDEX.search(words)
    if found is None:
        return None
    column, kinds = found[1], [kind.strip() for kind in found[2].split(",")]
    index = f"{{{column!r}: {kinds[0]!r}}}" if len(kinds) == 1 else f"[{column!r}]"
    return (
        f"{what[0].upper()}{what[1:]} needs a payload index on `{column}`, which `{collection}` "
        f"lacks. Declare it with `qdrant_adapter(..., index={index})`; the next load that brings "
        "rows makes it."
    )
