"""What the rows of a table are known by where they come up, with the names of their source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import dlt
from dlt.common.schema.utils import (
    get_columns_names_with_prop,
    get_first_column_name_with_prop,
    get_nested_tables,
)
from dlt.extract import DltResource

from dagster_qdrant.destination.tables.chunks import Chunking
from dagster_qdrant.destination.tables.hints import TableHint, marked_columns

if TYPE_CHECKING:
    from dlt.common.normalizers.naming import NamingConvention
    from dlt.common.schema import Schema

# What has no text that could be embedded.
_NOT_TEXT = {
    **dict.fromkeys((bytes, bytearray, memoryview), "bytes"),
    **dict.fromkeys((dict, list, tuple, set), "nested data"),
}

# What most values are, which need not be looked at more closely.
_PLAIN = frozenset((str, int, float, bool, type(None)))


@dataclass
class RowKey:
    """What the rows of a table are known by, in rows whose names are still the source's.

    Args:
        table: The table.
        columns: The columns of the key, as dlt normalizes their names. Rows that are not merged
            need none.
        in_order: The columns that are embedded, in the same way, in the order of the text.
        naming: How it does.
        is_replaced: Whether the table is replaced, and each one nested in it goes along.
        nests: Whether the table has nested ones, as far as is known.
        chunking: How its texts are cut into chunks, if they are.
        indexed: The columns that are indexed.
        hard_delete: The column that marks a row as deleted, in a merge.
        types: Its columns, as far as their types are known.
        max_nesting: How many levels of lists become tables.
    """

    table: str
    columns: tuple[str, ...]
    in_order: tuple[str, ...]
    naming: NamingConvention
    is_replaced: bool
    nests: bool
    chunking: Chunking | None = None
    indexed: frozenset[str] = frozenset()
    hard_delete: str | None = None
    types: Mapping[str, Any] = field(default_factory=dict)
    max_nesting: int = 1
    _names: dict[str, str] = field(default_factory=dict)
    _columns: dict[tuple[Any, ...], str] = field(default_factory=dict)

    @cached_property
    def embedded(self) -> frozenset[str]:
        """The columns that are embedded."""
        return frozenset(self.in_order)

    @classmethod
    def of(cls, resource: DltResource, item: Any, meta: Any) -> RowKey:
        """Read the key of a row off the hints of its resource."""
        schema = dlt.current.source_schema()
        table: Any = resource.compute_table_schema(item, meta)
        disposition = table.get("write_disposition")
        key: list[str] = []
        if disposition in ("merge", "replace"):
            key = get_columns_names_with_prop(table, "primary_key", include_incomplete=True)
        if disposition == "merge":
            key = key or get_columns_names_with_prop(table, "unique", include_incomplete=True)
        name = schema.naming.normalize_table_identifier(str(table["name"]))
        hint = TableHint.of(table, schema.naming)
        marked = map(schema.naming.normalize_path, marked_columns(table))
        stored: Mapping[str, Any] = schema.tables.get(name, {})
        columns = {
            schema.naming.normalize_path(str(each)): column
            for known in (stored.get("columns", {}), table["columns"])
            for each, column in known.items()
        }
        deletes = None
        if disposition == "merge":  # in all others, a row that is marked is a row
            deletes = get_first_column_name_with_prop(table, "hard_delete", include_incomplete=True)
        nested = get_nested_tables(schema.tables, name, include_self=False)
        hints = [each for *_, each in resource.get_nested_hints(name, schema.naming, item, meta)]
        own = {each.get("write_disposition") for each in (*nested, *hints)}
        return cls(
            name,
            tuple(map(schema.naming.normalize_path, key)),
            hint.embed if hint else tuple(marked),
            schema.naming,
            is_replaced=disposition == "replace" and own <= {None, "merge", "replace"},
            nests=bool(nested),
            chunking=hint.chunk if hint else None,
            indexed=frozenset(hint.index if hint else ()),
            hard_delete=deletes and schema.naming.normalize_path(deletes),
            types=columns,
            max_nesting=_max_nesting(table, schema),
        )

    def values(self, row: Mapping[Any, Any]) -> list[Any]:
        """The values of the key; None where a row has none."""
        return [self.value(row, column) for column in self.columns]

    def value(self, row: Mapping[Any, Any], column: str) -> Any:
        """The value that a row has in a column; None if it has none."""
        value = row.get(self._names.get(column, column))
        return next(self._found(row, column, ()), None) if value is None else value

    def column(self, *path: Any) -> str:
        """The column that dlt makes of a name in a row, or of one in a dict in it."""
        if path not in self._columns:
            parts = map(self._normalized, path)
            self._columns[path] = self.naming.shorten_fragments(*parts)
        return self._columns[path]

    def without_text(self, row: Mapping[Any, Any]) -> tuple[Any, str] | None:
        """A name of a column to embed whose value has no text, and what it is instead."""
        for name, value in row.items() if self.embedded else ():
            if type(value) in _PLAIN:
                continue
            what = value and next((_NOT_TEXT[t] for t in _NOT_TEXT if isinstance(value, t)), None)
            if what and self._normalized(name) in self.embedded:
                return name, what
        return None

    def has_nested_rows(self, row: Mapping[Any, Any]) -> bool:
        """Whether a row, or one before it, has rows of nested tables in it."""
        self.nests = self.nests or any(map(_has_list, row.values()))
        return self.nests

    def names(self, columns: Sequence[str]) -> list[str | None]:
        """The names that the columns of the key have among those of a data frame."""
        normalized = {self._normalized(name): name for name in columns}
        return [normalized.get(column) for column in self.columns]

    def _found(self, row: Mapping[Any, Any], column: str, path: tuple[str, ...]) -> Iterator[Any]:
        """The values that dlt will put into a column: of another spelling, or out of a dict."""
        for name, value in row.items():
            normalized = (*path, self._normalized(name))
            if self.naming.shorten_fragments(*normalized) == column and value is not None:
                if not path:
                    self._names[column] = name
                yield value
            elif isinstance(value, Mapping):
                yield from self._found(value, column, normalized)

    def _normalized(self, name: Any) -> str:
        text = str(name)
        return self.naming.normalize_identifier(text) if text.strip() else ""


def _max_nesting(table: Mapping[str, Any], schema: Schema) -> int:
    """How many levels of lists become tables, by what is said of the table or of all."""
    own = (table.get("x-normalizer") or {}).get("max_nesting")
    of_all: Any = schema.data_item_normalizer
    return int(of_all.max_nesting if own is None else own)


def _has_list(value: Any) -> bool:
    """Whether a value of a row is a list, or has one in it."""
    if isinstance(value, Mapping):
        return any(map(_has_list, value.values()))
    return isinstance(value, (list, tuple))
