"""The collection of a table that somebody names: dlt has written both names in its own way."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from dlt.common.json import json
from dlt.common.normalizers.naming.exceptions import NormalizersException
from dlt.common.schema import Schema
from dlt.common.schema.typing import DLT_NAME_PREFIX

from dagster_qdrant.destination.configuration import QdrantDestinationConfiguration
from dagster_qdrant.destination.loads.schema_table import SchemaTable
from dagster_qdrant.destination.tables.names import dataset_identifier, table_identifier
from dagster_qdrant.errors import QdrantConfigurationError
from dagster_qdrant.qdrant.collections import Collections
from dagster_qdrant.qdrant.connection import Connection

# Qdrant has no collection with any of these in its name.
_NEVER_IN_A_NAME = set('<>:"/\\|?*\0\x1f')

# dlt's conventions beside its usual one. What "direct" makes of a name is the name.
_CONVENTIONS = ("sql_cs_v1", "sql_ci_v1")

# The most collections that are named where the one that is asked for is not there.
_MOST_NAMES = 5

# The most stored schemas that are looked at, the newest first.
_MOST_SCHEMAS = 20


def collection_names(
    connection: Connection,
    config: QdrantDestinationConfiguration,
    dataset_name: str | None,
    table: str,
) -> Iterator[str]:
    """The names that the collection of a table may have, the likeliest first.

    Nothing is asked of Qdrant for the first ones: the names as they were typed, and by dlt's
    conventions. After them come those by the conventions of what was loaded into the dataset.

    Args:
        connection: The way to Qdrant.
        config: The destination's options.
        dataset_name: The dataset as somebody names it, or None.
        table: The table as somebody names it.

    Yields:
        Names, each once.

    Raises:
        QdrantConfigurationError: If one of the two is no name.
    """
    if not isinstance(table, str) or not table.strip():
        raise QdrantConfigurationError(
            f"`table` is {table!r}; it must be the name of a table, say that of a dlt resource."
        )
    if dataset_name is not None and not isinstance(dataset_name, str):
        raise QdrantConfigurationError(
            f"`dataset_name` is {dataset_name!r}; it must be the dataset's name, or None."
        )
    usual = Schema("lookup")
    known = [usual, *(Schema("lookup", normalizers={"names": name}) for name in _CONVENTIONS)]
    datasets = dict.fromkeys([dataset_name, *(_dataset(each, dataset_name) for each in known)])
    seen: set[str] = set()
    for name in dict.fromkeys([table, *(table_identifier(each, table) for each in known)]):
        for dataset in datasets:
            collection = config.collection_name(dataset, name)
            if collection not in seen and not _NEVER_IN_A_NAME & set(collection):
                seen.add(collection)
                yield collection
    for dataset in datasets:
        if _NEVER_IN_A_NAME & set(dataset or ""):
            continue
        schemas = SchemaTable(Collections(connection, dataset, config.dataset_separator), usual)
        for stored in islice(schemas.all(), _MOST_SCHEMAS):
            with suppress(ImportError, NormalizersException):  # a convention of somebody else's
                schema = Schema.from_stored_schema(json.loads(stored.schema))
                collection = config.collection_name(dataset, table_identifier(schema, table))
                if collection not in seen:
                    seen.add(collection)
                    yield collection


def near_collections(connection: Connection, name: str) -> str:
    """What collections there are, for somebody who named one that there is not."""
    found = connection.request(connection.client.get_collections).collections
    names = sorted(
        each.name for each in found if f"_{DLT_NAME_PREFIX}" not in f"_{each.name}".lower()
    )
    if not names:
        return "It has no collections with rows."
    near = difflib.get_close_matches(name, names, n=_MOST_NAMES, cutoff=0.4) or names[:_MOST_NAMES]
    return f"It has {', '.join(f'`{each}`' for each in near)}."


def usual_collection(
    config: QdrantDestinationConfiguration, dataset_name: str | None, table: str
) -> str:
    """The collection of a table by the naming convention that dlt is configured with."""
    usual = Schema("lookup")
    return config.collection_name(_dataset(usual, dataset_name), table_identifier(usual, table))


def _dataset(schema: Schema, dataset_name: str | None) -> str | None:
    return dataset_name and dataset_identifier(schema, dataset_name)
