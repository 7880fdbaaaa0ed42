"""A table and those nested in it, which a load deals with together."""

from __future__ import annotations

from collections.abc import Callable, Set

from dlt.common.schema import Schema
from dlt.common.schema.utils import get_nested_tables, get_root_table

from dagster_qdrant.destination.tables.table_plan import TablePlan


def table_chain(
    table_name: str, schema: Schema, plan_of: Callable[[str], TablePlan], loaded: Set[str]
) -> list[TablePlan]:
    """The tables that a load concerns when it brings rows of one of them, parents first.

    A nested table may be replaced while its root is appended to. Such a table stays as it is in a
    load that brings no rows of it, as in dlt's other destinations.

    Args:
        table_name: The table.
        schema: Its schema.
        plan_of: The plan of a table.
        loaded: The tables that the load brings rows of.

    Returns:
        The plans of the table's root and of the tables nested in that.
    """
    root = str(get_root_table(schema.tables, table_name)["name"])
    plans = [plan_of(str(table["name"])) for table in get_nested_tables(schema.tables, root)]
    root_is_replaced = plans[0].write_disposition == "replace"
    concerned: dict[str | None, TablePlan] = {}
    for plan in plans:
        parent = concerned.get(plan.parent)
        if (
            plan.write_disposition != "replace"
            or root_is_replaced
            or plan.table_name in loaded
            or (parent is not None and parent.write_disposition == "replace")
        ):
            concerned[plan.table_name] = plan
    return list(concerned.values())
