"""What the rows of a table are known by where they come up, with the names of their source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dlt
from dlt.common.schema.utils import get_columns_names_with_prop, get_nested_tables
from dlt.extract import DltResource

from dagster_qdrant.destination.tables.hints import TableHint, marked_columns

if TYPE_CHECKING:
    from dlt.common.normalizers.naming import NamingConvention

# What has no text that could be embedded.
_NOT_TEXT = {
    **dict.fromkeys((bytes, bytearray, memoryview), "bytes"),
    **dict.fromkeys((dict, list, tuple, set), "nested data"),
}


@dataclass
class RowKey:
    """What the rows of a table are known by, in rows whose names are still the source's.

    Args:
        table: The table.
        columns: The columns of the key, as dlt normalizes their names. Rows that are not merged
            need none.
        embedded: The columns that are embedded, in the same way.
        naming: How it does.
        is_replaced: Whether the table is replaced, and each one nested in it goes along.
        nests: Whether the table has nested ones, as far as is known.
    """

    table: str
    columns: tuple[str, ...]
    embedded: frozenset[str]
    naming: NamingConvention
    is_replaced: bool
    nests: bool
    _names: dict[str, str] = field(default_factory=dict)

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
        embedded = hint.embed if hint else map(schema.naming.normalize_path, marked_columns(table))
        nested = get_nested_tables(schema.tables, name, include_self=False)
        hints = [each for *_, each in resource.get_nested_hints(name, schema.naming, item, meta)]
        own = {each.get("write_disposition") for each in (*nested, *hints)}
        return cls(
            name,
            tuple(map(schema.naming.normalize_path, key)),
            frozenset(embedded),
            schema.naming,
            is_replaced=disposition == "replace" and own <= {None, "merge", "replace"},
            nests=bool(nested),
        )

    def values(self, row: Mapping[Any, Any]) -> list[Any]:
        """The values of the key; None where a row has none."""
        values = []
        for column in self.columns:
            value = row.get(self._names.get(column, column))
            if value is None:
                value = next(self._found(row, column, ()), None)
            values.append(value)
        return values

    def without_text(self, row: Mapping[Any, Any]) -> tuple[Any, str] | None:
        """A name of a column to embed whose value has no text, and what it is instead."""
        for name, value in row.items() if self.embedded else ():
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


def _has_list(value: Any) -> bool:
    """Whether a value of a row is a list, or has one in it."""
    if isinstance(value, Mapping):
        return any(map(_has_list, value.values()))
    return isinstance(value, (list, tuple))
