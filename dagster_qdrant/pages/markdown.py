"""Text and tables that Markdown shows as they stand, whatever they hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_MARKUP = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>|~&#"})


def escaped(text: str) -> str:
    """A line of text, without the meaning that its characters have in Markdown and HTML."""
    return text.translate(_MARKUP)


def table(rows: Sequence[Mapping[str, Any]], *, first: Sequence[str], most: int, width: int) -> str:
    """Rows as a table of Markdown.

    Args:
        rows: By column; they need not have the same ones.
        first: Columns that come before the others.
        most: The most columns to show; how many there are beyond is told at the end of the table.
        width: The most characters of a cell.
    """
    there = dict.fromkeys(name for row in rows for name in row)
    names = [name for name in dict.fromkeys([*first, *there]) if name in there]
    lines = [
        [escaped(shorten(name, width)) for name in names[:most]],
        ["---" for _ in names[:most]],
        *([escaped(shorten(row.get(name), width)) for name in names[:most]] for row in rows),
    ]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{text}\n\nand {len(names) - most} more columns" if len(names) > most else text


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
