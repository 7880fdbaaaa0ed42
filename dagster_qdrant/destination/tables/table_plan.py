"""What dlt's hints ask for a table, in the terms of this destination."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dlt.common.schema import Schema
from dlt.common.schema.typing import C_DLT_ID, C_DLT_LOAD_ID, TTableSchema
from dlt.common.schema.utils import (
    get_columns_names_with_prop,
    get_dedup_sort_tuple,
    get_first_column_name_with_prop,
    get_nested_tables,
    is_nested_table,
)

from dagster_qdrant.destination.tables.chunks import CHUNKS, Chunking, ChunkNames
from dagster_qdrant.destination.tables.hints import TableHint, hint_of, marked_columns
from dagster_qdrant.destination.tables.keywords import Keywords
from dagster_qdrant.destination.tables.named_vectors import NamedVector
from dagster_qdrant.destination.tables.payload_indexes import (
    OF_FINGERPRINTS,
    OF_LOOKUPS,
    Index,
    dlt_indexes_of,
    is_stored_as_number,
    settled_index,
)
from dagster_qdrant.destination.tables.point_ids import (
    content_point_id,
    key_point_id,
    key_values,
)
from dagster_qdrant.destination.tables.typed_values import DECIMALS, sortable

if TYPE_CHECKING:
    from dlt.common.normalizers.naming import NamingConvention

# What this destination adds to a payload. dlt keeps names that begin with "_dlt" to itself, so no
# column can have them.
EMBEDDING_HASH = "_dlt_embedding_hash"
ROW_HASH = "_dlt_row_hash"
# Marks a point whose row was deleted by the load under way, and which goes when that is complete.
DELETED = "_dlt_deleted"
# dlt's ids of former rows of a key, whose nested rows go when the load under way is complete.
SUPERSEDED = "_dlt_superseded"
# The partition that a row of a replaced table belongs to.
PARTITION = "_dlt_partition"
# The text whose keywords the point's vector has, where it is not the one that is embedded.
KEYWORDS_HASH = "_dlt_keywords_hash"
OWN_FIELDS = frozenset({EMBEDDING_HASH, KEYWORDS_HASH, ROW_HASH, DELETED, SUPERSEDED, PARTITION})
# What stands before the name of a further vector in the field with its fingerprint.
_HASH_OF_VECTOR = f"{EMBEDDING_HASH}_"

# How many rows are held in memory at a time. A vector of each token takes some 100 KB a row.
_ROWS, _ROWS_OF_LATE_VECTORS = 1024, 128

# In dlt's id of a row whose key came before in the load, what stands before the number of rows
# that came before it. No other id of dlt's has this character.
PLACE_MARK = "#"


def hash_field(vector: str) -> str:
    """The payload field with the fingerprint of a further vector."""
    return f"{_HASH_OF_VECTOR}{vector}"


def is_hash_of_vector(name: str) -> bool:
    """Whether a field of a payload is the fingerprint of a further vector."""
    return name.startswith(_HASH_OF_VECTOR)


@dataclass(frozen=True)
class TablePlan:
    """How the rows of one table become points.

    Args:
        table_name: The table.
        collection: The collection as its readers call it; point ids follow from this name.
        target: The collection that a load writes to, if another one takes its place when the load
            is complete; else the same.
        write_disposition: "append", "merge" or "replace". A nested table may have one of its own;
            where that is "merge", it is the one of the table that its rows belong to.
        partition: The part of the table that is replaced, or None for all of it.
        nested: Whether the rows come from lists in another table's rows.
        key: The columns that identify a row, empty if its content does.
        key_types: dlt's data types of these columns.
        embed: The columns whose text is embedded, in the order of the text.
        in_any_order: Whether nobody said in which order.
        keywords: Whose keywords are searched for, and how; None: none.
        vectors: Further vectors of the rows, by name.
        index: The payload indexes that were asked for, by column.
        numbers: The decimals that are stored as numbers, since their index finds nothing else.
        settings: How the collection is to be set up, by the names of Qdrant's settings.
        chunk: How texts are cut into chunks, of a table that has such, and of the chunks' table.
        chunked: The columns whose text they are of.
        chunks: The chunks' collection, of a table that has such; else None.
        chunk_names: How the schema writes the names of chunks' columns.
        variants: By column, the columns in which dlt puts its values of other types.
        hard_delete: The column that marks a row as deleted.
        dedup_sort: The column that tells which row of a key counts, and "asc" (the lowest) or
            "desc" (the highest). None: the last row.
        dedup_type: dlt's data type of this column.
        row_id: The column with dlt's own id of a row.
        load_id: The column with the id of the load that wrote a row.
        root_id: The column with the root row's id, in nested tables of a merge.
        parent: The table whose rows' lists these rows come from, in nested tables.
        parent_id: The column with the parent row's id, in nested tables.
        links: Columns that dlt makes anew for each load and that say nothing of the content.
        is_linked: Whether rows of other tables refer to these rows, or these rows to others.
        is_parent: Whether rows of other tables refer to these rows.
        dlt_indexes: The payload fields that dlt's own books are read by.
    """

    table_name: str
    collection: str
    target: str
    write_disposition: str
    partition: str | None
    nested: bool
    key: tuple[str, ...]
    key_types: tuple[str | None, ...]
    embed: tuple[str, ...]
    in_any_order: bool
    keywords: Keywords | None
    vectors: Mapping[str, NamedVector]
    index: Mapping[str, Index]
    numbers: tuple[str, ...]
    settings: Mapping[str, Any]
    chunk: Chunking | None
    chunked: tuple[str, ...]
    chunks: str | None
    chunk_names: ChunkNames
    variants: Mapping[str, tuple[str, ...]]
    hard_delete: str | None
    dedup_sort: tuple[str, str] | None
    dedup_type: str | None
    row_id: str
    load_id: str
    root_id: str | None
    parent: str | None
    parent_id: str | None
    links: frozenset[str]
    is_linked: bool
    is_parent: bool
    dlt_indexes: Mapping[str, Mapping[str, Any]]

    @property
    def former(self) -> str | None:
        """The collection whose place the target takes when the load is complete, if any."""
        return self.collection if self.collection != self.target else None

    @cached_property
    def without_content(self) -> frozenset[str]:
        """What of a row is no content: dlt makes it anew for each load, or it is added here."""
        return self.links | OWN_FIELDS | set(map(hash_field, self.vectors))

    @property
    def rows_at_once(self) -> int:
        """How many rows are held in memory at a time: few, where each token has a vector."""
        has_late = any(vector.late_interaction for vector in self.vectors.values())
        return _ROWS_OF_LATE_VECTORS if has_late else _ROWS

    @property
    def embeds(self) -> bool:
        """Whether models make vectors of its rows' texts."""
        return bool(self.embed or self.vectors)

    @property
    def has_vectors(self) -> bool:
        """Whether its rows have vectors of any kind."""
        return self.embeds or self.keywords is not None

    @property
    def has_models(self) -> bool:
        """Whether models make any of them."""
        return self.embeds or bool(self.keywords and self.keywords.model)

    @property
    def said(self) -> TableHint:
        """What was said of the table, with columns as the schema writes them."""
        return TableHint(
            self.embed,
            keywords=self.keywords,
            index=self.index,
            numbers=self.numbers,
            collection=self.settings,
            chunk=self.chunk,
            chunked=self.chunked,
            vectors=self.vectors,
        )

    @property
    def chunks_table(self) -> str:
        """The table of its chunks, of a table that has such."""
        return str(self.chunks).removeprefix(self.collection.removesuffix(self.table_name))

    @property
    def brings_all(self) -> bool:
        """Whether a load brings all rows that there shall be."""
        return self.write_disposition == "replace" and self.partition is None

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The columns by whose text its rows are found, by themselves or by their chunks."""
        return self.chunked if self.chunks else self.embed

    @property
    def indexes(self) -> dict[str, Mapping[str, Any]]:
        """The payload indexes that there have to be, by field."""
        asked = {name: index for name, index in self.index.items() if index is not None}
        return asked | self._own_indexes

    @property
    def _own_indexes(self) -> dict[str, Mapping[str, Any]]:
        """The payload fields that loads and checks filter or sort by."""
        indexes = dict(self.dlt_indexes)
        if self.embed:
            indexes[EMBEDDING_HASH] = OF_FINGERPRINTS
        indexes |= dict.fromkeys(map(hash_field, self.vectors), OF_FINGERPRINTS)
        if self.keywords and self.keywords.model:
            indexes[KEYWORDS_HASH] = OF_FINGERPRINTS
        if self.partition is not None:
            indexes[PARTITION] = OF_LOOKUPS
        if self.is_parent:
            indexes[self.row_id] = OF_LOOKUPS
        if self.nested and self.write_disposition == "merge":
            # What came by a replace has no root's id.
            indexes |= {name: OF_LOOKUPS for name in (self.root_id, self.parent_id) if name}
        if self.hard_delete:
            indexes[DELETED] = {"type": "bool"}
        return indexes

    @property
    def merges_nested(self) -> bool:
        """Whether a row that is merged brings nested rows, which replace those of its key."""
        return self.write_disposition == "merge" and self.is_parent and not self.nested

    @property
    def is_exclusive(self) -> bool:
        """Whether a load has the table to itself, and has to know which rows it brought.

        It removes others when it is done: former rows of replaced tables, and nested rows that
        their root no longer has. Or of two rows of the load that which comes later need not be the
        one that counts.
        """
        if self.write_disposition == "merge":
            return self.is_linked or self.dedup_sort is not None
        return self.write_disposition == "replace"

    @property
    def numbers_rows(self) -> bool:
        """Whether rows of a load that are equal, or share a key, are points of their own."""
        return self.write_disposition == "replace"

    @property
    def keeps_deleted(self) -> bool:
        """Whether a deleted row's point stays, marked, until the load is complete.

        Nested rows are found by it, or a row of the same key that comes later and does not count.
        """
        return self.is_linked or self.dedup_sort is not None

    def counts_less(self, row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        """Whether of two rows of a key, the latter met earlier, the former is passed over.

        A row without a value to sort by counts less than one with a value. Of rows with the same
        value, and where there is nothing to sort by, the one that came later counts.
        """
        if self.numbers_rows:
            return False
        if self.dedup_sort is not None:
            column, order = self.dedup_sort
            value, best = (sortable(each.get(column), self.dedup_type) for each in (row, other))
            if (value is None) is not (best is None):
                return value is None
            if type(value) is not type(best):
                value, best = str(value), str(best)
            if value is not None and best is not None and value != best:
                return bool(value > best if order == "asc" else value < best)
        return self.place(row) < self.place(other)

    def place(self, row: Mapping[str, Any]) -> int:
        """How many rows came before one whose key is repeated; 0 for the first of a key."""
        _, _, place = str(row.get(self.row_id)).partition(PLACE_MARK)
        return int(place) if place.isdecimal() else 0

    def superseded(self, row: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> list[str]:
        """The ids that dlt gave to other rows of a key, by which their nested rows are found."""
        if not self.merges_nested:
            return []
        ids = {
            row_id
            for other in (row, *others)
            for row_id in (other.get(self.row_id), *other.get(SUPERSEDED, ()))
        }
        return sorted(ids - {row.get(self.row_id), None})

    @property
    def has_decimal_key(self) -> bool:
        """Whether a number in its key can be written in several ways."""
        return not DECIMALS.isdisjoint(self.key_types)

    def key_of(self, row: Mapping[str, Any]) -> list[Any]:
        """The values of a row's key, the same for the same key; None where it has none."""
        return key_values([row.get(name) for name in self.key], self.key_types)

    def point_id(self, identity: Any, occurrence: int = 0) -> str:
        """The id of the point of a row.

        Args:
            identity: The values of its key, or its content if there is no key.
            occurrence: How many rows of the load with the same identity came before.
        """
        if self.partition is not None:  # the same row in two partitions is two points
            identity = {"partition": self.partition, "row": identity}
        elif self.key and not occurrence:
            return key_point_id(self.collection, identity, self.key_types)
        return content_point_id(self.collection, identity, occurrence)

    @classmethod
    def of(
        cls,
        table: TTableSchema,
        schema: Schema,
        collection: str,
        target: str | None = None,
        partition: str | None = None,
        *,
        said: TableHint | None = None,
    ) -> TablePlan:
        """Read the plan off a table that dlt prepared for loading.

        Args:
            table: The table.
            schema: Its schema.
            collection: See `TablePlan`.
            target: See `TablePlan`.
            partition: See `TablePlan`.
            said: What is embedded and so on. Default: what the hints say.
        """
        columns: Mapping[str, Any] = table["columns"]
        disposition = _write_disposition(table, schema)
        row_id = schema.naming.normalize_identifier(C_DLT_ID)
        load_id = schema.naming.normalize_identifier(C_DLT_LOAD_ID)
        nested = is_nested_table(table)
        primary_key = get_columns_names_with_prop(table, "primary_key")
        unique = [c for c in get_columns_names_with_prop(table, "unique") if c != row_id]
        if disposition == "append" or nested:
            # dlt's row ids in nested tables follow from that of the parent and the position.
            key = [row_id]
        elif disposition == "merge":
            key = primary_key or unique
        else:
            key = primary_key
        is_parent = len(get_nested_tables(schema.tables, str(table["name"]))) > 1
        hint = hint_of(table, schema)
        said = said or hint or TableHint(embed=marked_columns(table))
        types = {name: column.get("data_type") for name, column in columns.items()}
        has_chunks = bool(said.chunked) and not said.embed
        index = {
            name: settled_index(each, types.get(name))
            for name, each in said.index.items()
            # The chunks of some rows need not have every column.
            if name in types or not said.chunked or has_chunks
        }
        # In an order that does not depend on which column came first in the rows.
        key = sorted(key)
        dedup_sort = get_dedup_sort_tuple(table) if disposition == "merge" else None
        links = {
            name
            for name, column in columns.items()
            if any(column.get(hint) for hint in ("row_key", "parent_key", "root_key"))
        }
        return cls(
            table_name=str(table["name"]),
            collection=collection,
            target=target or collection,
            write_disposition=disposition,
            partition=partition if disposition == "replace" else None,
            nested=nested,
            key=tuple(key),
            key_types=tuple(columns.get(name, {}).get("data_type") for name in key),
            embed=said.embed,
            in_any_order=hint is None,
            keywords=said.keywords,
            vectors=said.vectors,
            index=index,
            numbers=tuple(
                name for name in sorted(index) if is_stored_as_number(index[name], types.get(name))
            ),
            settings=said.collection,
            chunk=said.chunk,
            chunked=said.chunked,
            chunks=_beside(collection, table, schema) if has_chunks else None,
            chunk_names=ChunkNames.of(schema.naming),
            variants=_variants(columns, schema.naming.PATH_SEPARATOR),
            hard_delete=(
                get_first_column_name_with_prop(table, "hard_delete")
                if disposition == "merge"
                else None
            ),
            dedup_sort=dedup_sort,
            dedup_type=types.get(dedup_sort[0]) if dedup_sort else None,
            row_id=row_id,
            load_id=load_id,
            root_id=get_first_column_name_with_prop(table, "root_key"),
            parent=table.get("parent"),
            parent_id=get_first_column_name_with_prop(table, "parent_key"),
            links=frozenset(links | {row_id, load_id}),
            is_linked=nested or is_parent,
            is_parent=is_parent,
            dlt_indexes=dlt_indexes_of(str(table["name"]), schema),
        )


def _beside(collection: str, table: TTableSchema, schema: Schema) -> str:
    """The collection of the chunks of a table's texts, beside that of the table."""
    name = str(table["name"])
    return collection.removesuffix(name) + chunks_table(name, schema.naming)


def chunks_table(table_name: str, naming: NamingConvention) -> str:
    """The table of the chunks of a table's texts."""
    return naming.shorten_fragments(table_name, naming.normalize_table_identifier(CHUNKS))


def _write_disposition(table: TTableSchema, schema: Schema) -> str:
    """A table's write disposition; where a nested one says "merge", that of its parent."""
    own, parent = table.get("write_disposition"), table.get("parent")
    if parent and own in (None, "merge"):
        return _write_disposition(schema.tables[parent], schema)
    return str(own)


def _variants(columns: Mapping[str, Any], separator: str) -> dict[str, tuple[str, ...]]:
    """By column, the columns beside it in which dlt puts values that are not of its type."""
    found: dict[str, tuple[str, ...]] = {}
    for other, column in columns.items():
        name, mark, _ = other.rpartition(f"{separator}v_")
        if column.get("variant") and mark:
            found[name] = (*found.get(name, ()), other)
    return found
