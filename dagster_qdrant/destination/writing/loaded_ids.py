"""Which points the rows of a load are: by that it is known which rows it did not bring.

A replace removes the rows that it did not bring, a merge the nested rows that their root no longer
has. To find them, each row that is there could be marked with the load; but then a load would write
all that it finds unchanged. So the ids of what it brings are kept in memory, 16 bytes a row. They
go with the process. Another one that goes on with the load reads its files again, which stay until
it is complete.

A load may bring rows that are equal, or that share a key which does not tell them apart. They are
numbered in the order in which they come, and an id follows from the number. In whatever order files
are loaded, and however often one is tried: of N rows all numbers below N are taken once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dagster_qdrant.destination.tables.rows import Row
from dagster_qdrant.destination.tables.table_plan import TablePlan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BYTES = 16
_TYPE = f"S{_BYTES}"
# The least ids that are sorted in at once.
_RECENT = 65_536


class IdSet:
    """A set of UUIDs, as bytes, that takes little more memory than these.

    Example:
        >>> ids = IdSet()
        >>> ids.add([b"0123456789abcdef"])
        >>> ids.found([b"0123456789abcdef", b"abcdef0123456789"])
        [True, False]
    """

    def __init__(self) -> None:
        import numpy as np

        self._sorted: NDArray[np.bytes_] = np.empty(0, dtype=_TYPE)
        self._recent: set[bytes] = set()  # none of these is among the sorted ones

    def __len__(self) -> int:
        return len(self._sorted) + len(self._recent)

    def add(self, ids: Sequence[bytes]) -> None:
        """Take ids in; those that are there already change nothing."""
        there = self._among_sorted(ids)
        self._recent.update(each for each, known in zip(ids, there, strict=True) if not known)
        if len(self._recent) >= max(_RECENT, len(self._sorted) // 4):
            self._sort_in()

    def update(self, other: IdSet) -> None:
        """Take in the ids of another set."""
        import numpy as np

        self._sort_in()
        other._sort_in()
        self._sorted = np.union1d(self._sorted, other._sorted)

    def found(self, ids: Sequence[bytes]) -> list[bool]:
        """Whether each of some ids is in the set."""
        there = self._among_sorted(ids)
        return [known or each in self._recent for each, known in zip(ids, there, strict=True)]

    def others(self, point_ids: Iterable[Any]) -> list[Any]:
        """Those of some points' ids that are not in the set; numbers never are."""
        names = list(point_ids)
        known = self.found([as_bytes(name) for name in names if isinstance(name, str)])
        there = iter(known)
        return [name for name in names if not (isinstance(name, str) and next(there))]

    def shared(self, other: IdSet) -> list[bytes]:
        """The ids that are in another set too."""
        import numpy as np

        self._sort_in()
        other._sort_in()
        both = np.intersect1d(self._sorted, other._sorted, assume_unique=True)
        # numpy takes zeros at the end for none.
        return [bytes(each).ljust(_BYTES, b"\0") for each in both]

    def _among_sorted(self, ids: Sequence[bytes]) -> list[bool]:
        import numpy as np

        if not len(self._sorted):
            return [False] * len(ids)
        wanted = np.array(ids, dtype=_TYPE)
        places = np.searchsorted(self._sorted, wanted)
        places[places == len(self._sorted)] = 0
        there: list[bool] = (self._sorted[places] == wanted).tolist()
        return there

    def _sort_in(self) -> None:
        import numpy as np

        if self._recent:
            recent = np.array(sorted(self._recent), dtype=_TYPE)
            self._sorted = np.concatenate([self._sorted, recent])
            self._sorted.sort(kind="stable")  # which is quick where parts are sorted
            self._recent = set()


@dataclass
class _Part:
    """The rows of some files of a load."""

    ids: IdSet = field(default_factory=IdSet)
    # How many rows have the key or content that an id stands for, where that is more than one.
    repeated: dict[bytes, int] = field(default_factory=dict)
    is_complete: bool = False

    def times(self, id_: bytes) -> int:
        """How many rows have the key or content that an id in it stands for."""
        return self.repeated.get(id_, 1)

    def take_in(self, other: _Part, *, counts: bool) -> None:
        """Take in the rows of other files."""
        if counts:
            shared = {id_: self.times(id_) + other.times(id_) for id_ in self.ids.shared(other.ids)}
            self.repeated |= other.repeated | shared
        self.ids.update(other.ids)


class LoadedIds:
    """The ids of the points that the rows of one table are, in one load.

    Args:
        counts: Whether rows are numbered that are equal or share a key.
    """

    def __init__(self, *, counts: bool) -> None:
        self._counts = counts
        self._guard = threading.Lock()
        self._earlier = _Part()
        self._joined: set[str] = set()  # the files that it is made of
        self._parts: dict[str, _Part] = {}  # of the files that were begun last

    @property
    def complete_files(self) -> set[str]:
        """The files that were read to their end."""
        return self._joined | {file for file, part in self._parts.items() if part.is_complete}

    def may_begin(self, file: str) -> bool:
        """Whether a file may be begun. It may be begun anew until another one is, too."""
        return file not in self._joined

    def begin(self, file: str) -> FileIds:
        """Begin with a file, anew if an attempt to load it failed.

        Args:
            file: What tells it from the other files of the table.
        """
        with self._guard:
            self._parts.pop(file, None)
            self._join()
            part = self._parts[file] = _Part()
        return FileIds(self, part)

    def all(self) -> IdSet:
        """The ids of all rows, once all files are complete."""
        with self._guard:
            self._join()
            return self._earlier.ids

    def _join(self) -> None:
        for file in [file for file, part in self._parts.items() if part.is_complete]:
            self._earlier.take_in(self._parts.pop(file), counts=self._counts)
            self._joined.add(file)

    def add(self, part: _Part, point_ids: Sequence[str]) -> set[str]:
        """Take in the ids of rows of a file, and tell those that rows of the load had before."""
        ids = [as_bytes(point_id) for point_id in point_ids]
        with self._guard:
            there = self._among_all(ids)
            part.ids.add(ids)
        return {point_id for point_id, known in zip(point_ids, there, strict=True) if known}

    def number(self, part: _Part, point_ids: Sequence[str]) -> list[int]:
        """Take in the ids of rows of a file, and tell how many rows had each before."""
        ids = [as_bytes(point_id) for point_id in point_ids]
        numbers: list[int] = []
        own: set[bytes] = set()
        with self._guard:
            others = [self._earlier, *(each for each in self._parts.values() if each is not part)]
            for id_, known in zip(ids, self._among_all(ids), strict=True):
                if not known and id_ not in own:
                    numbers.append(0)
                else:
                    is_own = id_ in own or part.ids.found([id_])[0]
                    before = part.times(id_) if is_own else 0
                    elsewhere = (other.times(id_) for other in others if other.ids.found([id_])[0])
                    numbers.append(before + sum(elsewhere))
                    part.repeated[id_] = before + 1
                own.add(id_)
            part.ids.add(ids)
        return numbers

    def _among_all(self, ids: Sequence[bytes]) -> list[bool]:
        parts = [self._earlier, *self._parts.values()]
        return [any(found) for found in zip(*(part.ids.found(ids) for part in parts), strict=True)]


class FileIds:
    """The ids of the points that the rows of one file are.

    Args:
        loaded: Those of all files of the table.
        part: Its part of them.
    """

    def __init__(self, loaded: LoadedIds, part: _Part) -> None:
        self._loaded = loaded
        self._part = part

    def take_in(self, rows: Sequence[Row], plan: TablePlan) -> set[str]:
        """Take in the ids of rows. Where equal rows are told apart, they get other ids.

        Args:
            rows: The next rows of the file.
            plan: How they become points.

        Returns:
            Those ids that rows of the load had before.
        """
        point_ids = [row.point_id for row in rows]
        if not plan.numbers_rows:
            return self._loaded.add(self._part, list(dict.fromkeys(point_ids)))
        others = []
        for row, number in zip(rows, self._loaded.number(self._part, point_ids), strict=True):
            if number:
                row.point_id = plan.point_id(row.identity, number)
                others.append(row.point_id)
        self._loaded.add(self._part, others)
        return set()

    def complete(self) -> None:
        """Say that the file was read to its end."""
        self._part.is_complete = True


def as_bytes(point_id: str) -> bytes:
    """The 16 bytes of a UUID."""
    return bytes.fromhex(point_id.replace("-", ""))
