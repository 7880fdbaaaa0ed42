"""dlt's own tables in Qdrant: loads, schemas and pipeline states."""

from __future__ import annotations

from dlt.common.schema import Schema
from dlt.common.schema.typing import C_DLT_LOAD_ID

from dagster_qdrant.destination.loads.load_table import LoadTable
from dagster_qdrant.destination.loads.schema_table import SchemaTable
from dagster_qdrant.destination.loads.state_table import StateTable
from dagster_qdrant.qdrant.collections import Collections


class DltTables:
    """Reads and writes the `_dlt_*` collections of a dataset.

    Args:
        collections: The dataset's collections.
        schema: The schema whose naming convention the fields follow.

    Attributes:
        schemas: Its schemas.
        loads: Its loads.
        states: The states of its pipelines.
    """

    def __init__(self, collections: Collections, schema: Schema) -> None:
        self._connection = collections.connection
        self._schema = schema
        self.schemas = SchemaTable(collections, schema)
        self.loads = LoadTable(collections, schema, self.schemas)
        self.states = StateTable(collections, schema, self.loads)

    @property
    def load_id_field(self) -> str:
        """The payload field with the id of a row's load."""
        return self._schema.naming.normalize_identifier(C_DLT_LOAD_ID)

    @property
    def has_left_writes(self) -> bool:
        """Whether writes that were not waited for, when told to stop, may still arrive."""
        return self._connection.has_left_writes
