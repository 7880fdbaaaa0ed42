"""`qdrant_adapter`: say which columns of a resource are embedded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlt.extract import DltResource

# dlt's own adapter writes the same hint, so resources that it wrapped load alike.
EMBED_HINT = "x-qdrant-embed"


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
    return refuse_unfit_rows(resource)


def refuse_unfit_rows(resource: DltResource) -> DltResource:
    """Have rows that cannot be loaded refused where they come up, with their place and content.

    Those are rows without a key and with values that JSON cannot hold. dlt refuses them too, when
    it no longer knows which row it was.

    Args:
        resource: A resource; changed in place.

    Returns:
        The resource.
    """
    from dagster_qdrant.errors import QdrantTerminalError

    rows = 0
    keys: tuple[str, ...] | None = None

    def check(item: Any) -> Any:
        nonlocal rows, keys
        rows += 1
        if not isinstance(item, dict):
            return item
        if keys is None:
            keys = _merge_keys(resource)
        if unfit := _unfit_value(item):
            name, reason = unfit
            raise QdrantTerminalError(
                f"Row {rows} of resource `{resource.name}` has a value in `{name}` that cannot be "
                f"loaded: {repr(item.get(name, item))[:200]} ({reason}). Turn it into text, say "
                "with `resource.add_map(...)`, or leave it out."
            )
        for name in keys:
            if item.get(name) is None:
                raise QdrantTerminalError(
                    f"Row {rows} of resource `{resource.name}` has no value in its key `{name}`, "
                    f"so it cannot be told from other rows: {str(item)[:200]}. Fill it, choose "
                    "another `primary_key`, or drop such rows with `resource.add_filter(...)`."
                )
        return item

    resource.add_map(check)
    return resource


def _unfit_value(row: dict[Any, Any]) -> tuple[str, str] | None:
    """The first column whose value dlt cannot write down, and the reason."""
    from dlt.common.json import json

    try:
        json.typed_dumpb(row)
    except Exception as whole:
        for name, value in row.items():
            try:
                json.typed_dumpb({name: value})
            except Exception as error:
                return repr(name)[1:-1] if isinstance(name, str) else repr(name), str(error)
        return ", ".join(map(repr, row)), str(whole)
    return None


def _merge_keys(resource: DltResource) -> tuple[str, ...]:
    disposition: Any = resource.write_disposition
    kind = disposition.get("disposition") if isinstance(disposition, dict) else disposition
    key: Any = resource.compute_table_schema().get("columns", {}) if kind == "merge" else {}
    return tuple(name for name, column in key.items() if column.get("primary_key"))
