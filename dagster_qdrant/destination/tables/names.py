"""The names that dlt gives to tables, datasets and its own columns on their way to collections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dlt.common.normalizers.json.helpers import normalize_table_identifier
from dlt.common.schema.typing import DLT_NAME_PREFIX

if TYPE_CHECKING:
    from dlt.common.normalizers.naming import NamingConvention
    from dlt.common.schema import Schema

# The most characters of a dataset's or a table's name; dlt shortens longer ones. Qdrant's names
# may have 255 bytes.
MAX_IDENTIFIER_LENGTH = 200


def table_identifier(schema: Schema, name: str) -> str:
    """A table's name as dlt writes it into a schema: part by part, where `__` joins parts."""
    return normalize_table_identifier(schema, _naming(schema), name)


def is_of_dlt(name: str) -> bool:
    """Whether a table or a column is one that dlt makes, in whatever case its names are."""
    return name.lower().startswith(DLT_NAME_PREFIX)


def dataset_identifier(schema: Schema, name: str) -> str:
    """A dataset's name as it stands in the collections' names."""
    return _naming(schema).normalize_table_identifier(name)


def _naming(schema: Schema) -> NamingConvention:
    """The schema's naming convention with the destination's limit, which dlt sets when it loads."""
    return type(schema.naming)(MAX_IDENTIFIER_LENGTH)
