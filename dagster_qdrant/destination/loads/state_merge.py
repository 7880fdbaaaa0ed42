"""Pipeline states of loads that ran at the same time, brought together.

dlt keeps the state of all resources of a pipeline in one row. A load that began from an older state
than the newest would take back what others have loaded since.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

_MISSING = object()

# The states from which loads of this process began, by load, for those who want them merged.
base_states: dict[str, Mapping[str, Any]] = {}


def merge_states(
    base: Mapping[str, Any], mine: Mapping[str, Any], theirs: Mapping[str, Any]
) -> dict[str, Any]:
    """A pipeline's state with the changes of two loads.

    Args:
        base: The state from which one load began.
        mine: The state that it came to.
        theirs: The state that another load came to meanwhile.

    Returns:
        For each source and resource what one of them changed; mine, where both did.
    """
    sources = _merge(base, mine, theirs, "sources", depth=4)
    rest = {key: value for key, value in mine.items() if key != "sources"}
    return deepcopy(rest | ({} if sources is _MISSING else {"sources": sources}))


def _merge(base: Any, mine: Any, theirs: Any, key: str, depth: int) -> Any:
    """Merge what is under a key: the sources, a source, its resources, a resource."""
    base, mine, theirs = (
        part.get(key, _MISSING) if isinstance(part, Mapping) else _MISSING
        for part in (base, mine, theirs)
    )
    if mine == base:
        return theirs
    if theirs == base or depth == 1 or not isinstance(mine, Mapping) or theirs is _MISSING:
        return mine
    keys = [*mine, *(key for key in theirs if key not in mine)]
    merged = {key: _merge(base, mine, theirs, key, depth - 1) for key in keys}
    return {key: value for key, value in merged.items() if value is not _MISSING}
