"""Rows that cannot be loaded are refused where they come up, with their place and content."""

from __future__ import annotations

from typing import Any, ClassVar

from dlt.common.json import json
from dlt.extract import DltResource
from dlt.extract.items_transform import MapItem

from dagster_qdrant.errors import QdrantTerminalError


class RowCheck(MapItem):
    """A step of a resource that refuses rows without a key and values that JSON cannot hold.

    dlt refuses them too, later, when it no longer knows which row it was.

    Args:
        resource: The resource.
    """

    # After filters and maps, also those that are added later.
    placement_affinity: ClassVar[float] = 0.8

    def __init__(self, resource: DltResource) -> None:
        super().__init__(self._check)
        self._resource = resource
        self._rows = 0
        self._keys: tuple[str, ...] | None = None

    def bind(self, pipe: Any) -> RowCheck:
        """Begin to count anew with each extraction; a resource may be extracted many times."""
        return RowCheck(self._resource)

    def _check(self, row: Any) -> Any:
        self._rows += 1
        if isinstance(row, dict):  # a data frame is checked by what turns it into rows
            self._refuse_unfit_value(row)
            self._refuse_missing_key(row)
        return row

    def _refuse_unfit_value(self, row: dict[Any, Any]) -> None:
        try:
            json.typed_dumpb(row)
        except Exception as error:
            name, reason = next(_unfit_columns(row), (", ".join(map(repr, row)), error))
            raise QdrantTerminalError(
                f"Row {self._rows} of resource `{self._resource.name}` has a value in `{name}` "
                f"that cannot be loaded: {repr(row.get(name, row))[:200]} ({reason}). Turn it into "
                "text, say with `resource.add_map(...)`, or leave it out."
            ) from error

    def _refuse_missing_key(self, row: dict[Any, Any]) -> None:
        if self._keys is None:
            self._keys = _merge_keys(self._resource)
        for name in self._keys:
            if row.get(name) is None:
                raise QdrantTerminalError(
                    f"Row {self._rows} of resource `{self._resource.name}` has no value in its key "
                    f"`{name}`, so it cannot be told from other rows: {str(row)[:200]}. Fill it, "
                    "choose another `primary_key`, or drop such rows with "
                    "`resource.add_filter(...)`."
                )


def check_rows(resource: DltResource) -> DltResource:
    """Add the check to a resource, unless it has it.

    Args:
        resource: A resource; changed in place.

    Returns:
        The resource.
    """
    if not any(isinstance(step, RowCheck) for step in resource._pipe.steps):
        resource.add_step(RowCheck(resource))
    return resource


def _unfit_columns(row: dict[Any, Any]) -> Any:
    for name, value in row.items():
        try:
            json.typed_dumpb({name: value})
        except Exception as error:
            yield repr(name)[1:-1] if isinstance(name, str) else repr(name), error


def _merge_keys(resource: DltResource) -> tuple[str, ...]:
    disposition: Any = resource.write_disposition
    kind = disposition.get("disposition") if isinstance(disposition, dict) else disposition
    columns: Any = resource.compute_table_schema().get("columns", {}) if kind == "merge" else {}
    return tuple(name for name, column in columns.items() if column.get("primary_key"))
