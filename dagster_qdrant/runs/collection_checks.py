"""Checks of what every table has: its rows, its nested rows, its collection.

Each reads a bounded part of the collection and changes nothing.
"""

from __future__ import annotations

from typing import Any

from dlt.common.schema.typing import TTableSchema
from dlt.common.schema.utils import get_first_column_name_with_prop

from dagster_qdrant.destination.loads.load_record import LoadRecord
from dagster_qdrant.errors import QdrantNotFoundError
from dagster_qdrant.qdrant.points import matches
from dagster_qdrant.runs.checked_table import CheckedTable, Finding

# The most nested rows of a table that are read.
_SAMPLED_NESTED_ROWS = 1_000


def all_rows_present(table: CheckedTable) -> Finding:
    """The rows of the last load are there, and none has gone since."""
    count = table.collections.count(table.collection)
    numbers: dict[str, Any] = {"points": count}
    last = table.last_load
    if last is None:
        return Finding(True, "Nothing is known of a load to compare with.", numbers)
    numbers["points_after_last_load"] = last.rows.get(table.name, 0)
    missing = {}
    for name in table.chain:
        there = count if name == table.name else _count(table, name)
        missing[name] = last.rows.get(name, 0) - there
        if last.load_id and name in last.points:
            expected, found = last.points[name], _count(table, name, last.load_id)
            numbers |= {f"{name}_loaded": expected, f"{name}_found": found}
            missing[name] = max(missing[name], expected - found)
    missing = {name: rows for name, rows in missing.items() if rows > 0}
    if not missing:
        return Finding(True, "All rows of the last load are in the collection.", numbers)
    later = _later_loads(table, last.load_id)
    for load in later:
        for name, removed in (load.removed or {}).items():
            missing[name] = missing.get(name, 0) - removed
    missing = {name: rows for name, rows in missing.items() if rows > 0}
    if not missing:
        return Finding(True, "All but rows that were removed on purpose are there.", numbers)
    if _has_later_rows(table, last.load_id) or any(load.removed is None for load in later):
        return Finding(True, "A later load may have taken rows over.", numbers)
    gone = " and ".join(f"{n} of table `{name}`" for name, n in missing.items())
    return Finding(
        False,
        f"Rows that the last load left are missing: {gone}. Were points deleted? Materialize "
        "the asset to load them again; an incremental resource needs "
        "`refresh='drop_resources'` for that.",
        numbers,
    )


def _count(table: CheckedTable, table_name: str, load_id: str | None = None) -> int:
    """The points of a table, or those among them that bear a load's id."""
    plan = table.client.plan(table_name)
    condition = matches({plan.load_id: load_id}) if load_id else None
    try:
        return table.collections.count(plan.collection, condition)
    except QdrantNotFoundError:
        return 0


def _later_loads(table: CheckedTable, load_id: str | None) -> list[LoadRecord]:
    if load_id is None:
        return []
    loads = table.client.dlt_tables.loads.of_table(table.name)
    return [load for load in loads if _is_later(load.load_id, load_id)]


def _has_later_rows(table: CheckedTable, load_id: str | None) -> bool:
    if load_id is None:
        return False
    values = table.collections.values(table.collection, table.plan.load_id)
    return any(_is_later(other, load_id) for other in values)


def _is_later(load_id: str, than: str) -> bool:
    """Whether a load began after another; dlt's load ids are the times at which they began."""
    try:
        return float(load_id) > float(than)
    except ValueError:
        return False


def no_orphans(table: CheckedTable) -> Finding:
    """The parents of a sample of nested rows are there."""
    numbers: dict[str, int] = {}
    orphans: list[str] = []
    for nested in table.nested:
        name = str(nested["name"])
        if _outlives_its_parents(table, nested):
            continue
        records, found = _orphans(table, nested)
        numbers |= {f"{name}_rows_read": len(records), f"{name}_orphans": len(found)}
        orphans += found
    if not orphans:
        return Finding(True, "The nested rows that were read have their parents.", numbers)
    return Finding(
        False,
        f"{len(orphans)} nested rows have no parent, say point {orphans[0]}. Delete such points.",
        numbers,
    )


def _outlives_its_parents(table: CheckedTable, nested: TTableSchema) -> bool:
    """Whether a nested table is appended to while the rows that it belongs to are replaced."""
    own = table.client.plan(str(nested["name"])).write_disposition
    parents = table.client.plan(str(nested["parent"])).write_disposition
    return (own, parents) == ("append", "replace")


def _orphans(table: CheckedTable, nested: TTableSchema) -> tuple[list[Any], list[str]]:
    """Some rows of a nested table, and the points among them without a parent."""
    link = str(get_first_column_name_with_prop(nested, "parent_key"))
    parent = table.client.plan(str(nested["parent"]))
    collection = table.collections.name(str(nested["name"]))
    records = table.scroll(collection, _SAMPLED_NESTED_ROWS, None, payload=[link])
    wanted = {str(record.payload.get(link)) for record in records}
    pages = table.collections.pages_with(
        parent.collection, parent.row_id, wanted, payload=[parent.row_id]
    )
    parents = [record.payload or {} for page in pages for record in page]
    there = {str(row[parent.row_id]) for row in parents}
    lost = [str(r.id) for r in records if str(r.payload.get(link)) not in there]
    return records, lost


def collection_healthy(table: CheckedTable) -> Finding:
    """Qdrant reports no failure, and what our queries filter by is indexed."""
    from qdrant_client import models

    problems = []
    if table.info.status == models.CollectionStatus.RED:
        problems.append("its status is red: an operation on it failed in Qdrant")
    if isinstance(table.info.optimizer_status, models.OptimizersStatusOneOf1):
        problems.append(f"its optimizer failed: {table.info.optimizer_status.error}")
    missing = []
    if not table.connection.is_local:  # local mode has no indexes
        missing = sorted(set(table.plan.indexes) - set(table.info.payload_schema))
    if missing:
        names = ", ".join(f"`{name}`" for name in missing)
        problems.append(
            f"it lacks the payload index on {names}, which the next load that brings rows restores"
        )
    numbers = {
        "status": table.info.status.value,
        "points": table.info.points_count or 0,
        "segments": table.info.segments_count,
        "indexes_missing": len(missing),
    }
    if not problems:
        return Finding(True, "Qdrant reports no failure and the indexes are there.", numbers)
    return Finding(False, f"Collection `{table.collection}`: {'; '.join(problems)}.", numbers)
