"""Merges, models and collections that cannot be as they are asked for, said before any write."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from itertools import islice
from typing import Any

from dlt.common.schema.typing import TTableSchema
from dlt.common.schema.utils import (
    get_columns_names_with_prop,
)

from dagster_qdrant.destination.tables.names import is_of_dlt
from dagster_qdrant.destination.tables.table_plan import PARTITION, TablePlan
from dagster_qdrant.embedding.embedder import vector_size
from dagster_qdrant.embedding.options import VECTOR_NAME_PREFIX, EmbeddingOptions
from dagster_qdrant.embedding.sparse import KEYWORD_VECTOR
from dagster_qdrant.errors import EmbeddingError, QdrantConfigurationError, QdrantTerminalError
from dagster_qdrant.qdrant.asked_settings import fixed_differences
from dagster_qdrant.qdrant.collections import Collections, about, vector_params, why_unfit

logger = logging.getLogger(__name__)

# dlt's names of what is done here: the row of a key takes the place of the former one. With the
# second one dlt gives each row an id of its own, and not all rows of a key the same.
MERGE_STRATEGIES = ("upsert", "delete-insert")
_PAGE = 1024
_SOME = 100


def refuse_merge_strategy(table: TTableSchema) -> None:
    """A merge has to follow a rule that Qdrant can keep.

    Raises:
        QdrantTerminalError: For a merge strategy that there is not.
    """
    strategy = table.get("x-merge-strategy")
    if table.get("write_disposition") == "merge" and strategy not in (None, *MERGE_STRATEGIES):
        raise QdrantTerminalError(
            f"Table `{table['name']}` asks for the merge strategy '{strategy}', which this "
            "destination does not have. Use `write_disposition={'disposition': 'merge', "
            "'strategy': 'upsert'}`: one point a key, the newest row wins."
        )


def refuse_merge_without_key(table: TTableSchema, plan: TablePlan) -> None:
    """A merge has to know which point a row belongs to, and by which rule.

    Raises:
        QdrantTerminalError: Without a key, or with an option that would have no effect.
    """
    if plan.write_disposition != "merge" or plan.nested:
        return
    name = plan.table_name
    refuse_merge_strategy(table)
    for option in ("source-filter", "destination-scope", "skip-unchanged-rows"):
        if table.get(f"x-merge-{option}"):
            deletes = option == "destination-scope"
            raise QdrantTerminalError(
                f"Table `{name}` sets the merge option `{option.replace('-', '_')}`, which this "
                "destination does not have. Remove it"
                + (", and delete the rows with `delete_rows`." if deletes else ".")
            )
    merge_key = tuple(get_columns_names_with_prop(table, "merge_key", include_incomplete=True))
    if merge_key and table.get("x-merge-strategy") == "delete-insert":
        raise QdrantTerminalError(
            f"Table `{name}` has the merge key {_names(merge_key)} and the merge strategy "
            "'delete-insert', by which this destination cannot merge: it replaces row by row. "
            "Merge by a `primary_key` alone, or load the rows of a merge key as a partition, with "
            "the write disposition 'replace'."
        )
    if merge_key and plan.key:
        logger.warning(
            "Table `%s` has the merge key %s, which is ignored: its rows are merged by %s.",
            name,
            _names(merge_key),
            _names(plan.key),
        )
    if not plan.key:
        raise QdrantTerminalError(
            f"Table `{name}` has the write disposition 'merge' but no key, by which its rows "
            "are distinguished. Give the resource a `primary_key` (of one column or several), "
            "or use the write disposition 'append' or 'replace'."
        )
    if plan.is_parent and not get_columns_names_with_prop(table, "primary_key"):
        raise QdrantTerminalError(
            f"Table `{name}` is merged by a `unique` column and has nested tables. dlt links "
            "their rows by a primary key. Give the resource a `primary_key`."
        )


def refuse_unfit_nested_dispositions(root: TablePlan, nested: Iterable[TablePlan]) -> None:
    """Nested rows of a merge are merged by the rows that they belong to, and in no other way.

    Raises:
        QdrantTerminalError: If a nested table of a merged one is to be appended or replaced.
    """
    for plan in nested:
        if root.write_disposition != "merge" or plan.write_disposition == "merge":
            continue
        raise QdrantTerminalError(
            f"Table `{plan.table_name}` has the write disposition '{plan.write_disposition}', but "
            f"is nested in `{root.table_name}`, which is merged. dlt cannot load that. Give it "
            "'merge' too (`make_nested_hints(write_disposition='merge')`), or a `primary_key` of "
            "its own, which makes it a table that is not nested."
        )


def refuse_rows_of_another_key(
    plan: TablePlan, before: TablePlan | None, collections: Collections
) -> None:
    """Rows can be merged only with rows whose ids were made of the same key.

    All rows are looked at. If the table was merged by this key the last time too, these are some,
    and none where each id is as former versions and dlt's own destination make it.

    Args:
        plan: The table as it is to be loaded.
        before: As it was loaded last, if that is known.
        collections: The dataset's collections.

    Raises:
        QdrantTerminalError: If a former row would not be found, and be there twice.
    """
    if plan.write_disposition != "merge" or plan.nested or not collections.exists(plan.collection):
        return
    goes_on = before and (before.write_disposition, before.key) == ("merge", plan.key)
    if goes_on and len(plan.key) == 1 and not plan.has_decimal_key:
        return
    row = _row_of_another_key(plan, collections, at_most=_SOME if goes_on else None)
    if row is None:
        return
    if before and before.write_disposition == "append":
        was = "was loaded with the write disposition 'append'"
    elif before and before.key != plan.key:
        was = f"was loaded with {f'the key {_names(before.key)}' if before.key else 'no key'}"
    else:
        was = f"holds rows that were loaded in another way, say {str(row)[:200]},"
    raise QdrantTerminalError(
        f"Table `{plan.table_name}` {was} and is now merged by {_names(plan.key)}. Its former "
        "rows have other ids, so each of them would be there twice. Load all rows once with the "
        "write disposition 'replace' and that key, or have dlt drop the former ones with "
        "`refresh='drop_resources'`; from then on it can be merged. (In a script, "
        "call `pipeline.drop_pending_packages()` first.)"
    )


def _row_of_another_key(
    plan: TablePlan, collections: Collections, at_most: int | None
) -> dict[str, Any] | None:
    """A row whose point has not the id that follows from its key, if there is one.

    Args:
        plan: The table.
        collections: The dataset's collections.
        at_most: How many rows are looked at; None: all.
    """
    pages = collections.pages(plan.collection, payload=list(plan.key), page=at_most or _PAGE)
    for records in islice(pages, 1) if at_most else pages:
        for record in records:
            payload = record.payload or {}
            key = [payload.get(name) for name in plan.key]
            if None in key or plan.point_id(key) != str(record.id):
                row = collections.payload(plan.collection, record.id)
                return {name: row[name] for name in row if not is_of_dlt(name)}
    return None


def _names(columns: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in columns)


def refuse_unknown_model(plan: TablePlan, embedding: EmbeddingOptions) -> None:
    """The models have to be known before rows arrive that need them.

    Raises:
        QdrantConfigurationError: If fastembed does not know one, or it cannot be run so.
    """
    what = f"Table `{plan.table_name}`"
    try:
        if plan.embed:
            vector_size(embedding)
        for name, vector in plan.vectors.items():
            what = f"Table `{plan.table_name}`, vector `{name}`"
            vector_size(vector.options(embedding))
        if plan.keywords:
            what = f"Table `{plan.table_name}`, keywords"
            plan.keywords.has_idf(embedding)
    except EmbeddingError as error:
        raise QdrantConfigurationError(f"{what}: {error}") from error


def refuse_unfit_collection(
    plan: TablePlan, collections: Collections, embedding: EmbeddingOptions
) -> None:
    """A collection needs a name that Qdrant takes; one that exists has to be the table's own.

    Raises:
        QdrantTerminalError: If the name is too long, or it belongs to another table or program.
    """
    if reason := why_unfit(plan.collection):
        raise QdrantTerminalError(f"Table `{plan.table_name}`: {reason}")
    info = collections.describe(plan.collection)
    if info is None:
        return
    owner = about(info)
    if owner and (owner["dataset"], owner["table"]) != (collections.dataset_name, plan.table_name):
        raise QdrantTerminalError(
            f"Collection `{plan.collection}` holds table `{owner['table']}` of dataset "
            f"`{owner['dataset']}`. Table `{plan.table_name}` of dataset "
            f"`{collections.dataset_name}` would have the same name. Use another dataset name or "
            "another `dataset_separator`."
        )
    # A collection that this package or dlt's destination made is embedded again, another is not.
    found = vector_params(info)
    if owner or any(name.startswith(VECTOR_NAME_PREFIX) for name in found):
        return
    needed = []
    if plan.embed:
        needed.append(f"`{embedding.vector_name}` of size {vector_size(embedding)}")
    needed += [f"`{name}`" for name in plan.vectors]
    if plan.keywords:
        needed.append(f"the sparse vector `{KEYWORD_VECTOR}`")
    if not needed:
        return
    holds = (
        " and ".join(f"`{name}` of size {vector.size}" for name, vector in found.items())
        or "no vectors"
    )
    raise QdrantTerminalError(
        f"Collection `{plan.collection}` was not made by this package and has {holds}, but table "
        f"`{plan.table_name}` needs {' and '.join(needed)}. "
        "Load into another dataset, or delete the collection."
    )


def refuse_unfit_settings(
    plan: TablePlan, collections: Collections, embedding: EmbeddingOptions
) -> None:
    """What Qdrant keeps as it was when a collection was made has to be what is asked for.

    Raises:
        QdrantTerminalError: If something else is asked for.
    """
    info = collections.describe(plan.collection) if plan.settings else None
    if info is None:
        return
    is_local = collections.connection.is_local
    differences = fixed_differences(plan.settings, info, embedding.vector_name, is_local=is_local)
    for name, (there, asked) in differences.items():
        raise QdrantTerminalError(
            f"Table `{plan.table_name}` asks for `{name}` {asked!r}, and `{plan.collection}` was "
            f"made with {there!r}, which Qdrant cannot change. Have dlt drop the collection with "
            "`refresh='drop_resources'` and load all rows, load into another dataset, or take "
            "it out of `collection`. (In a script, call `pipeline.drop_pending_packages()` first.)"
        )


def refuse_rows_without_partition(plan: TablePlan, collections: Collections) -> None:
    """A partition is replaced only where every row belongs to one.

    Raises:
        QdrantTerminalError: If the table was loaded as a whole before.
    """
    if plan.partition is None:
        return
    from qdrant_client import models

    empty = models.IsEmptyCondition(is_empty=models.PayloadField(key=PARTITION))
    if rows := collections.count(plan.collection, models.Filter(must=[empty])):
        raise QdrantTerminalError(
            f"Table `{plan.table_name}` is to be replaced by partitions, but {rows} rows of "
            f"`{plan.collection}` belong to none: it was loaded as a whole before. Drop it once "
            "with `refresh='drop_resources'`, or load into another dataset; then load the "
            "partitions."
        )
