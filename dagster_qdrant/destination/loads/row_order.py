"""Rows of a load that have one key, and of which nobody noted the order.

Rows of resources that `qdrant_adapter` wrapped, and all in Dagster, are looked at where they come
up, and those whose key came before bear their place (`row_check`). Others do not, and dlt keeps
neither the order of its files nor what tells the nested rows of two rows of a key apart.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dlt
from dlt.common.json import json
from dlt.common.storages import FileStorage

from dagster_qdrant.destination.loads.load_package import files_of
from dagster_qdrant.destination.tables.point_ids import canonical_json
from dagster_qdrant.destination.tables.rows import content_of, digest, is_deleted
from dagster_qdrant.destination.tables.table_plan import PLACE_MARK, TablePlan
from dagster_qdrant.errors import QdrantTerminalError


@dataclass(frozen=True)
class _Row:
    """What has to be known of a row whose key comes more than once."""

    path: str
    row_id: str | None
    content: str
    deleted: bool
    key: str


def refuse_rows_without_order(load_id: str, root: TablePlan, nested: Sequence[TablePlan]) -> None:
    """Of rows of a key it has to be known which is the newest, and which nested rows are whose.

    Files are read only where it matters: of tables that have nested ones, or several files, or
    rows of Arrow tables.

    Args:
        load_id: The load.
        root: A table of the load.
        nested: The tables nested in it.

    Raises:
        QdrantTerminalError: If it cannot be known, and makes a difference.
    """
    if root.write_disposition != "merge" or root.nested:
        return
    paths = files_of(load_id, root.table_name)
    if root.dedup_sort is None and (len(paths) > 1 or _are_of_arrow(paths, root)):
        for rows in _repeated(paths, root, lambda row: _key(root, row)):
            _refuse_unknown_newest(root, rows)
    if root.is_parent:
        rows_by_id = {
            str(rows[0].row_id): rows
            for rows in _repeated(paths, root, lambda row: row.get(root.row_id))
            if not (rows[-1].deleted and len(paths) == 1)  # all nested rows go, whose they may be
        }
        for plan in nested if rows_by_id else ():
            _refuse_mixed_rows(root, rows_by_id, plan, files_of(load_id, plan.table_name))


def _refuse_unknown_newest(plan: TablePlan, rows: Sequence[_Row]) -> None:
    if len({row.content for row in rows}) == 1:
        return
    remedy = f"Set a `dedup_sort` column, which says which row is the newest, {_REMEDY}"
    if len({row.path for row in rows}) > 1:
        place = "several files"
    elif any(row.row_id is None for row in rows):
        place = "Arrow tables or data frames"  # which dlt brings into one file in any order
    elif _arrow_rows_get_ids() and len({row.row_id for row in rows}) > 1:
        place = "Arrow tables or data frames"
        remedy = "Remove `add_dlt_id` from `[normalize.parquet_normalizer]`, which hides it."
    else:
        return
    raise QdrantTerminalError(
        f"{_about(plan, rows)}, in {place}, whose rows have no known order, so it is not known "
        f"which row is the newest. {remedy} {_GO_ON}"
    )


def _are_of_arrow(paths: Sequence[str], plan: TablePlan) -> bool:
    """Whether rows may come from Arrow tables or data frames: they have no ids or new ones."""
    return _arrow_rows_get_ids() or any(
        plan.row_id not in row for path in paths for _, row in itertools.islice(_read([path]), 1)
    )


def _arrow_rows_get_ids() -> bool:
    """Whether dlt is told to give them ids, which take the place of those that bear a place."""
    return bool(dlt.config.get("normalize.parquet_normalizer.add_dlt_id", bool))


def _refuse_mixed_rows(
    root: TablePlan, rows_by_id: Mapping[str, Sequence[_Row]], plan: TablePlan, paths: Sequence[str]
) -> None:
    """Refuse nested rows that not all rows of their root's key have."""
    found: Counter[tuple[str, str, str]] = Counter()
    for _, row in _read(paths):
        root_id = str(row.get(plan.root_id or ""))
        if root_id in rows_by_id:
            content = digest(canonical_json(content_of(row, plan)))
            found[root_id, str(row.get(plan.row_id)), content] += 1
    for (root_id, _, _), count in found.items():
        rows = rows_by_id[root_id]
        if count not in (len(rows), sum(not row.deleted for row in rows)):
            raise QdrantTerminalError(
                f"{_about(root, rows)}, with different rows in `{plan.table_name}`, and it is "
                "not known which of them belong to the newest row. Use `write_disposition="
                "{'disposition': 'merge', 'strategy': 'delete-insert'}`, with which dlt keeps "
                f"track of it, {_REMEDY} {_GO_ON}"
            )


_REMEDY = "wrap the resource with `qdrant_adapter`, or yield each key once."
_GO_ON = "(In a script, call `pipeline.drop_pending_packages()` first.)"


def _about(plan: TablePlan, rows: Sequence[_Row]) -> str:
    key = f"{', '.join(f'`{name}`' for name in plan.key)} = {rows[0].key[1:-1]}"
    return f"Table `{plan.table_name}` is merged, and a key comes more than once in a load: {key}"


def _key(plan: TablePlan, row: Mapping[str, Any]) -> str:
    return canonical_json(plan.key_of(row))


def _repeated(
    paths: Sequence[str], plan: TablePlan, name_of: Callable[[dict[str, Any]], Any]
) -> list[list[_Row]]:
    """The rows that share a name and bear no place.

    Files are read twice, so that no more is kept of all other rows than eight bytes each.
    """
    import numpy as np

    def named() -> Iterator[tuple[str, str, dict[str, Any]]]:
        for path, row in _read(paths):
            name = name_of(row)
            if name is not None and PLACE_MARK not in str(row.get(plan.row_id)):
                yield str(name), path, row

    hashes = np.sort(np.fromiter((hash(name) for name, _, _ in named()), dtype=np.int64))
    repeated = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    found: dict[str, list[_Row]] = defaultdict(list)
    for name, path, row in named() if repeated else ():
        if hash(name) in repeated:
            content = digest(canonical_json(content_of(row, plan)))
            deleted = plan.hard_delete is not None and is_deleted(row.get(plan.hard_delete))
            row_id = row.get(plan.row_id)
            found[name].append(_Row(path, row_id, content, deleted, _key(plan, row)))
    return [rows for rows in found.values() if len(rows) > 1]


def _read(paths: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in paths:
        with FileStorage.open_zipsafe_ro(path) as lines:
            for line in lines:
                if line.strip():
                    yield path, json.loads(line)
