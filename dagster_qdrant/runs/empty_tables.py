"""Collections of resources that have given no row so far: who searches them finds nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dlt.common.json import json
from dlt.common.schema import Schema
from dlt.common.schema.utils import normalize_table_identifiers

from dagster_qdrant.destination.tables.hints import EMBED_HINT
from dagster_qdrant.destination.tables.resource_tables import has_rows

if TYPE_CHECKING:
    from dlt.common.schema.typing import TTableSchema
    from dlt.extract import DltResource

    from dagster_qdrant.destination.job_client import QdrantJobClient
    from dagster_qdrant.destination.tables.resource_tables import ResourceTables


def make_empty_collections(
    client: QdrantJobClient, resource: DltResource, tables: ResourceTables
) -> None:
    """Make the collection of a resource that was loaded and never gave a row.

    A collection that had rows and is gone is not made anew, so that its loss shows.

    Args:
        client: The job client, entered.
        resource: The resource.
        tables: Its tables, as far as they are known.
    """
    if tables.named is None or resource.has_other_dynamic_hints:
        return  # what its table is like, its rows alone tell
    if any(has_rows(client.schema, name) for name in tables.all):
        return
    if client.collections.exists(client.collections.name(tables.named)):
        return
    stored = client.get_stored_schema_of(resource.name, tables.named)
    if stored is not None:  # another pipeline may have loaded it
        schema = Schema.from_stored_schema(json.loads(stored.schema))
        if has_rows(schema, tables.named):
            return
    client.make_collections(_described(resource, tables.named, client.schema))


def _described(resource: DltResource, name: str, schema: Schema) -> list[TTableSchema]:
    """The tables of a resource as its hints describe them, the nested ones after their parents."""
    root = {**resource.compute_table_schema(), "name": name}
    described: list[Any] = [root, *resource.compute_nested_table_schemas(name, schema.naming)]
    tables: list[Any] = [normalize_table_identifiers(table, schema.naming) for table in described]
    for table in tables:
        for column in table["columns"].values():
            if column.get(EMBED_HINT):  # dlt takes no notice of columns without a type
                column.setdefault("data_type", "text")
    return tables
