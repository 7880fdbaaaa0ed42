"""Values that dlt writes as text, taken for what they are: numbers and bytes."""

from __future__ import annotations

import base64
from decimal import Decimal
from typing import Any

DECIMALS = frozenset({"decimal", "wei"})


def shortest_decimal(value: Decimal | str) -> str:
    """The text of a decimal without zeros at its end: 1.50 is 1.5, and 1E+2 is 100.

    How many there are depends on the way that a row came: a database gives them as the column is
    declared, and Arrow as its type is.

    Example:
        >>> shortest_decimal("1.50"), shortest_decimal("1E+2")
        ('1.5', '100')
    """
    text = f"{Decimal(value) or Decimal():f}"  # -0 is 0
    return text.rstrip("0").rstrip(".") if "." in text else text


def sortable(value: Any, data_type: str | None) -> Any:
    """A value of a row as it is sorted by.

    Args:
        value: The value, as JSON has it.
        data_type: dlt's type of its column.

    Example:
        >>> sortable("10.0", "decimal") > sortable("9.5", "decimal")
        True
    """
    if isinstance(value, str) and data_type in DECIMALS:
        number = Decimal(value)
        return None if number.is_nan() else number  # which is neither more nor less than others
    if isinstance(value, str) and data_type == "binary":
        return base64.b64decode(value)
    return value
