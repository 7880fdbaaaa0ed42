"""What goes when a load is complete: former rows of replaced tables, orphans of merged ones.

It happens after all rows of the load are in and before the load counts, and may happen again. What
goes is known by the ids that the load did not bring (`loaded_ids`). Where there are as many points
as it brought, nothing has to be looked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from dlt.common.schema import Schema

from dagster_qdrant.destination.loads.loaded_rows import LoadedRows
from dagster_qdrant.destination.tables.table_chain import table_chain
from dagster_qdrant.destination.tables.table_plan import DELETED, PARTITION, SUPERSEDED, TablePlan
from dagster_qdrant.destination.writing.load_counts import LoadCounts, load_reports
from dagster_qdrant.destination.writing.loaded_ids import IdSet
from dagster_qdrant.errors import QdrantNotFoundError
from dagster_qdrant.qdrant.collections import Collections
from dagster_qdrant.qdrant.points import joined, matches

if TYPE_CHECKING:
    from qdrant_client import models

_PAGE = 5000
# How many roots' nested rows are looked for together, where each look goes over all points.
_MANY = 50_000


def remove_what_the_load_outdates(
    rows: LoadedRows,
    loaded_tables: set[str],
    schema: Schema,
    collections: Collections,
    plan_of: Callable[[str], TablePlan],
) -> None:
    """Delete the rows that a load makes obsolete.

    Args:
        rows: The rows of the load.
        loaded_tables: The tables that it has files of.
        schema: Their schema.
        collections: The dataset's collections.
        plan_of: The plan of a table.
    """
    known = sorted(name for name in loaded_tables if name in schema.tables)
    chains = [table_chain(name, schema, plan_of, loaded_tables) for name in known]
    for root, *nested in {chain[0].table_name: chain for chain in chains}.values():
        for plan in (root, *nested):
            if plan.write_disposition == "replace":
                with suppress(QdrantNotFoundError):  # a table that never had a row
                    _delete_former_rows(plan, rows, collections)
        if not (root.merges_nested or root.hard_delete) or not collections.exists(root.target):
            continue
        if root.merges_nested:
            there = [plan for plan in nested if collections.exists(plan.target)]
            _delete_nested_rows(root, there, rows, collections)
        if root.hard_delete:
            collections.delete_where(root.target, _marked_as_deleted(root, rows.load_id))


def _delete_former_rows(plan: TablePlan, rows: LoadedRows, collections: Collections) -> None:
    ids = rows.ids(plan)
    replaced = None if plan.partition is None else matches({PARTITION: plan.partition})
    if collections.count(plan.target, replaced) == len(ids):
        return
    for records in collections.pages(plan.target, replaced, payload=False, page=_PAGE):
        former = set(ids.others(record.id for record in records))
        outdated = [record for record in records if record.id in former]
        _delete(plan, outdated, rows.load_id, collections)


def _delete_nested_rows(
    root: TablePlan, nested: list[TablePlan], rows: LoadedRows, collections: Collections
) -> None:
    """Delete the nested rows of roots that are deleted, and those that a root no longer has."""
    from qdrant_client import models

    load_id = rows.load_id
    # Rows that the load brought and that go all the same, by table: their root is deleted, or it
    # is another row of its key that counts.
    gone_too: Counter[str] = Counter()
    brought = {plan.table_name: rows.ids(plan) for plan in nested}

    def delete(plan: TablePlan, records: list[models.Record]) -> None:
        _delete(plan, records, load_id, collections)
        point_ids = [record.id for record in records]
        gone_too[plan.table_name] += len(point_ids) - len(
            brought[plan.table_name].others(point_ids)
        )

    changed = matches({root.load_id: load_id})
    if root.hard_delete:
        changed = models.Filter(should=[changed, _marked_as_deleted(root, load_id)])
    fields = [root.row_id, DELETED, SUPERSEDED]
    pages = collections.pages(root.target, changed, payload=fields, page=_PAGE)
    for records in joined(pages, _MANY):
        roots = [record.payload or {} for record in records]
        gone = [row[root.row_id] for row in roots if row.get(DELETED)]
        for plan in nested:
            _delete_of_roots(plan, gone, None, delete, collections)
        if superseded := [row_id for row in roots for row_id in row.get(SUPERSEDED, ())]:
            _delete_descendants(superseded, root, nested, delete, collections)
            theirs_too = [record.id for record in records if SUPERSEDED in (record.payload or {})]
            collections.delete_payload(root.target, [SUPERSEDED], theirs_too)
    for plan in nested:
        ids = brought[plan.table_name]
        if collections.count(plan.target) != len(ids) - gone_too[plan.table_name]:
            _delete_of_roots(plan, rows.row_ids(root), ids, delete, collections)


def _delete_of_roots(
    plan: TablePlan,
    root_ids: Iterable[str],
    spared: IdSet | None,
    delete: Callable[[TablePlan, list[models.Record]], None],
    collections: Collections,
) -> None:
    """Delete the nested rows of some roots, but for those that the load brought."""
    if plan.root_id is None:
        return
    fields = [plan.root_id, plan.load_id]
    for records in collections.pages_with(plan.target, plan.root_id, root_ids, payload=fields):
        outdated = records
        if spared is not None:
            others = set(spared.others(record.id for record in records))
            outdated = [record for record in records if record.id in others]
        delete(plan, outdated)


def _delete(
    plan: TablePlan, outdated: list[models.Record], load_id: str, collections: Collections
) -> None:
    """Delete points of a table. Those that this load changed come with its id."""
    if not outdated:
        return
    of_this_load = sum((point.payload or {}).get(plan.load_id) == load_id for point in outdated)
    collections.delete(plan.target, [point.id for point in outdated])
    counts = LoadCounts(outdated=len(outdated), points=-of_this_load)
    load_reports.add(load_id, plan.table_name, counts)


def _marked_as_deleted(root: TablePlan, load_id: str) -> models.Filter:
    """Points whose rows were deleted; also by a load that died, where no other can be at work."""
    of_a_load = {} if root.keeps_deleted else {root.load_id: load_id}
    return matches({DELETED: True, **of_a_load})


def _delete_descendants(
    row_ids: list[str],
    parent: TablePlan,
    nested: list[TablePlan],
    delete: Callable[[TablePlan, list[models.Record]], None],
    collections: Collections,
) -> None:
    """Delete the rows that hang on some rows, which need not have a root's id.

    Only a merge gives them one; rows that a replace brought have none.
    """
    for plan in nested:
        if plan.parent != parent.table_name or plan.parent_id is None:
            continue
        fields = [plan.row_id, plan.load_id]
        pages = collections.pages_with(plan.target, plan.parent_id, row_ids, payload=fields)
        for records in joined(pages, _MANY):
            if plan.is_parent:
                ids = [(record.payload or {})[plan.row_id] for record in records]
                _delete_descendants(ids, plan, nested, delete, collections)
            delete(plan, records)
