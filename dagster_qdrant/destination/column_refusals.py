"""Columns of which more is asked than they hold, said before anything is written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dlt.common.json import json
from dlt.common.schema import Schema
from dlt.common.schema.typing import TTableSchema
from dlt.common.schema.utils import get_nested_tables, is_complete_column

from dagster_qdrant.destination.tables.hints import TableHint, marked_columns
from dagster_qdrant.destination.tables.payload_indexes import why_unfit_to_index
from dagster_qdrant.destination.tables.table_plan import TablePlan
from dagster_qdrant.errors import QdrantTerminalError

logger = logging.getLogger(__name__)

_NOT_TEXT = {"binary": "bytes", "json": "nested data"}


def refuse_unfit_embed_columns(table: TTableSchema, plan: TablePlan) -> None:
    """Columns to embed have to exist and to hold text, or something with an obvious text.

    Raises:
        QdrantTerminalError: For columns that no row has, and for bytes and nested data.
    """
    columns: Mapping[str, Any] = table["columns"]
    # A column that no row has is not in what dlt prepared, of which the plan was made.
    embed = marked_columns(table) if plan.in_any_order else plan.text_columns
    keywords = plan.keywords.columns if plan.keywords else ()
    further = [name for vector in plan.vectors.values() for name in vector.columns]
    for name in dict.fromkeys([*embed, *further, *keywords]):
        argument = "embed" if name in embed else "vectors" if name in further else "keywords"
        asked = "find by its keywords" if argument == "keywords" else "embed"
        _refuse_column_without_values(name, asked, columns, plan)
        kinds = {columns[each]["data_type"] for each in (name, *plan.variants.get(name, ()))}
        if unfit := sorted(kinds & _NOT_TEXT.keys()):
            raise QdrantTerminalError(
                f"Table `{plan.table_name}` is to {asked} `{name}`, which holds "
                f"{_NOT_TEXT[unfit[0]]} and not text. Turn it into text first, say with "
                f"`resource.add_map(...)`, or take it out of `{argument}`."
            )


def _refuse_column_without_values(
    name: str, asked: str, columns: Mapping[str, Any], plan: TablePlan
) -> None:
    if is_complete_column(columns.get(name, {})):
        return
    known = ", ".join(
        f"`{key}`"
        for key, other in columns.items()
        if is_complete_column(other) and key not in plan.links
    )
    raise QdrantTerminalError(
        f"Table `{plan.table_name}` is to {asked} `{name}`, but no row has a value in "
        f"such a column. It has {known}. If the name is right and the column is empty "
        f'so far, declare it: `columns={{"{name}": {{"data_type": "text"}}}}`. (A field '
        "that holds a list becomes a table of its own.)"
    )


def refuse_unfit_indexes(table: TTableSchema, plan: TablePlan) -> None:
    """Columns to index have to exist, and to hold what their index finds.

    Raises:
        QdrantTerminalError: For columns that no row has, for types that do not fit, and for
            decimals of a key, by whose text points are found.
    """
    columns: Mapping[str, Any] = table["columns"]
    for name, index in plan.index.items():
        _refuse_column_without_values(name, "index", columns, plan)
        if why := why_unfit_to_index(index, columns[name]["data_type"]):
            raise QdrantTerminalError(
                f"Table `{plan.table_name}` is to index `{name}`, which {why}"
            )
        if name in plan.numbers and name in plan.key:
            raise QdrantTerminalError(
                f"Table `{plan.table_name}` is to index `{name}` as a number, which is a decimal "
                "in its key. A key needs all of its digits, and a number may lose some. "
                f"Say `index={{'{name}': 'keyword'}}`, or take it out of `index`."
            )


def warn_of_missing_lists(table: TTableSchema, schema: Schema) -> None:
    """Say which lists are to be embedded that no row has had; they may all have been empty."""
    hint, table_name = TableHint.of(table, schema.naming), str(table["name"])
    for nested, name in (hint.nested_tables(table_name, schema.naming) if hint else {}).items():
        if nested in schema.tables or (hint and name not in hint.nested):
            continue
        known = get_nested_tables(schema.tables, table_name, include_self=False)
        logger.warning(
            "Table `%s` is to embed the lists `%s`, but no row has had one that is not empty. Its "
            "tables of lists: %s.",
            table_name,
            name,
            ", ".join(f"`{each['name']}`" for each in known) or "none",
        )


def refuse_nested_data(
    plan: TablePlan, schema: Schema, lines_of: Callable[[str], Iterable[str]]
) -> None:
    """A column to embed has no dicts and lists: dlt puts these elsewhere, and nothing is embedded.

    The rows are looked at only if the table ever had such a value.

    Args:
        plan: The plan of the table.
        schema: Its schema.
        lines_of: The rows of a table that the load brings, as lines of JSON.

    Raises:
        QdrantTerminalError: If a row has such a value.
    """
    further = [name for vector in plan.vectors.values() for name in vector.columns]
    for name in dict.fromkeys([*plan.text_columns, *further]):
        if place := _place_of_nested_data(name, plan, schema, lines_of):
            raise QdrantTerminalError(
                f"Table `{plan.table_name}` is to embed `{name}`, which holds nested data and not "
                f"text in this load (dlt put it into `{place}`). Turn it into text first, say with "
                f"`resource.add_map(...)`, or take it out of "
                f"`{'embed' if name in plan.embed else 'vectors'}`."
            )


def _place_of_nested_data(
    name: str, plan: TablePlan, schema: Schema, lines_of: Callable[[str], Iterable[str]]
) -> str | None:
    """The nested table of a column's lists, or the column of a field of its dicts."""
    separator = schema.naming.PATH_SEPARATOR
    own, inside = {name, *plan.variants.get(name, ())}, f"{name}{separator}"
    for table in schema.tables.values():
        is_nested = table.get("parent") == plan.table_name
        path = str(table["name"]).removeprefix(f"{plan.table_name}{separator}")
        if is_nested and f"{path}{separator}".startswith(inside):
            for _ in lines_of(str(table["name"])):
                return str(table["name"])
    columns = schema.get_table_columns(plan.table_name)
    fields = [column for column in columns if column.startswith(inside) and column not in own]
    for line in lines_of(plan.table_name) if fields else ():
        if any(f'"{field}"' in line for field in fields):
            row = json.loads(line)
            there = [field for field in fields if field in row]
            if there and not own & row.keys():
                return there[0]
    return None
