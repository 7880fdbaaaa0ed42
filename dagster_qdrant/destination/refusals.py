"""What cannot be loaded as it is asked for, said before anything is written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dlt.common.json import json
from dlt.common.schema import Schema
from dlt.common.schema.typing import DLT_NAME_PREFIX, TTableSchema
from dlt.common.schema.utils import (
    get_columns_names_with_prop,
    get_nested_tables,
    is_complete_column,
)

from dagster_qdrant.destination.tables.hints import TableHint, marked_columns
from dagster_qdrant.destination.tables.payload_indexes import why_unfit_to_index
from dagster_qdrant.destination.tables.table_plan import PARTITION, ROW_HASH, TablePlan
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
_NOT_TEXT = {"binary": "bytes", "json": "nested data"}


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
            raise QdrantTerminalError(
                f"Table `{name}` sets the merge option `{option.replace('-', '_')}`, which this "
                "destination does not have. Remove it."
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
            f"Table `{name}` has the write disposition 'merge' but no key, so its rows cannot be "
            "told apart. Give the resource a `primary_key` (of one column or several), or use "
            "the write disposition 'append' or 'replace'."
        )
    if plan.is_parent and not get_columns_names_with_prop(table, "primary_key"):
        raise QdrantTerminalError(
            f"Table `{name}` is merged by a `unique` column and has nested tables, whose rows dlt "
            "ties to a primary key. Give the resource a `primary_key`."
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

    All rows are looked at, unless the table was merged by this key the last time too.

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
    if goes_on and not (len(plan.key) > 1 and _is_of_dlt(plan, collections)):
        return
    row = _row_of_another_key(plan, collections)
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
        "rows would not be found by that key and be there twice. Load all rows once with the "
        "write disposition 'replace' and that key, or have dlt drop the former ones with "
        "`refresh='drop_resources'`; from then on it can be merged. (In a script, "
        "`pipeline.drop_pending_packages()` comes first.)"
    )


def _row_of_another_key(plan: TablePlan, collections: Collections) -> dict[str, Any] | None:
    """A row whose point has not the id that follows from its key, if there is one."""
    fields = list(plan.key)
    for records in collections.pages(plan.collection, payload=fields, page=_PAGE):
        for record in records:
            payload = record.payload or {}
            key = [payload.get(name) for name in plan.key]
            if None in key or plan.point_id(key) != str(record.id):
                row = collections.payload(plan.collection, record.id)
                return {name: row[name] for name in row if not name.startswith(DLT_NAME_PREFIX)}
    return None


def _is_of_dlt(plan: TablePlan, collections: Collections) -> bool:
    """Whether dlt's own destination, whose ids for several columns differ, wrote the points."""
    points = next(collections.pages(plan.collection, payload=[ROW_HASH], page=1), [])
    return any(ROW_HASH not in (point.payload or {}) for point in points)


def _names(columns: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in columns)


def refuse_unfit_embed_columns(table: TTableSchema, plan: TablePlan) -> None:
    """Columns to embed have to exist and to hold text, or something with an obvious text.

    Raises:
        QdrantTerminalError: For columns that no row has, and for bytes and nested data.
    """
    columns: Mapping[str, Any] = table["columns"]
    # A column that no row has is not in what dlt prepared, of which the plan was made.
    embed = marked_columns(table) if plan.in_any_order else plan.embed
    keywords = plan.keywords.columns if plan.keywords else ()
    for name in dict.fromkeys([*embed, *keywords]):
        asked = "embed" if name in embed else "find by its keywords"
        _refuse_column_without_values(name, asked, columns, plan)
        kinds = {columns[each]["data_type"] for each in (name, *plan.variants.get(name, ()))}
        if unfit := sorted(kinds & _NOT_TEXT.keys()):
            raise QdrantTerminalError(
                f"Table `{plan.table_name}` is to {asked} `{name}`, which holds "
                f"{_NOT_TEXT[unfit[0]]} and not text. Turn it into text first, say with "
                f"`resource.add_map(...)`, or take it out of "
                f"`{'embed' if name in embed else 'keywords'}`."
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
                "in its key. Rows are told apart by all of its digits, and a number may lose some. "
                f"Say `index={{'{name}': 'keyword'}}`, or take it out of `index`."
            )


def warn_of_missing_lists(table: TTableSchema, schema: Schema) -> None:
    """Say which lists are to be embedded that no row has had; they may all have been empty."""
    hint, table_name = TableHint.of(table, schema.naming), str(table["name"])
    for nested, name in (hint.nested_tables(table_name, schema.naming) if hint else {}).items():
        if nested in schema.tables:
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
    for name in plan.embed:
        if place := _place_of_nested_data(name, plan, schema, lines_of):
            raise QdrantTerminalError(
                f"Table `{plan.table_name}` is to embed `{name}`, which holds nested data and not "
                f"text in this load (dlt put it into `{place}`). Turn it into text first, say with "
                "`resource.add_map(...)`, or take it out of `embed`."
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


def refuse_unknown_model(plan: TablePlan, embedding: EmbeddingOptions) -> None:
    """The model has to be known before rows arrive that need it.

    Raises:
        QdrantConfigurationError: If fastembed does not know it.
    """
    if not plan.embed:
        return
    try:
        vector_size(embedding)
    except EmbeddingError as error:
        raise QdrantConfigurationError(f"Table `{plan.table_name}`: {error}") from error


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
            "it out of `collection`. (In a script, `pipeline.drop_pending_packages()` comes first.)"
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
