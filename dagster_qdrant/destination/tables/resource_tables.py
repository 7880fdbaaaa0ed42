"""The tables that a dlt resource fills.

A resource is no table. Its rows may say which table they belong to, lists in them become tables of
their own, and several resources may fill one table. A schema knows the tables of a resource.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dlt.common.schema.utils import get_nested_tables, get_root_table, is_nested_table

from dagster_qdrant.destination.tables.names import table_identifier

if TYPE_CHECKING:
    from dlt.common.schema import Schema
    from dlt.extract import DltResource


@dataclass(frozen=True)
class ResourceTables:
    """The tables that a resource fills.

    Args:
        resource: The resource's name.
        named: The table that the resource itself names; None if its rows do.
        roots: The tables of its rows, the named one first.
        nested: For each of them, the tables of the lists in its rows.
    """

    resource: str
    named: str | None
    roots: tuple[str, ...]
    nested: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, resource: DltResource, schema: Schema, also: Iterable[str] = ()) -> ResourceTables:
        """Read them off a schema.

        Args:
            resource: The resource.
            schema: The schema that its rows were loaded with.
            also: Tables that are known to be its own too. A schema names one resource for a table,
                also where several fill it. And it keeps the tables that a resource named before,
                so those of one that names its table count only if they are known.
        """
        tables = schema.tables
        named = named_table(resource, schema)
        roots = tables_in(schema, resource) if named is None else [named]
        for name in sorted(also):
            roots.append(str(get_root_table(tables, name)["name"]) if name in tables else name)
        roots = list(dict.fromkeys(roots))
        return cls(
            resource=resource.name,
            named=named,
            roots=tuple(roots),
            nested={
                root: tuple(
                    str(table["name"])
                    for table in get_nested_tables(tables, root, include_self=False)
                )
                for root in roots
                if root in tables
            },
        )

    @property
    def all(self) -> list[str]:
        """All tables: each root, and after it those that are nested in it."""
        return [name for root in self.roots for name in self.chain(root)]

    def chain(self, root: str) -> list[str]:
        """A root table and those that are nested in it."""
        return [root, *self.nested.get(root, ())]

    def main(self, rows: Mapping[str, int]) -> str | None:
        """The table that stands for the resource: the one that it names, or else the largest.

        Args:
            rows: The rows of the tables that are there.
        """
        there = [root for root in self.roots if root in rows]
        if self.named in there or not there:
            return self.named
        return max(there, key=lambda root: rows[root])


def tables_in(schema: Schema, resource: DltResource) -> list[str]:
    """The tables that a schema has of a resource, now or formerly; without nested ones."""
    return sorted(
        name
        for name, table in schema.tables.items()
        if table.get("resource") == resource.name and not is_nested_table(table)
    )


def named_table(resource: DltResource, schema: Schema) -> str | None:
    """The table that a resource names, as dlt writes the name; None if its rows name theirs."""
    name = resource.table_name
    return None if callable(name) else table_identifier(schema, str(name))


def has_rows(schema: Schema, table_name: str) -> bool:
    """Whether rows of a table were ever loaded with a schema."""
    table = schema.tables.get(table_name)
    return bool(table and (table.get("x-normalizer") or {}).get("seen-data"))
