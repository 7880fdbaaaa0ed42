"""Text and tables that Markdown shows as they stand, whatever they hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

# Markdown of fewer characters than this is shown in a column of the page.
_INLINE_LENGTH = 1000

# Characters of a line in a window, of the gap between columns, and of a column that still says
# something.
_WINDOW_WIDTH, _BETWEEN, _NARROWEST = 108, 2, 8

_MARKUP = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>|~&#"})


def escaped(text: str) -> str:
    """A line of text, without the meaning that its characters have in Markdown and HTML."""
    return text.translate(_MARKUP)


def table(rows: Sequence[Mapping[str, Any]], *, first: Sequence[str], most: int, width: int) -> str:
    """Rows as a table of Markdown that is no wider than a window.

    Args:
        rows: By column; they need not have the same ones.
        first: Columns that come before the others.
        most: The most columns to show; how many there are beyond is told at the end of the table.
        width: The most characters of a cell. Where the table would be too wide, the widest columns
            are cut further.
    """
    there = dict.fromkeys(name for row in rows for name in row)
    names = [name for name in dict.fromkeys([*first, *there]) if name in there]
    cells = [
        [shorten(name, width) for name in names[:most]],
        *([shorten(row.get(name), width) for name in names[:most]] for row in rows),
    ]
    fit = _fitting([max(map(len, column)) for column in zip(*cells, strict=True)])
    lines = [
        [escaped(shorten(cell, room)) for cell, room in zip(line, fit, strict=True)]
        for line in cells
    ]
    lines.insert(1, ["---" for _ in fit])
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{text}\n\nand {len(names) - most} more columns" if len(names) > most else text


def _fitting(widths: Sequence[int]) -> list[int]:
    """The widths of columns so that all fit into a window; the widest give way first."""
    room = _WINDOW_WIDTH - _BETWEEN * len(widths)
    widest = max(widths, default=0)
    while widest > _NARROWEST and sum(min(width, widest) for width in widths) > room:
        widest -= 1
    return [min(width, widest) for width in widths]


def windowed(text: str) -> str:
    """A text that the UI shows in a window of its own, wide enough for tables.

    What is shorter it squeezes into a column of the page, and cuts off what does not fit.
    """
    return text.ljust(_INLINE_LENGTH)


def shorten(value: Any, limit: int) -> str:
    r"""A value as one line of so many characters at most, without any that control a screen.

    Args:
        value: Anything that a payload holds.
        limit: The most characters.

    Example:
        >>> shorten("Blade\nRunner, directed by Ridley Scott", 16)
        'Blade Runner, d…'
    """
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    start = text[: 4 * limit]  # enough, unless it is nearly all white space
    line = " ".join("".join(c if c.isprintable() else " " for c in start).split())
    if len(line) <= limit and len(start) == len(text):
        return line
    return line[: limit - 1].rstrip() + "…"
