"""What users say of their tables, as it travels in dlt's schema.

`qdrant_adapter` writes one hint on the table. The next call replaces it as a whole, so what was
said last counts. dlt's own adapter marks columns instead; it may be used as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from dlt.common.schema.utils import get_columns_names_with_prop, is_complete_column

from dagster_qdrant.errors import QdrantTerminalError

if TYPE_CHECKING:
    from dlt.common.normalizers.naming import NamingConvention
    from dlt.common.schema.typing import TStoredSchema, TTableSchema
    from dlt.extract import DltResource

# On a table: all that `qdrant_adapter` was told of it.
TABLE_HINT = "x-qdrant"
# On a column: it is embedded. Written by dlt's own adapter, and by former versions of ours.
EMBED_HINT = "x-qdrant-embed"


@dataclass(frozen=True)
class TableHint:
    """What a user says of a table.

    Args:
        embed: The columns whose text is embedded, in the order of the text.
    """

    embed: tuple[str, ...] = ()

    def to_hint(self) -> dict[str, Any]:
        """The value of the hint: plain data, since the schema is kept as JSON."""
        return {"embed": list(self.embed)}

    @classmethod
    def of(cls, table: TTableSchema, naming: NamingConvention) -> TableHint | None:
        """Read the hint off a table of a schema; None if it has none.

        Args:
            table: The table.
            naming: How the schema writes the names of columns.

        Raises:
            QdrantTerminalError: For a hint that this version does not know.
        """
        hint: Mapping[str, Any] | None = table.get(TABLE_HINT)  # type: ignore[assignment]
        if hint is None:
            return None
        if unknown := sorted(hint.keys() - {field.name for field in fields(cls)}):
            raise QdrantTerminalError(
                f"Table `{table['name']}` has the hint `{TABLE_HINT}` with "
                f"{', '.join(f'`{name}`' for name in unknown)}, which this version does not know. "
                "Write it with `qdrant_adapter`."
            )
        named = (naming.normalize_path(name) for name in hint.get("embed", ()))
        return cls(embed=tuple(dict.fromkeys(named)))


def marked_columns(table: TTableSchema) -> tuple[str, ...]:
    """The columns that dlt's adapter marked, in an order that does not depend on the rows."""
    return tuple(sorted(get_columns_names_with_prop(table, EMBED_HINT, include_incomplete=True)))


def embedded_columns(resource: DltResource) -> list[str]:
    """The columns that a resource asks to embed, as they were named to the adapter."""
    hints: Mapping[str, Any] = resource._hints or {}  # dlt shows no hints of tables elsewhere
    if hint := (hints.get("additional_table_hints") or {}).get(TABLE_HINT):
        return list(hint["embed"])
    columns: Any = resource.columns
    if not isinstance(columns, dict):
        return []
    return [name for name, column in columns.items() if column.get(EMBED_HINT)]


def without_hints(stored: TStoredSchema) -> TStoredSchema:
    """A schema without what users say anew with each load.

    dlt merges the hints of a load into the schema that it keeps, and never takes one out. So that
    a hint which is no longer given has no effect, none is kept: they live as long as the load.
    The version does not rise when hints come and go.

    Args:
        stored: The schema. One that is made of a file which the user keeps, dlt's import schema,
            stays as it is: what the file says is said each time.

    Returns:
        A copy; or the schema itself, if it has no such hint.
    """
    if stored.get("imported_version_hash"):
        return stored
    tables = {str(name): _without_hints(table) for name, table in stored["tables"].items()}
    if all(table is stored["tables"][name] for name, table in tables.items()):
        return stored
    return _same_version({**stored, "tables": tables})


def _without_hints(table: TTableSchema) -> TTableSchema:
    marked = marked_columns(table)
    if TABLE_HINT not in table and not marked:
        return table
    kept: Any = {name: value for name, value in table.items() if name != TABLE_HINT}
    kept["columns"] = {}
    for name, column in table["columns"].items():
        rest = {key: value for key, value in column.items() if key != EMBED_HINT}
        # A column that is known by its mark alone, since no row has a value in it, goes with that.
        if name not in marked or is_complete_column(column) or rest.keys() - {"name", "nullable"}:
            kept["columns"][name] = rest
    return kept  # type: ignore[no-any-return]


def _same_version(stored: TStoredSchema) -> TStoredSchema:
    """Give a schema that lost its hints the version that it had before it got them."""
    from dlt.common.schema.utils import generate_version_hash

    version_hash = generate_version_hash(stored)
    former = list(stored.get("previous_hashes") or ())
    steps = former.index(version_hash) + 1 if version_hash in former else 0
    return {
        **stored,
        "version": stored["version"] - steps,
        "version_hash": version_hash,
        "previous_hashes": former[steps:],
    }
