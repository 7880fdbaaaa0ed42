"""What goes when a load is complete: former rows of replaced tables, orphans of merged ones.

It happens after all rows of the load are in and before the load counts, and may happen again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dlt.common.schema import Schema
from dlt.common.schema.utils import get_nested_tables, get_root_table

from dagster_qdrant.destination.collections import Collections, matches
from dagster_qdrant.destination.load_counts import LoadCounts, load_reports
from dagster_qdrant.destination.table_plan import DELETED, PARTITION, TablePlan

_PAGE = 500


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
    tables = schema.tables
    roots = {str(get_root_table(tables, name)["name"]) for name in loaded_tables if name in tables}
    for root in sorted(roots):
        chain = [plan_of(str(table["name"])) for table in get_nested_tables(tables, root)]
        chain = [plan for plan in chain if collections.exists(plan.target)]
        if not chain or chain[0].table_name != root:
            continue
        if chain[0].write_disposition == "replace":
            for plan in chain:
                _delete_former_rows(plan, load_id, collections)
        elif chain[0].write_disposition == "merge" and chain[0].keeps_deleted:
            _delete_orphans(chain[0], chain[1:], load_id, collections)


def _delete_former_rows(plan: TablePlan, load_id: str, collections: Collections) -> None:
    from qdrant_client import models

    replaced = matches({} if plan.partition is None else {PARTITION: plan.partition})
    # A load that began later has rows of its own in here, which are not former ones.
    loads = collections.values(plan.target, plan.load_id, replaced)
    stays = [load_id, *(other for other in loads if is_later(other, load_id))]
    condition = models.FieldCondition(key=plan.load_id, match=models.MatchAny(any=stays))
    former = models.Filter(must=replaced.must, must_not=[condition])
    _delete(plan, former, load_id, collections)


def _delete(plan: TablePlan, outdated: Any, load_id: str, collections: Collections) -> None:
    if count := collections.count(plan.target, outdated):
        collections.delete_where(plan.target, outdated)
        load_reports.add(load_id, plan.table_name, LoadCounts(outdated=count))


def is_later(load_id: str, than: str) -> bool:
    """Whether a load began after another; dlt's load ids are the times at which they began."""
    try:
        return float(load_id) > float(than)
    except ValueError:
        return False


def _delete_orphans(
    root: TablePlan, nested: list[TablePlan], load_id: str, collections: Collections
) -> None:
    """Delete nested rows that their root, which is in this load, no longer has."""
    from qdrant_client import models

    of_this_load = models.FieldCondition(key=root.load_id, match=models.MatchValue(value=load_id))
    condition = models.Filter(must=[of_this_load])
    fields = [root.row_id, DELETED]
    for records in collections.pages(root.target, condition, with_payload=fields, page=_PAGE):
        roots = [record.payload or {} for record in records]
        gone = [row[root.row_id] for row in roots if row.get(DELETED)]
        stay = [row[root.row_id] for row in roots if not row.get(DELETED)]
        for plan in nested:
            # A condition on no ids at all has no type, which a strict server refuses.
            for row_ids, spared in ((gone, None), (stay, of_this_load)):
                if plan.root_id is None or not row_ids:
                    continue
                theirs = models.FieldCondition(key=plan.root_id, match=models.MatchAny(any=row_ids))
                outdated = models.Filter(must=[theirs], must_not=spared)
                _delete(plan, outdated, load_id, collections)
    if root.hard_delete:
        marked = models.FieldCondition(key=DELETED, match=models.MatchValue(value=True))
        collections.delete_where(root.target, models.Filter(must=[of_this_load, marked]))
