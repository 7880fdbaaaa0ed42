"""What users say of their tables, as it travels in dlt's schema.

`qdrant_adapter` writes one hint on the table. The next call replaces it as a whole, so what was
said last counts. dlt's own adapter marks columns instead; it may be used as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from dlt.common.schema.utils import get_columns_names_with_prop, is_complete_column

from dagster_qdrant.destination.tables.chunks import CHUNKS, TEXT, Chunking
from dagster_qdrant.destination.tables.keywords import Keywords
from dagster_qdrant.destination.tables.named_vectors import NamedVector
from dagster_qdrant.destination.tables.payload_indexes import Index
from dagster_qdrant.errors import QdrantTerminalError
from dagster_qdrant.qdrant.asked_settings import without_settings_of_vectors

if TYPE_CHECKING:
    from dlt.common.normalizers.naming import NamingConvention
    from dlt.common.schema import Schema
    from dlt.common.schema.typing import TStoredSchema, TTableSchema
    from dlt.extract import DltResource

# On a table: all that `qdrant_adapter` was told of it.
TABLE_HINT = "x-qdrant"
# What joins the names of a list and of a list in it.
LIST_SEPARATOR = "__"
# On a column: it is embedded. Written by dlt's own adapter, and by former versions of ours.
EMBED_HINT = "x-qdrant-embed"


@dataclass(frozen=True)
class TableHint:
    """What a user says of a table.

    Args:
        embed: The columns whose text is embedded, in the order of the text.
        nested: The same of the lists in its rows, which are tables of their own, by the list. A
            list in a list is named after both, with `__` between.
        keywords: Whose keywords are searched for, and how; None: none.
        index: By column the payload index by which its rows are filtered; None: as its type asks.
        numbers: The decimals among these columns that are stored as numbers. It follows from the
            others, and tells how the rows of a collection are stored.
        collection: How its collection is set up, by the names of Qdrant's settings.
        chunk: How the text of `embed` is cut into chunks, which are rows of a table of their own
            and embedded in its place; None: it is not.
        chunked: The columns whose text that is, where it is said of the table itself alone, which
            then embeds nothing. And of the table of the chunks: what its rows are made of.
        vectors: Further vectors of its rows, by name.
    """

    embed: tuple[str, ...] = ()
    nested: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    keywords: Keywords | None = None
    index: Mapping[str, Index] = field(default_factory=dict)
    numbers: tuple[str, ...] = ()
    collection: Mapping[str, Any] = field(default_factory=dict)
    chunk: Chunking | None = None
    chunked: tuple[str, ...] = ()
    vectors: Mapping[str, NamedVector] = field(default_factory=dict)

    def to_hint(self) -> dict[str, Any]:
        """The value of the hint: plain data, since the schema is kept as JSON."""
        said = {
            "embed": list(self.embed),
            "nested": {name: list(columns) for name, columns in self.nested.items()},
            "keywords": self.keywords and self.keywords.to_json(),
            "index": {name: index and dict(index) for name, index in self.index.items()},
            "numbers": list(self.numbers),
            "collection": dict(self.collection),
            "chunk": self.chunk and self.chunk.to_json(),
            "chunked": list(self.chunked),
            "vectors": {name: each.to_json() for name, each in self.vectors.items()},
        }
        return {name: value for name, value in said.items() if value}

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> TableHint:
        """Read plain data: a hint's value, or what a collection's metadata says of it."""
        nested: Mapping[str, Any] = said.get("nested") or {}
        return cls(
            embed=tuple(said.get("embed") or ()),
            nested={name: tuple(columns) for name, columns in nested.items()},
            keywords=Keywords.of(said.get("keywords")),
            index=dict(said.get("index") or {}),
            numbers=tuple(said.get("numbers") or ()),
            collection=dict(said.get("collection") or {}),
            chunk=Chunking.of(said.get("chunk")),
            chunked=tuple(said.get("chunked") or ()),
            vectors={name: NamedVector.of(v) for name, v in (said.get("vectors") or {}).items()},
        )

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
        if unknown := sorted(hint.keys() - {each.name for each in fields(cls)}):
            raise QdrantTerminalError(
                f"Table `{table['name']}` has the hint `{TABLE_HINT}` with "
                f"{', '.join(f'`{name}`' for name in unknown)}, which this version does not know. "
                "Write it with `qdrant_adapter`."
            )
        said = cls.read(hint)
        embed = _normalized(said.embed, naming)
        nested = {name: _normalized(columns, naming) for name, columns in said.nested.items()}
        keywords = said.keywords and said.keywords.with_columns(embed, naming.normalize_path)
        index = {naming.normalize_path(name): each for name, each in said.index.items()}
        vectors = {name: v.with_columns(naming.normalize_path) for name, v in said.vectors.items()}
        return cls(
            embed,
            nested,
            keywords,
            index,
            collection=said.collection,
            chunk=said.chunk,
            vectors=vectors,
        )

    @property
    def own(self) -> TableHint:
        """What is said of the table itself, without the lists in its rows."""
        has_keywords = self.keywords is not None and bool(self.keywords.columns)
        own = replace(self, nested={}, keywords=self.keywords if has_keywords else None)
        if self.chunk is None:
            return own
        # Its chunks have the vectors.
        settings = without_settings_of_vectors(self.collection)
        return replace(own, embed=(), keywords=None, collection=settings, chunked=self.embed)

    @property
    def lists(self) -> dict[str, tuple[str, ...]]:
        """The columns that are embedded of the lists in its rows, those of chunks among them."""
        return {**self.nested, **({CHUNKS: (TEXT,)} if self.chunk else {})}

    def of_list(self, name: str, naming: NamingConvention) -> TableHint:
        """What is said of a list in its rows.

        Args:
            name: The list.
            naming: How the schema writes the names of columns.
        """
        columns, keywords = _normalized(self.lists[name], naming), self.keywords
        if keywords is not None:  # those that name columns name the table's own
            by_default = tuple(keywords.columns) == self.embed
            length = keywords.avg_len if name in self.lists.keys() - self.nested else None
            keywords = replace(keywords, columns=columns, avg_len=length) if by_default else None
        hint = TableHint(columns, keywords=keywords, collection=self.collection)
        if self.chunk is None or name != CHUNKS:
            return hint
        return replace(hint, index=self.index, chunk=self.chunk, chunked=self.embed)

    def nested_tables(self, table_name: str, naming: NamingConvention) -> dict[str, str]:
        """The lists by the names of their tables, as dlt makes them.

        Args:
            table_name: The table that the lists are in.
            naming: How the schema writes names.
        """
        tables = {}
        for name in self.lists:
            parts = [naming.normalize_table_identifier(part) for part in name.split(LIST_SEPARATOR)]
            tables[naming.shorten_fragments(table_name, *parts)] = name
        return tables


def hint_of(table: TTableSchema, schema: Schema) -> TableHint | None:
    """What a user says of a table, itself or with the table whose lists it holds; None if nothing.

    Raises:
        QdrantTerminalError: For a hint that this version does not know.
    """
    if (own := TableHint.of(table, schema.naming)) is not None:
        return own.own
    for name, other in schema.tables.items():
        if TABLE_HINT in other and (hint := TableHint.of(other, schema.naming)):
            lists = hint.nested_tables(name, schema.naming)
            if (found := lists.get(str(table["name"]))) is not None:
                return hint.of_list(found, schema.naming)
    return None


def _normalized(names: Iterable[str], naming: NamingConvention) -> tuple[str, ...]:
    return tuple(dict.fromkeys(naming.normalize_path(name) for name in names))


def marked_columns(table: TTableSchema) -> tuple[str, ...]:
    """The columns that dlt's adapter marked, in an order that does not depend on the rows."""
    return tuple(sorted(get_columns_names_with_prop(table, EMBED_HINT, include_incomplete=True)))


def keywords_of(resource: DltResource) -> Keywords | None:
    """The keywords by which a resource asks to be found."""
    return _hint_on(resource).keywords


def indexes_of(resource: DltResource) -> Mapping[str, Index]:
    """The payload indexes that a resource asks for, by column as it was named to the adapter."""
    return _hint_on(resource).index


def chunking_of(resource: DltResource) -> Chunking | None:
    """How a resource asks for its texts to be cut into chunks."""
    return _hint_on(resource).chunk


def settings_of_collection(resource: DltResource) -> Mapping[str, Any]:
    """How a resource asks for its collection to be set up."""
    return _hint_on(resource).collection


def vectors_of(resource: DltResource) -> Mapping[str, NamedVector]:
    """The further vectors that a resource asks for, by name."""
    return _hint_on(resource).vectors


def _hint_on(resource: DltResource) -> TableHint:
    hints: Mapping[str, Any] = resource._hints or {}
    return TableHint.read((hints.get("additional_table_hints") or {}).get(TABLE_HINT) or {})


def embedded_columns(resource: DltResource) -> list[str]:
    """The columns that a resource asks to embed, as they were named to the adapter."""
    hints: Mapping[str, Any] = resource._hints or {}  # dlt shows no hints of tables elsewhere
    if hint := (hints.get("additional_table_hints") or {}).get(TABLE_HINT):
        return list(TableHint.read(hint).embed)
    columns: Any = resource.columns
    if not isinstance(columns, dict):
        return []
    return [name for name, column in columns.items() if column.get(EMBED_HINT)]


def embedded_lists(resource: DltResource) -> dict[str, list[str]]:
    """The columns that a resource asks to embed of the lists in its rows, by the list."""
    hints: Mapping[str, Any] = resource._hints or {}
    lists: dict[str, list[str]] = {}
    nested: Any = hints.get("nested_hints")
    for path, each in nested.items() if isinstance(nested, Mapping) else ():
        columns: Any = each.get("columns")
        if isinstance(columns, Mapping):
            name = path if isinstance(path, str) else LIST_SEPARATOR.join(path)
            lists[name] = [column for column, hint in columns.items() if hint.get(EMBED_HINT)]
    said = (hints.get("additional_table_hints") or {}).get(TABLE_HINT) or {}
    lists |= {name: list(columns) for name, columns in TableHint.read(said).lists.items()}
    return {name: columns for name, columns in lists.items() if columns}


def has_main_vectors(resource: DltResource) -> bool:
    """Whether a resource asks for main vectors, of its rows or of the lists in them."""
    return bool(embedded_columns(resource) or embedded_lists(resource))


def embeds_texts(resource: DltResource) -> bool:
    """Whether a resource asks to embed anything, in its rows or in the lists in them."""
    return has_main_vectors(resource) or bool(vectors_of(resource))


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
