"""Look at rows while the source is read, when their place and content are still known.

Those that cannot be loaded are refused, those whose key came before are told apart, and those with
nested rows get an id that lasts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import dlt
from dlt.common.exceptions import ResourceNameNotAvailable
from dlt.common.json import json
from dlt.common.normalizers.json.helpers import get_row_hash
from dlt.common.schema.typing import C_DLT_ID
from dlt.common.storages.exceptions import CurrentLoadPackageStateNotAvailable
from dlt.common.storages.load_package import load_package_state
from dlt.extract import DltResource
from dlt.extract.extractors import ImportFileMeta
from dlt.extract.hints import HintsMeta
from dlt.extract.items import TableNameMeta
from dlt.extract.items_transform import BaseItemTransform, ItemTransform, MapItem
from dlt.extract.utils import get_data_item_format

from dagster_qdrant.destination.tables.chunks import Chunking
from dagster_qdrant.destination.tables.repeated_keys import RepeatedKeys, row_id
from dagster_qdrant.destination.tables.row_chunks import RowChunks
from dagster_qdrant.destination.tables.row_key import RowKey
from dagster_qdrant.destination.tables.table_plan import PLACE_MARK
from dagster_qdrant.errors import QdrantTerminalError

if TYPE_CHECKING:
    from dlt.extract.pipe import Pipe


class RowCheck(ItemTransform[Any, Any]):
    """Has the rows of a resource checked that are extracted to be loaded.

    They are checked in a step that is added behind all others once the pipe is complete. There,
    transformers have their copy of a row already: what is added to it does not travel with theirs.
    """

    # After filters and maps, also those that are added later, and after dlt's validation.
    placement_affinity: ClassVar[float] = 0.95

    def __init__(self, chunking: Chunking | None = None, pipe: Pipe | None = None) -> None:
        BaseItemTransform.__init__(self)
        self.chunking = chunking
        self._pipe = pipe

    def bind(self, pipe: Any) -> RowCheck:
        """Begin anew with each extraction; a resource may be extracted many times."""
        return RowCheck(self.chunking, pipe if _is_extracted() else None)

    def __call__(self, item: Any, meta: Any = None) -> Any:
        """See that the step is there before the first row comes to it."""
        if self._pipe is not None:
            self._pipe.insert_step(_CheckedRows(self.chunking), len(self._pipe))
            self._pipe = None
        # dlt marks a file to be imported with no item, and drops what steps make nothing of.
        return [] if item is None and isinstance(meta, ImportFileMeta) else item


def check_rows(resource: DltResource) -> DltResource:
    """Add the check to a resource that does not have it.

    Args:
        resource: A resource; changed in place.

    Returns:
        The resource.
    """
    has_it = any(isinstance(step, RowCheck) for step in resource._pipe.steps)
    return resource if has_it else resource.add_step(RowCheck())


def check_and_cut_rows(resource: DltResource, chunking: Chunking | None) -> DltResource:
    """Add the check to a resource, and have it cut texts as it is said now.

    Args:
        resource: A resource; changed in place.
        chunking: How its texts are cut into chunks. A hint can say it but for a function.

    Returns:
        The resource.
    """
    steps: list[Any] = check_rows(resource)._pipe.steps
    for place, step in enumerate(steps):
        if isinstance(step, RowCheck) and step.chunking != chunking:  # it may be a copy's too
            steps[place] = RowCheck(chunking)
    return resource


def _is_extracted() -> bool:
    """Whether a pipe that begins is to be loaded, and not read by some function, say a resource."""
    try:
        load_package_state()
        dlt.current.resource_name()
    except CurrentLoadPackageStateNotAvailable:
        return False
    except ResourceNameNotAvailable:
        return True
    return False


class _CheckedRows(MapItem):
    """Refuses rows without a key and values that JSON cannot hold, and tells repeated keys apart.

    dlt refuses them too, later, when it no longer knows which row it was.
    """

    def __init__(self, chunking: Chunking | None = None) -> None:
        super().__init__(self._check)
        self._chunking = chunking
        self._chunks: dict[str, RowChunks | None] = {}
        self._rows = 0
        self._resource: DltResource | None = None
        self._keys: dict[str, RowKey] = {}
        self._repeated_keys: RepeatedKeys | None = None

    def __call__(self, item: Any, meta: Any = None) -> Any:
        """Check an item, or each of a list; of a data frame with chunks, all of its rows."""
        if not isinstance(item, list):
            return self._check(item, meta)
        checked = [self._check(each, meta) for each in item]
        if not any(isinstance(each, list) for each in checked):
            return checked if item else item
        return [row for each in checked for row in (each if isinstance(each, list) else [each])]

    def _check(self, item: Any, meta: Any) -> Any:
        if isinstance(meta, ImportFileMeta):
            return item
        if not isinstance(item, dict):
            item_format = get_data_item_format(item)
            if item_format == "arrow":
                return self._check_frame(item, meta)
            if item_format != "object":  # a query, which has no rows here
                return item
        elif PLACE_MARK in str(item.get(C_DLT_ID, "")):  # read from a collection of ours
            item = {name: value for name, value in item.items() if name != C_DLT_ID}
        self._rows += 1
        row = self._row(item)
        key = self._key(item, meta)
        if unfit := key.without_text(row):
            self._refuse_without_text(*unfit, row)
        if chunks := self._chunks_of(key, meta):
            item = row = chunks.added(row)
        if key.is_replaced:
            return self._with_lasting_id(item, row, key)
        if not key.columns:
            return item
        values = key.values(row)
        if None in values:
            self._refuse_missing_key(key.columns, values, row)
        place = self._place(key.table, values)
        return item if place is None else {**row, C_DLT_ID: row_id(values, place)}

    def _with_lasting_id(self, item: Any, row: dict[Any, Any], key: RowKey) -> Any:
        """Give a row an id that it has in each load, and with it dlt gives such to nested rows.

        Else all of them would change with each replace.
        """
        if C_DLT_ID in row or not key.has_nested_rows(row):
            return item
        values = key.values(row)
        if not values or None in values:
            values = [get_row_hash(row)]
        return {**row, C_DLT_ID: row_id(values, self._place(key.table, values))}

    def _row(self, item: Any) -> dict[Any, Any]:
        """What dlt makes of an item: it takes models, data classes and single values too."""
        try:
            encoded = json.typed_dumpb(item)
        except Exception as error:
            row = item if isinstance(item, dict) else {"value": item}
            name, reason = next(_unfit_columns(row), (", ".join(map(repr, row)), error))
            raise QdrantTerminalError(
                f"Row {self._rows} of resource `{dlt.current.resource_name()}` has a value in "
                f"`{name}` that cannot be loaded: {repr(row.get(name, row))[:200]} ({reason}). "
                "Turn it into text, say with `resource.add_map(...)`, or leave it out."
            ) from error
        if isinstance(item, dict):
            return item
        decoded = json.typed_loadb(encoded)
        return decoded if isinstance(decoded, dict) else {"value": item}

    def _chunks_of(self, key: RowKey, meta: Any) -> RowChunks | None:
        """What adds chunks to the rows of a table, if they have such."""
        if key.chunking is None:
            return None
        if key.table not in self._chunks:
            self._chunks[key.table] = RowChunks.of(key, dlt.current.resource(), self._chunking)
        return self._chunks[key.table]

    def _check_frame(self, item: Any, meta: Any) -> Any:
        """Tell the rows of an Arrow table or data frame apart, each by an id of its own."""
        table = _arrow_table(item)
        key = self._key(table, meta)
        if self._chunks_of(key, meta):  # which only rows can have
            if _keep_lists(table, dlt.current.resource()):
                self._keys.clear()
                self._chunks.clear()
            return [self._check(row, meta) for row in table.to_pylist()]
        before, self._rows = self._rows, self._rows + table.num_rows
        if key.is_replaced or not key.columns or not table.num_rows:
            return item
        names = key.names(table.schema.names)
        nothing = [None] * table.num_rows
        columns = [nothing if name is None else table[name].to_pylist() for name in names]
        ids = []
        for number, values in enumerate(zip(*columns, strict=True)):
            if None in values:
                self._rows = before + number + 1
                row = table.slice(number, 1).to_pylist()[0]
                self._refuse_missing_key(key.columns, values, row)
            ids.append(row_id(values, self._place(key.table, values)))
        return _with_ids(table, key.naming.normalize_identifier(C_DLT_ID), ids)

    def _key(self, item: Any, meta: Any) -> RowKey:
        # As late as this, since a run may have a disposition of its own, and each table its key.
        resource = self._resource = self._resource or dlt.current.resource()
        if isinstance(meta, HintsMeta) and meta.hints:  # dlt takes them over when it writes the row
            self._keys.clear()
            self._chunks.clear()
            resource = resource._clone()
            resource.merge_hints(meta.hints, bool(meta.create_table_variant))
            if meta.create_table_variant:
                meta = TableNameMeta(str(meta.hints["table_name"]))
            return RowKey.of(resource, item, meta)
        name: Any = meta.table_name if isinstance(meta, TableNameMeta) else resource.table_name
        name = str(name(item) if callable(name) else name)
        key = self._keys.get(name)
        if key is None:
            key = self._keys[name] = RowKey.of(resource, item, meta)
        return key

    def _refuse_missing_key(
        self, columns: Sequence[str], values: Sequence[Any], row: Mapping[Any, Any]
    ) -> None:
        for name, value in zip(columns, values, strict=True):
            if value is None:
                raise QdrantTerminalError(
                    f"Row {self._rows} of resource `{dlt.current.resource_name()}` has no value in "
                    f"its key `{name}`, by which rows are distinguished: {str(row)[:200]}. "
                    "Fill it, choose another `primary_key`, or drop such rows with "
                    "`resource.add_filter(...)`."
                )

    def _refuse_without_text(self, name: Any, what: str, row: Mapping[Any, Any]) -> None:
        """Later, dlt puts nested data elsewhere and makes text of bytes, which says nothing."""
        raise QdrantTerminalError(
            f"Row {self._rows} of resource `{dlt.current.resource_name()}` has {what} and not text "
            f"in `{name}`, which is to be embedded: {repr(row[name])[:200]}. Turn it into text "
            "first, say with `resource.add_map(...)`, or take it out of `embed`. (A list becomes a "
            "table of its own, which `qdrant_adapter(resource, nested=...)` embeds.)"
        )

    def _place(self, table: str, values: Sequence[Any]) -> int | None:
        if self._repeated_keys is None:
            self._repeated_keys = RepeatedKeys.of_load(load_package_state()["load_id"])
        return self._repeated_keys.place(table, values)


def _unfit_columns(row: dict[Any, Any]) -> Any:
    for name, value in row.items():
        try:
            json.typed_dumpb({name: value})
        except Exception as error:
            yield repr(name)[1:-1] if isinstance(name, str) else repr(name), error


def _arrow_table(item: Any) -> Any:
    """A data frame of any kind as an Arrow table, as dlt makes one of it."""
    from dlt.common.libs import is_pandas_frame, is_polars_frame

    if is_pandas_frame(item):
        from dlt.common.libs.pandas import pandas_to_arrow

        return pandas_to_arrow(item)
    if is_polars_frame(item):
        from dlt.common.libs.polars import polars_to_arrow

        return polars_to_arrow(item)
    return item


def _keep_lists(table: Any, resource: DltResource) -> bool:
    """Have the lists of a data frame stay in their columns, as they do where it has no chunks.

    Returns:
        Whether there are some of which that was not said yet.
    """
    import pyarrow  # type: ignore[import-untyped]

    nested = {f.name for f in table.schema if pyarrow.types.is_nested(f.type)}
    known: Any = resource.columns if isinstance(resource.columns, dict) else {}
    if new := nested - known.keys():
        resource.apply_hints(columns={name: {"name": name, "data_type": "json"} for name in new})
    return bool(new)


def _with_ids(table: Any, column: str, ids: list[str]) -> Any:
    import pyarrow

    if isinstance(table, pyarrow.RecordBatch):
        table = pyarrow.Table.from_batches([table])
    if column in table.column_names:
        table = table.drop_columns([column])
    id_field = pyarrow.field(column, pyarrow.string(), nullable=False)
    return table.append_column(id_field, pyarrow.array(ids, pyarrow.string()))
