"""`qdrant_adapter`: say which columns of a resource are embedded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dagster_qdrant.destination.tables.hints import EMBED_HINT

if TYPE_CHECKING:
    from dlt.extract import DltResource


def qdrant_adapter(data: Any, embed: str | list[str] | None = None) -> DltResource:
    """Mark the columns of some data whose text is embedded. The same call as dlt's adapter.

    Args:
        data: A dlt resource (wrapped in place), a source with one resource, or plain data such as
            a list of dicts.
        embed: One column or several. The texts of several columns are joined by line breaks;
            numbers, dates and booleans count as their text, NULLs are left out. A row without any
            text is loaded without a vector.

    Returns:
        The resource with the hint; for plain data a new one, named "content".

    Raises:
        ValueError: If `embed` names no column.

    Example:
        >>> qdrant_adapter([{"title": "Blade Runner", "year": 1982}], embed=["title"]).name
        'content'
    """
    from dlt.destinations.utils import get_resource_for_adapter

    from dagster_qdrant.destination.tables.row_check import check_rows

    columns = [embed] if isinstance(embed, str) else embed
    if not columns or not isinstance(columns, list):
        raise ValueError(
            "`embed` must name the columns whose text is embedded: a column's name or a list of "
            f"them. It is {embed!r}. (A resource that needs no vectors need not be wrapped.)"
        )
    for column in columns:
        if not isinstance(column, str) or not column.strip():
            raise ValueError(f"`embed` must name columns; {column!r} is no column's name.")
    resource = get_resource_for_adapter(data)
    hints: Any = {name: {"name": name, EMBED_HINT: True} for name in columns}
    resource.apply_hints(columns=hints)
    return check_rows(resource)
