"""Keys that come more than once in a load, and the order of their rows.

dlt gives all rows of a key one id, ties nested rows to that id, and may spread the rows over files
whose order it does not keep. So that it can be told which row counts, and which nested rows are
its, a row whose key came before gets an id of its own when it is extracted. The id says how many
rows came before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dagster_qdrant.destination.tables.point_ids import canonical_json
from dagster_qdrant.destination.tables.rows import digest
from dagster_qdrant.destination.tables.table_plan import PLACE_MARK

_BYTES = 8 * 1024 * 1024
_PROBES = 4  # of four bytes of the fingerprint each


class RepeatedKeys:
    """Gives ids to rows whose key came before.

    The keys are remembered in a Bloom filter, 8 MiB however many they are. It takes a few new keys
    for repeated ones (of a million, ten). This does no harm: such a row is told apart from others
    that are not there.

    Example:
        >>> keys = RepeatedKeys()
        >>> [keys.row_id([1]), keys.row_id([2]), keys.row_id([1])]
        [None, None, 'ef6555d139bba0ca2326a50024344e1b#2']
    """

    def __init__(self) -> None:
        self._seen = bytearray(_BYTES)
        self._rows = 0

    def row_id(self, key: Sequence[Any]) -> str | None:
        """The id of the next row; None if its key is new, and dlt's own id will do.

        Args:
            key: The values of the row's key.
        """
        fingerprint = digest(canonical_json(list(key)))
        place = self._rows
        self._rows += 1
        return f"{fingerprint}{PLACE_MARK}{place}" if self._add(fingerprint) else None

    def _add(self, fingerprint: str) -> bool:
        """Remember a key, and tell whether it was there already."""
        known = True
        for probe in range(_PROBES):
            number = int(fingerprint[8 * probe : 8 * probe + 8], 16)
            byte, bit = divmod(number % (8 * _BYTES), 8)
            if not self._seen[byte] >> bit & 1:
                known = False
                self._seen[byte] |= 1 << bit
        return known
