"""What a user says of the columns that searches filter by, and what dlt's books are read by."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

from dlt.common.schema.typing import C_DLT_LOAD_ID, C_DLT_LOADS_TABLE_LOAD_ID

from dagster_qdrant.destination.tables.typed_values import shortest_decimal
from dagster_qdrant.qdrant.collection_settings import index_params

if TYPE_CHECKING:
    from dlt.common.schema import Schema

# What `create_payload_index` takes, as plain data; None: as the column's type asks for.
Index = Mapping[str, Any] | None

# Of fields that loads look exact values up in, some hundreds at once. The server need not hold them
# in memory: a million points take 5 MB of it so, else 265 MB, and 130 MB by the type "uuid", which
# fits fingerprints; a look-up takes as long. (`on_disk` is what servers of any version know.)
OF_LOOKUPS: Mapping[str, Any] = {"type": "keyword", "on_disk": True}
OF_FINGERPRINTS: Mapping[str, Any] = {"type": "uuid", "on_disk": True}

# The index that fits a column of a type of dlt's. Nested data may be anything, so it has none.
_DEFAULTS: Mapping[str, str] = {
    "text": "keyword",
    "bigint": "integer",
    "double": "float",
    "decimal": "float",
    "timestamp": "datetime",
    "date": "datetime",
    "bool": "bool",
}
# The types of columns whose values an index can find. Nested data may hold what any of them finds.
_FITTING: Mapping[str, frozenset[str]] = {
    "keyword": frozenset({"text", "decimal", "wei", "timestamp", "date", "time", "binary"}),
    "integer": frozenset({"bigint"}),
    "float": frozenset({"bigint", "double", "decimal", "wei"}),
    "datetime": frozenset({"timestamp", "date", "text"}),
    "bool": frozenset({"bool"}),
    "uuid": frozenset({"text"}),
    "text": frozenset({"text"}),
    "geo": frozenset(),
}
_NESTED = "json"
# Types whose values are text in a payload, unless they are indexed as numbers.
_DECIMALS = frozenset({"decimal", "wei"})


def read_indexes(said: Any) -> dict[str, Index]:
    """Read what a user said: columns, or the index of each by column.

    Args:
        said: A column, a list of columns, or by column a type of Qdrant's, one of its objects
            (`models.TextIndexParams(...)`) or the fields of one.

    Returns:
        By column plain data as Qdrant's REST interface takes it; None: as the column's type asks.

    Raises:
        ValueError: For what names no column, and for an index that Qdrant does not have.
    """
    if said is None:
        return {}
    if isinstance(said, str):
        said = [said]
    if isinstance(said, (list, tuple)):
        said = dict.fromkeys(map(_column, said))
    if not isinstance(said, Mapping):
        raise ValueError(  # noqa: TRY004
            "`index` must name the columns that searches filter by, as a list or with the index of "
            f"each, say {{'year': 'integer'}}. It is {said!r}."
        )
    return {_column(column): _index(column, index) for column, index in said.items()}


def _column(name: Any) -> str:
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"`index` must name columns; {name!r} is no column's name.")
    return name


def _index(column: str, said: Any) -> Index:
    if said is None:
        return None
    if isinstance(said, str):
        kind = str(said.value if isinstance(said, Enum) else said)
        return {"type": _known(column, kind)}
    given = said
    if hasattr(said, "model_dump"):
        given = said.model_dump(mode="json", exclude_none=True)
    if not isinstance(given, Mapping) or "type" not in given:
        raise ValueError(
            f"`index` says {said!r} of `{column}`; it must be one of {', '.join(_FITTING)}, or an "
            "object with such a `type`, say {'type': 'keyword', 'is_tenant': True}."
        )
    given = {**given, "type": _known(column, str(getattr(given["type"], "value", given["type"])))}
    try:
        params = index_params(given)
    except ValueError as error:
        raise ValueError(f"`index` says {said!r} of `{column}`: {error}") from error
    return dict(params.model_dump(mode="json", exclude_none=True))


def _known(column: str, kind: str) -> str:
    if kind in _FITTING:
        return kind
    nearest = difflib.get_close_matches(kind, _FITTING, n=1, cutoff=0.5)
    advice = f"Did you mean '{nearest[0]}'?" if nearest else f"There are {', '.join(_FITTING)}."
    raise ValueError(
        f"`index` has the type {kind!r} for `{column}`, which does not exist. {advice}"
    )


def settled_index(index: Index, data_type: str | None) -> Index:
    """The index of a column; None if nobody said which, and its type does not tell.

    Args:
        index: What was said of it.
        data_type: dlt's type of the column; None if no row has a value in it.
    """
    usual = _DEFAULTS.get(data_type or "")
    return {"type": usual} if index is None and usual else index


def is_stored_as_number(index: Index, data_type: str | None) -> bool:
    """Whether a column's decimals have to be numbers, so that its index finds them."""
    return index is not None and index["type"] == "float" and data_type in _DECIMALS


def why_unfit_to_index(index: Index, data_type: str) -> str | None:
    """What speaks against an index of a column of a type, and what to do; None if nothing does."""
    if index is None:
        return (
            f"is of the type `{data_type}`, for which there is no usual index. Say which, by "
            f"column: one of {', '.join(_FITTING)}, or take it out of `index`."
        )
    kind = str(index["type"])
    if data_type in (_NESTED, *_FITTING[kind]):
        return None
    usual = _DEFAULTS.get(data_type)
    advice = f"Use '{usual}', or take" if usual else "Take"
    return (
        f"is of the type `{data_type}`, in which an index of the type '{kind}' finds nothing. "
        f"{advice} it out of `index`."
    )


def as_number(value: Any) -> Any:
    """A decimal's number; any other value as it is, and what no number of JSON can say."""
    if not isinstance(value, str):
        return value
    try:
        number = float(value)
    except ValueError:
        return value
    return number if abs(number) < float("inf") else value


def as_decimal(value: Any) -> Any:
    """The text of a decimal that was stored as a number; any other value as it is."""
    return shortest_decimal(repr(value)) if isinstance(value, (int, float)) else value


def dlt_indexes_of(table_name: str, schema: Schema) -> Mapping[str, Mapping[str, Any]]:
    """The payload fields that dlt's books are read by: in its own tables, and in all others."""
    field = schema.naming.normalize_identifier
    by_table: dict[str, dict[str, str]] = {
        schema.version_table_name: {
            field("schema_name"): "keyword",
            field("version_hash"): "keyword",
            field("inserted_at"): "datetime",
        },
        schema.loads_table_name: {
            field(C_DLT_LOADS_TABLE_LOAD_ID): "keyword",
            field("status"): "integer",
            field("pipeline_name"): "keyword",
        },
        schema.state_table_name: {
            field("pipeline_name"): "keyword",
            field("created_at"): "datetime",
            field(C_DLT_LOAD_ID): "keyword",
        },
    }
    if table_name not in by_table:
        return {field(C_DLT_LOAD_ID): OF_LOOKUPS}
    return {name: {"type": kind} for name, kind in by_table[table_name].items()}
