"""What others have stored of a schema, and this machine's folder does not know of.

dlt fetches a schema where a pipeline begins, or where its state there is newer. A folder that has
stayed behind knows nothing of tables and columns that another machine has added since. A load from
it would leave their outdated rows, and its schema, which is stored last, would hide them from all
machines that begin.
"""

from __future__ import annotations

from collections.abc import Set
from copy import deepcopy
from typing import cast

from dlt.common.schema import Schema
from dlt.common.schema.typing import TColumnSchema, TTableSchema
from dlt.common.schema.utils import get_root_table

# What a column is. What else is said of one counts in the schema of the load alone.
_TYPE = ("name", "data_type", "precision", "scale", "timezone", "variant")


def learn_tables(schema: Schema, stored: Schema, dropped: Set[str]) -> None:
    """Add the tables and columns to a load's schema that only the stored one knows.

    Args:
        schema: The schema of the load; changed in place.
        stored: The newest one of its name in the dataset.
        dropped: The tables that the load drops.
    """
    if stored.naming.name() != schema.naming.name():
        return  # all names differ
    tables = {
        name: table
        for name, table in stored.tables.items()
        if name not in schema.tables and get_root_table(stored.tables, name)["name"] not in dropped
    }
    columns = {
        name: missing
        for name, table in stored.tables.items()
        if name in schema.tables.keys() - dropped
        and (missing := _missing(schema.tables[name], table))
    }
    if not tables and not columns:
        return
    fuller = schema.clone()
    for name, table in tables.items():
        fuller.tables[name] = deepcopy(table)
    for name, missing in columns.items():
        own = fuller.tables[name]["columns"]
        for column_name, column in missing.items():
            own[column_name] = {**column, **own.get(column_name, {})}
    schema.replace_schema_content(Schema.from_stored_schema(fuller.to_dict()))


def _missing(table: TTableSchema, stored: TTableSchema) -> dict[str, TColumnSchema]:
    """The columns whose type only the stored table knows, without what else is said of them."""
    own = table["columns"]
    return {
        name: cast(
            "TColumnSchema",
            {"nullable": True} | {each: column[each] for each in _TYPE if each in column},
        )
        for name, column in cast("dict[str, dict[str, object]]", stored["columns"]).items()
        if "data_type" in column and "data_type" not in own.get(name, {})
    }
