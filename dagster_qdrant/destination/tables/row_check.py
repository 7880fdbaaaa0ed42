"""A last look at rows where they come up, when their place and content can still be told.

Those that cannot be loaded are refused, those whose key came before are told apart.
"""

from __future__ import annotations

from typing import Any, ClassVar

import dlt
from dlt.common.json import json
from dlt.common.schema.typing import C_DLT_ID
from dlt.common.schema.utils import get_columns_names_with_prop
from dlt.extract import DltResource
from dlt.extract.items_transform import MapItem

from dagster_qdrant.destination.tables.repeated_keys import RepeatedKeys
from dagster_qdrant.errors import QdrantTerminalError


class RowCheck(MapItem):
    """A step of a resource that refuses rows without a key and values that JSON cannot hold.

    dlt refuses them too, later, when it no longer knows which row it was.
    """

    # After filters and maps, also those that are added later, and after dlt's validation.
    placement_affinity: ClassVar[float] = 0.95

    def __init__(self) -> None:
        super().__init__(self._check)
        self._rows = 0
        self._key: tuple[str, ...] | None = None
        self._repeated_keys: RepeatedKeys | None = None

    def bind(self, pipe: Any) -> RowCheck:
        """Begin to count anew with each extraction; a resource may be extracted many times."""
        return RowCheck()

    def _check(self, row: Any) -> Any:
        self._rows += 1
        if not isinstance(row, dict):  # a data frame is checked by what turns it into rows
            return row
        if self._key is None:  # as late as this, since a run may have a disposition of its own
            self._key = _merge_key(dlt.current.resource(), row)
        self._refuse_unfit_value(row)
        if not self._key:
            return row
        self._refuse_missing_key(row)
        return self._told_apart(row)

    def _refuse_unfit_value(self, row: dict[Any, Any]) -> None:
        try:
            json.typed_dumpb(row)
        except Exception as error:
            name, reason = next(_unfit_columns(row), (", ".join(map(repr, row)), error))
            raise QdrantTerminalError(
                f"Row {self._rows} of resource `{dlt.current.resource_name()}` has a value in "
                f"`{name}` that cannot be loaded: {repr(row.get(name, row))[:200]} ({reason}). "
                "Turn it into text, say with `resource.add_map(...)`, or leave it out."
            ) from error

    def _refuse_missing_key(self, row: dict[Any, Any]) -> None:
        for name in self._key or ():
            if row.get(name) is None:
                raise QdrantTerminalError(
                    f"Row {self._rows} of resource `{dlt.current.resource_name()}` has no value in "
                    f"its key `{name}`, so it cannot be told from other rows: {str(row)[:200]}. "
                    "Fill it, choose another `primary_key`, or drop such rows with "
                    "`resource.add_filter(...)`."
                )

    def _told_apart(self, row: dict[Any, Any]) -> dict[Any, Any]:
        if self._repeated_keys is None:
            self._repeated_keys = RepeatedKeys()
        row_id = self._repeated_keys.row_id([row[name] for name in self._key or ()])
        return row if row_id is None else {C_DLT_ID: row_id, **row}


def check_rows(resource: DltResource) -> DltResource:
    """Add the check to a resource, unless it has it.

    Args:
        resource: A resource; changed in place.

    Returns:
        The resource.
    """
    if not any(isinstance(step, RowCheck) for step in resource._pipe.steps):
        resource.add_step(RowCheck())
    return resource


def _unfit_columns(row: dict[Any, Any]) -> Any:
    for name, value in row.items():
        try:
            json.typed_dumpb({name: value})
        except Exception as error:
            yield repr(name)[1:-1] if isinstance(name, str) else repr(name), error


def _merge_key(resource: DltResource, row: Any) -> tuple[str, ...]:
    """The columns by which rows are merged; none if they are not."""
    table = resource.compute_table_schema(row)
    if table.get("write_disposition") != "merge":
        return ()
    key = get_columns_names_with_prop(table, "primary_key", include_incomplete=True)
    return tuple(key or get_columns_names_with_prop(table, "unique", include_incomplete=True))
