"""Product-like texts: the same ones each time, no two alike, most of them short and a few long."""

from __future__ import annotations

import random
from typing import Any

SHORTEST, LONGEST = 5, 200  # in tokens, roughly: nearly each of the words below is one

_NAMES = (
    "kettle chair lamp jacket bottle camera table blanket speaker backpack mirror tent bicycle "
    "knife keyboard pillow watch shelf guitar helmet printer desk carpet basket engine telescope"
)
_KINDS = (
    "black white red blue green small large light heavy portable electric wooden steel cotton "
    "leather glass classic modern folding waterproof wireless outdoor professional compact soft"
)
_REST = (
    "with for and the of in a made from high quality design easy to clean use home office "
    "garden travel kitchen children adults long life battery power water heat cold two "
    "three year warranty includes cover case set hand machine wash free delivery weight "
    "size fits most standard models strong frame quiet motor fast charging bright display "
    "simple control safe natural material"
)


def product_rows(count: int, changed_percent: int = 0) -> list[dict[str, Any]]:
    """Rows of a shop.

    Args:
        count: How many.
        changed_percent: How many of a hundred have a new text, spread over all rows.
    """
    return [
        {
            "id": number,
            "price": 1.5 + number % 700,
            "in_stock": number % 3 > 0,
            "text": product_text(number, edition=int(number % 100 < changed_percent)),
        }
        for number in range(count)
    ]


def product_text(number: int, edition: int = 0) -> str:
    """The text of one product: a name that nobody else has and a description of any length."""
    chance = random.Random(number * 2 + edition)
    # Half the texts have fewer than 36 tokens; the long tail lifts the mean to 46.
    length = min(LONGEST - 8, max(SHORTEST - 5, chance.lognormvariate(3.32, 0.85)))
    words = [
        chance.choice(_KINDS.split()).capitalize(),
        chance.choice(_NAMES.split()),
        _article_number(number, edition),
    ]
    rest, kinds = _REST.split(), _KINDS.split()
    while len(words) < 3 + length:
        words.append(chance.choice(kinds if chance.random() < 0.25 else rest))
    return " ".join(words)


def _article_number(number: int, edition: int) -> str:
    """Short, different for each number and edition."""
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    name, rest = "", number * 2 + edition
    while rest or not name:
        rest, digit = divmod(rest, len(digits))
        name = digits[digit] + name
    return name.upper()
