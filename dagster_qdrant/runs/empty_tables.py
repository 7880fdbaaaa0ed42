"""Collections of resources that have given no row so far: who searches them finds nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dlt.common.json import json
from dlt.common.schema import Schema
from dlt.common.schema.utils import normalize_table_identifiers

from dagster_qdrant.destination.tables.hints import (
    EMBED_HINT,
    LIST_SEPARATOR,
    TableHint,
    embedded_lists,
)
from dagster_qdrant.destination.tables.resource_tables import has_rows

if TYPE_CHECKING:
    from dlt.common.schema.typing import TTableSchema
    from dlt.extract import DltResource

    from dagster_qdrant.destination.job_client import QdrantJobClient
    from dagster_qdrant.destination.tables.resource_tables import ResourceTables


def make_empty_collections(
    client: QdrantJobClient, resource: DltResource, tables: ResourceTables
) -> None:
    """Make the collections of a resource that was loaded, where no row was ever given.

    These are the collection of its table, and of lists in its rows that are embedded. One that had
    rows and is gone is not made anew, so that its loss shows.

    Args:
        client: The job client, entered.
        resource: The resource.
        tables: Its tables, as far as they are known.
    """
    if tables.named is None or resource.has_other_dynamic_hints:
        return  # what its table is like, its rows alone tell
    goes_elsewhere = any(has_rows(client.schema, root) for root in tables.roots)
    wanted = [
        name
        for name in _searched(resource, tables.named, client.schema)
        if not has_rows(client.schema, name)
        and not (name == tables.named and goes_elsewhere)
        and not client.collections.exists(client.collections.name(name))
    ]
    stored = client.get_stored_schema_of(resource.name, tables.named) if wanted else None
    if stored is not None:  # another pipeline may have loaded it
        schema = Schema.from_stored_schema(json.loads(stored.schema))
        wanted = [name for name in wanted if not has_rows(schema, name)]
    if wanted:
        client.make_collections(_described(resource, tables.named, client.schema), wanted)


def _searched(resource: DltResource, named: str, schema: Schema) -> list[str]:
    """The table of a resource, and those of its lists that are embedded."""
    lists = TableHint(nested=dict.fromkeys(embedded_lists(resource), ()))
    return [named, *lists.nested_tables(named, schema.naming)]


def _described(resource: DltResource, named: str, schema: Schema) -> list[TTableSchema]:
    """The tables of a resource as its hints describe them, each after its parent."""
    root = {**resource.compute_table_schema(), "name": named}
    described: dict[str, Any] = {named: normalize_table_identifiers(root, schema.naming)}  # type: ignore[arg-type]
    for name in embedded_lists(resource):
        parts, parent = name.split(LIST_SEPARATOR), named
        for depth in range(1, len(parts) + 1):
            path = LIST_SEPARATOR.join(parts[:depth])
            [table] = TableHint(nested={path: ()}).nested_tables(named, schema.naming)
            described.setdefault(table, {"name": table, "parent": parent, "columns": {}})
            parent = table
    for nested in resource.compute_nested_table_schemas(named, schema.naming):
        described[str(nested["name"])] = normalize_table_identifiers(nested, schema.naming)
    for each in described.values():
        for column in each["columns"].values():
            if column.get(EMBED_HINT):  # dlt takes no notice of columns without a type
                column.setdefault("data_type", "text")
    return list(described.values())
