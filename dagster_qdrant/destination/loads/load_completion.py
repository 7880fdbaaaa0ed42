"""What goes when a load is complete: former rows of replaced tables, orphans of merged ones.

It happens after all rows of the load are in and before the load counts, and may happen again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from dlt.common.schema import Schema

from dagster_qdrant.destination.tables.table_chain import table_chain
from dagster_qdrant.destination.tables.table_plan import DELETED, PARTITION, SUPERSEDED, TablePlan
from dagster_qdrant.destination.writing.load_counts import LoadCounts, load_reports
from dagster_qdrant.qdrant.collections import Collections, matches

if TYPE_CHECKING:
    from qdrant_client import models

_PAGE = 1000
# How many roots' nested rows are looked for together, where each look goes over all points.
_MANY = 50_000


def remove_what_the_load_outdates(
    load_id: str,
    loaded_tables: set[str],
    schema: Schema,
    collections: Collections,
    plan_of: Callable[[str], TablePlan],
) -> None:
    """Delete the rows that a load makes obsolete.

    Args:
        load_id: The load.
        loaded_tables: The tables that it has files of.
        schema: Their schema.
        collections: The dataset's collections.
        plan_of: The plan of a table.
    """
    known = sorted(name for name in loaded_tables if name in schema.tables)
    chains = [table_chain(name, schema, plan_of, loaded_tables) for name in known]
    for root, *nested in {chain[0].table_name: chain for chain in chains}.values():
        there = [plan for plan in nested if collections.exists(plan.target)]
        if not collections.exists(root.target):
            continue
        for plan in (root, *there):
            if plan.write_disposition == "replace":
                _delete_former_rows(plan, load_id, collections)
        if root.merges_nested:
            _delete_orphans(root, there, load_id, collections)
        if root.hard_delete:
            collections.delete_where(root.target, _marked_as_deleted(root, load_id))


def _delete_former_rows(plan: TablePlan, load_id: str, collections: Collections) -> None:
    from qdrant_client import models

    replaced = matches({} if plan.partition is None else {PARTITION: plan.partition})
    of_this_load = matches({plan.load_id: load_id})
    former = models.Filter(must=replaced.must, must_not=of_this_load.must)
    if count := collections.count(plan.target, former):
        collections.delete_where(plan.target, former)
        load_reports.add(load_id, plan.table_name, LoadCounts(outdated=count))


def _delete_orphans(
    root: TablePlan, nested: list[TablePlan], load_id: str, collections: Collections
) -> None:
    """Delete nested rows that their root, which is in this load, no longer has."""
    from qdrant_client import models

    of_this_load = matches({root.load_id: load_id})
    concerned = of_this_load
    if root.hard_delete:
        concerned = models.Filter(should=[of_this_load, _marked_as_deleted(root, load_id)])
    fields = [root.row_id, DELETED, SUPERSEDED]
    pages = collections.pages(root.target, concerned, payload=fields, page=_PAGE)
    for records in _joined(pages, _MANY):
        roots = [record.payload or {} for record in records]
        gone = {row[root.row_id] for row in roots if row.get(DELETED)}
        ids = [row[root.row_id] for row in roots]
        for plan in nested:
            if plan.root_id is None:
                continue
            theirs = collections.pages_with(
                plan.target, plan.root_id, ids, payload=[plan.root_id, plan.load_id]
            )
            for rows in theirs:
                outdated = [
                    row
                    for row in rows
                    if (row.payload or {}).get(plan.load_id) != load_id
                    or (row.payload or {})[plan.root_id] in gone
                ]
                _delete(plan, outdated, load_id, collections)
        if superseded := [row_id for row in roots for row_id in row.get(SUPERSEDED, ())]:
            _delete_descendants(superseded, root, nested, load_id, collections)
            theirs_too = [record.id for record in records if SUPERSEDED in (record.payload or {})]
            collections.delete_payload(root.target, [SUPERSEDED], theirs_too)


def _delete(
    plan: TablePlan, outdated: list[models.Record], load_id: str, collections: Collections
) -> None:
    """Delete points of a table; they come with the id of the load that they are of."""
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
    load_id: str,
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
        for records in _joined(pages, _MANY):
            if plan.is_parent:
                ids = [(record.payload or {})[plan.row_id] for record in records]
                _delete_descendants(ids, plan, nested, load_id, collections)
            _delete(plan, records, load_id, collections)


def _joined(pages: Iterable[list[models.Record]], size: int) -> Iterator[list[models.Record]]:
    """Pages joined to larger ones, of at least so many points as far as there are."""
    joined: list[models.Record] = []
    for page in pages:
        joined += page
        if len(joined) >= size:
            yield joined
            joined = []
    if joined:
        yield joined
