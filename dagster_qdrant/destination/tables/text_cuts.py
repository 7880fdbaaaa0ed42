"""Where a text is cut into chunks: between paragraphs, lines, sentences or words, and evenly.

The text is tokenized once, and a chunk once more where it may not fit by itself. No
chunk is much smaller than the others: a title, or what is left at the end, says too little to be
found for what it means. Cuts depend on what stands before them, and at the end of a text on little
more, so that most chunks of a text stay as they are where it grows.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster_qdrant.embedding.text_measure import TextMeasure

# What ends a sentence, and the quotes and brackets that may stand behind it; Chinese and Japanese
# have no space after it.
_SENTENCE = (
    r"[.!?\u2026]+[\"'\u201d\u2019\u00bb)\]]*\s+|[\u3002\uff01\uff1f]+[\u300d\u300f\u201d]*\s*"
)
# Behind what a text may be cut, the best first.
_PARAGRAPHS, _LINES, _SENTENCES, _WORDS = (
    re.compile(ending) for ending in (r"\n[^\S\n]*\n\s*", r"\n\s*", _SENTENCE, r"\s+")
)
# The least size of a chunk that is cut at one of the better places, as a part of the most.
_LEAST = 0.5
# As many tokens may a chunk have that the same part of the text has not.
_SPACES = 2
# Up to so many times the most, what is left of a text is cut in the middle, give or take.
_LEFT, _MIDDLE = 1.5, (0.35, 0.65)


def cut_text(
    text: str, measure: TextMeasure, most: int, overlap: int = 0
) -> Iterator[tuple[int, str]]:
    """Cut a text. Without an overlap, the chunks side by side are the text.

    Args:
        text: The text.
        measure: How long texts are for the model.
        most: The most tokens of a chunk.
        overlap: How many tokens at the end of a chunk stand in the next one too, at most.

    Yields:
        Where each chunk begins, and its text.
    """
    cuts, begin = _Cuts(text, measure), 0
    while begin < len(text):
        end = cuts.end(begin, most)
        yield begin, text[begin:end]
        begin = cuts.before(begin, end, overlap) if end < len(text) else end


class _Cuts:
    """The places where a text may be cut.

    Args:
        text: The text.
        measure: How long texts are for the model.
    """

    def __init__(self, text: str, measure: TextMeasure) -> None:
        self._text = text
        self._measure = measure
        self._tokens = measure.token_starts(text)
        self._sentences, self._words = _places(_SENTENCES, text), _places(_WORDS, text)
        better = [_places(_PARAGRAPHS, text), _places(_LINES, text)]
        self._all = [*better, self._sentences, self._words]

    def end(self, begin: int, most: int) -> int:
        """Where a chunk ends that begins somewhere."""
        size = most
        while True:
            end = max(self._end(begin, size), begin + 1)
            if self._surely_fits(begin, end, most):
                return end
            too_many = self._too_many(begin, end, most)
            # By itself it has more tokens than in the text, where a word or character was cut.
            while size == 1 and too_many > 0 and end > begin + 1:
                end -= (end - begin) // 2
                too_many = self._too_many(begin, end, most)
            if too_many <= 0 or size == 1:
                return end
            size = max(1, size - too_many)

    def _surely_fits(self, begin: int, end: int, most: int) -> bool:
        """Whether words alone are in it, and few enough: a space at an end may be a token more."""
        tokens = bisect_left(self._tokens, end) - bisect_left(self._tokens, begin)
        cuts = ((place, self._text[place - 1]) for place in (begin, end) if place)
        is_whole = all(place == len(self._text) or letter.isspace() for place, letter in cuts)
        return is_whole and tokens + _SPACES <= most

    def _too_many(self, begin: int, end: int, most: int) -> int:
        return self._measure(self._text[begin:end]) - most

    def _end(self, begin: int, size: int) -> int:
        """Where it ends with so many of the text's tokens."""
        first = bisect_left(self._tokens, begin)
        left = len(self._tokens) - first
        if left <= size:
            return len(self._text)
        lowest, highest = size * _LEAST, size
        if left < size * _LEFT:
            lowest, highest = left * _MIDDLE[0], min(size, int(left * _MIDDLE[1]))
        earliest = self._tokens[first + int(lowest)]
        latest = self._tokens[first + max(1, highest)]
        for places in self._all:
            number = bisect_right(places, latest)
            if number and places[number - 1] > earliest:
                return places[number - 1]
        return latest

    def before(self, begin: int, end: int, overlap: int) -> int:
        """Where the next chunk begins, so that it has up to so many tokens of the one before."""
        if not overlap:
            return end
        tokens = self._tokens
        first = max(bisect_left(tokens, end) - overlap, bisect_left(tokens, begin) + 1)
        earliest = tokens[first] if first < len(tokens) else end
        for places in (self._sentences, self._words):
            number = bisect_left(places, earliest)
            if number < len(places) and begin < places[number] < end:
                return places[number]
        return min(earliest, end)


def _places(ending: re.Pattern[str], text: str) -> list[int]:
    return [match.end() for match in ending.finditer(text)]
