"""Keys that come more than once in a load, and the order of their rows.

dlt gives all rows of a key one id, ties nested rows to that id, and may spread the rows over files
whose order it does not keep. So that it can be told which row counts, and which nested rows are
its, a row whose key came before gets an id of its own when it is extracted. The id says how many
rows came before it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from weakref import WeakValueDictionary

from dagster_qdrant.destination.tables.point_ids import canonical_json
from dagster_qdrant.destination.tables.rows import digest
from dagster_qdrant.destination.tables.table_plan import PLACE_MARK
from dagster_qdrant.destination.tables.typed_values import shortest_decimal

_BYTES = 8 * 1024 * 1024  # a power of two
_PROBES = 4


class RepeatedKeys:
    """Gives ids to rows, from which it can be told whether their key came before.

    The keys are remembered in a Bloom filter, 8 MiB however many they are. It takes a few new keys
    for repeated ones (of a million, ten). This does no harm: such a row is told apart from others
    that are not there.

    Example:
        >>> keys = RepeatedKeys()
        >>> [keys.place("films", [1]), keys.place("films", [2]), keys.place("films", [1])]
        [None, None, 2]
    """

    def __init__(self) -> None:
        self._seen = bytearray(_BYTES)
        self._rows: dict[str, int] = defaultdict(int)

    @staticmethod
    def of_load(load_id: str) -> RepeatedKeys:
        """Those of a load, which all resources share that bring rows of one table.

        Args:
            load_id: dlt's id of the load that is extracted.
        """
        keys = _of_loads.get(load_id)
        if keys is None:
            keys = _of_loads[load_id] = RepeatedKeys()
        return keys

    def place(self, table: str, key: Sequence[Any]) -> int | None:
        """How many rows of its table came before the next row; None if its key is new.

        Args:
            table: The table.
            key: The values of the row's key.
        """
        place = self._rows[table]
        self._rows[table] += 1
        return place if self._add(hash((table, *_alike(key)))) else None

    def _add(self, fingerprint: int) -> bool:
        """Remember a key, and tell whether it was there already."""
        known, seen = True, self._seen
        step = fingerprint >> 32 | 1  # from one probe to the next
        for _ in range(_PROBES):
            byte, bit = fingerprint >> 3 & _BYTES - 1, 1 << (fingerprint & 7)
            if not seen[byte] & bit:
                known = False
                seen[byte] |= bit
            fingerprint += step
        return known


# A load's are gone with the last step of an extraction that uses them.
_of_loads: WeakValueDictionary[str, RepeatedKeys] = WeakValueDictionary()


def row_id(key: Sequence[Any], place: int | None) -> str:
    """The id of a row that has a key.

    Args:
        key: The values of the key.
        place: How many rows came before it, if its key did.

    Example:
        >>> row_id([1], 2)
        '22e76cabb5eac9fa74fd8dda4d1d7961#2'
    """
    fingerprint = digest(canonical_json(_alike(key)))
    return fingerprint if place is None else f"{fingerprint}{PLACE_MARK}{place}"


def _alike(key: Sequence[Any]) -> list[str]:
    """The values as text: dlt brings those of a column to one type, so 1 and "1" may be one key."""
    return [_text(value) for value in key]


def _text(value: Any) -> str:
    if isinstance(value, Decimal):
        return shortest_decimal(value)
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)
