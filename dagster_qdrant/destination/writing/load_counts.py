"""What a load did, counted by table, for whoever reports it."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields


@dataclass(frozen=True, order=True)
class CutText:
    """A text that is longer than its model's window.

    Args:
        tokens: All of its tokens.
        window: How many the model takes. 0 if a service does not say it: then `tokens` are those
            that were cut off, as near as can be told.
        row: What its row is known by.

    Example:
        >>> str(CutText(tokens=900, window=512, row="`id` 7"))
        "the longest, of the row with `id` 7, has 900 tokens, and the model's window is 512"
    """

    tokens: int
    window: int
    row: str

    def __str__(self) -> str:
        if not self.window:
            return f"the longest, of the row with {self.row}, by some {self.tokens:,} tokens"
        return (
            f"the longest, of the row with {self.row}, has {self.tokens:,} tokens, and the model's "
            f"window is {self.window:,}"
        )


@dataclass
class LoadCounts:
    """What a load did to one table.

    Args:
        rows: Rows read.
        chunks: Those of them that are chunks of the texts of other rows.
        embedded: Rows that got a vector which a model made in this load.
        texts: Texts that went through the model; rows with the same text share one.
        texts_of_vectors: Those of the texts that were embedded for further vectors, by vector.
        keywords: Rows whose keywords were made into a vector by this load.
        texts_measured: How many texts with keywords were measured.
        words_measured: Their words, stopwords not counted.
        tokens: Tokens of these texts, without those beyond the model's window.
        texts_cut: Texts among them that were cut, since they have more tokens than the window.
        tokens_cut: Tokens that were cut off.
        longest_cut: The longest text that was cut.
        reused: Rows with text whose vectors were there already.
        rows_with_text: Rows that have a text to embed.
        rows_without_text: Rows of tables with embedded columns that have no text in any of these.
        texts_lost: Rows among them whose point had a text before.
        without_text: What is in the place of a text, by the example of a row.
        rows_with_text_of: By further vector, the rows that have a text for it.
        rows_without_text_of: Those that have none.
        texts_lost_of: Those among these whose point had one before.
        written: Points written with their vector.
        payload_only: Points whose payload changed and whose vector stayed.
        unchanged: Points that stayed as they were.
        deleted: Rows that asked for their point to be deleted.
        outdated: Points removed because the load outdates them.
        points: Points that bear the load's id; at least so many when a file was tried twice.
        seconds_embedding: Time in the model.
        seconds_writing: Time in requests that write.
    """

    rows: int = 0
    chunks: int = 0
    embedded: int = 0
    texts: int = 0
    texts_of_vectors: Counter[str] = field(default_factory=Counter)
    keywords: int = 0
    texts_measured: int = 0
    words_measured: int = 0
    tokens: int = 0
    texts_cut: int = 0
    tokens_cut: int = 0
    longest_cut: CutText | None = None
    reused: int = 0
    rows_with_text: int = 0
    rows_without_text: int = 0
    texts_lost: int = 0
    without_text: list[str] = field(default_factory=list)
    rows_with_text_of: Counter[str] = field(default_factory=Counter)
    rows_without_text_of: Counter[str] = field(default_factory=Counter)
    texts_lost_of: Counter[str] = field(default_factory=Counter)
    written: int = 0
    payload_only: int = 0
    unchanged: int = 0
    deleted: int = 0
    outdated: int = 0
    points: int = 0
    seconds_embedding: float = 0.0
    seconds_writing: float = 0.0

    @property
    def changed(self) -> int:
        """How many points are not what they were before the load."""
        return self.written + self.payload_only + self.deleted + self.outdated

    @property
    def rows_per_second(self) -> float:
        """Rows embedded in a second of embedding; 0 if none were."""
        return self._per_second(self.embedded)

    @property
    def tokens_per_second(self) -> float:
        """Tokens embedded in a second of embedding; 0 if none were."""
        return self._per_second(self.tokens)

    def _per_second(self, count: int) -> float:
        return count / self.seconds_embedding if self.seconds_embedding else 0.0

    def add(self, other: LoadCounts) -> None:
        """Add the counts of another file of the same table."""
        for name in (each.name for each in fields(self) if each.name != "longest_cut"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.note_cut(other.longest_cut)

    def of_texts(self) -> LoadCounts:
        """What became of texts, without the rest."""
        return LoadCounts(
            embedded=self.embedded,
            texts=self.texts,
            texts_of_vectors=self.texts_of_vectors,
            keywords=self.keywords,
            tokens=self.tokens,
            texts_cut=self.texts_cut,
            tokens_cut=self.tokens_cut,
            longest_cut=self.longest_cut,
            seconds_embedding=self.seconds_embedding,
        )

    def note_cut(self, text: CutText | None) -> None:
        """Keep a text that was cut, if it is the longest so far."""
        if text and (self.longest_cut is None or text > self.longest_cut):
            self.longest_cut = text


class _LoadReports:
    """Counts of the loads of this process, by load and table, until somebody takes them."""

    _KEPT_LOADS = 100

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._counts: dict[str, dict[str, LoadCounts]] = {}

    def add(self, load_id: str, table_name: str, counts: LoadCounts) -> None:
        with self._guard:
            while len(self._counts) >= self._KEPT_LOADS and load_id not in self._counts:
                self._counts.pop(next(iter(self._counts)))
            tables = self._counts.setdefault(load_id, defaultdict(LoadCounts))
            tables[table_name].add(counts)

    def cut(self, load_id: str) -> dict[str, LoadCounts]:
        """The counts of those tables that had texts cut."""
        with self._guard:
            tables = self._counts.get(load_id, {})
            return {name: counts for name, counts in tables.items() if counts.texts_cut}

    def so_far(self, load_id: str) -> Mapping[str, LoadCounts]:
        with self._guard:
            return dict(self._counts.get(load_id, {}))

    def take(self, load_id: str) -> Mapping[str, LoadCounts]:
        with self._guard:
            return self._counts.pop(load_id, {})


load_reports = _LoadReports()
