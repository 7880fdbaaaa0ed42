"""`qdrant_adapter`: say by what the rows of a resource are found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dagster_qdrant.destination.tables.chunks import CHUNKS, Chunking
from dagster_qdrant.destination.tables.hints import (
    EMBED_HINT,
    LIST_SEPARATOR,
    TABLE_HINT,
    TableHint,
    chunking_of,
)
from dagster_qdrant.destination.tables.keywords import Keywords
from dagster_qdrant.destination.tables.named_vectors import NamedVector, read_vectors
from dagster_qdrant.destination.tables.payload_indexes import read_indexes
from dagster_qdrant.qdrant.asked_settings import asks_of_vectors, read_settings

if TYPE_CHECKING:
    from dlt.extract import DltResource


def qdrant_adapter(
    data: Any,
    embed: str | list[str] | None = None,
    *,
    nested: Mapping[str | tuple[str, ...], str | list[str]] | None = None,
    keywords: bool | str | Keywords | Mapping[str, Any] | None = None,
    chunk: bool
    | int
    | str
    | Callable[[str], Sequence[str]]
    | Chunking
    | Mapping[str, Any]
    | None = None,
    index: str | Sequence[str] | Mapping[str, Any] | None = None,
    collection: Mapping[str, Any] | None = None,
    vectors: Mapping[str, str | Sequence[str] | NamedVector | Mapping[str, Any]] | None = None,
) -> DltResource:
    """Say how the rows of a resource are found. With `embed` alone it does what dlt's adapter does.

    A second call for a resource replaces the first. The hints count for loads of this resource
    object: a resource that is no longer wrapped is no longer embedded.

    Args:
        data: A dlt resource (wrapped in place), a source with one resource, or plain data such as
            a list of dicts.
        embed: One column or several. The texts of several columns are joined by line breaks, in
            this order; numbers, dates and booleans count as their text, NULLs are left out. A row
            without any text is loaded without a vector.
        nested: The same for lists in the rows. dlt makes a table of each: by list, the columns of
            that table whose text is embedded. A list of plain values has the column `value`. A list
            in a list is `"chapters__paragraphs"`, or `("chapters", "paragraphs")`. The rows of
            `docs` with lists `chunks` are in the table `docs__chunks`.
        keywords: Whether rows are found by the keywords of their texts too (BM25, or a sparse
            model): True for English, a language, or `Keywords(...)`. Without `embed` it must name
            the columns. If it names none, it holds for the lists of `nested` too.
        chunk: How long texts are cut into chunks, so that a model takes all of them: True, the most
            tokens of a chunk, "markdown", a function that makes a list of texts of one, or
            `Chunking(...)`. The chunks of `docs` are in the table `docs__chunks`, which has the
            vectors and keywords, and beside each chunk the row's other columns. A search of `docs`
            gives rows, each with its best passages.
        index: The columns that searches filter by: a list of them, or by column the type of its
            index in Qdrant ("keyword", "integer", "float", "bool", "datetime", "uuid", "text",
            "geo"; None: as the column's type asks), or one of Qdrant's own objects, say
            `models.KeywordIndexParams(type="keyword", is_tenant=True)`, or its fields as a dict.
            Columns of lists in the rows cannot be indexed.
        collection: How the collection is set up: what Qdrant's create call takes, by its names, as
            models or their fields (`hnsw_config`, `quantization_config`, `optimizers_config`,
            `wal_config`, `strict_mode_config`, `on_disk_payload`, `shard_number`,
            `replication_factor`, `write_consistency_factor`), and `distance`, `datatype`, `on_disk`
            and `memory` of the vector. It holds for the lists of `nested` too.
        vectors: Further vectors of each row, by name: the columns whose text is embedded, or
            `NamedVector(...)` or its fields, for a model and settings of its own. A search names
            one as `using`. The lists of `nested` have none.

    Returns:
        The resource with the hint; for plain data a new one, named "content".

    Raises:
        ValueError: If no column is named, or something that cannot be.
        TypeError: If `data` is several resources, or nothing that a resource can be made of.

    Examples:
        >>> films = [{"title": "Blade Runner", "year": 1982}]
        >>> qdrant_adapter(films, embed=["title"], keywords=True).name
        'content'
    """
    from dagster_qdrant.destination.tables.row_check import check_and_cut_rows
    from dagster_qdrant.destination.tables.row_chunks import forget_chunks

    by_keywords = Keywords.of(keywords)
    chunking = Chunking.of(chunk)
    indexes = read_indexes(index)
    settings = read_settings(collection)
    further = read_vectors(vectors)
    if (of_vectors := asks_of_vectors(settings)) and not (embed or nested):
        raise ValueError(
            f"`collection` has {', '.join(f'`{name}`' for name in of_vectors)}, which only vectors "
            "of a model have. Name the columns that are embedded with `embed`."
        )
    says_something = embed or nested or indexes or settings or further
    if not says_something and not (by_keywords and by_keywords.columns):
        raise ValueError(
            "`embed` must name the columns whose text is embedded: a column's name or a list of "
            f"them. It is {embed!r}. (A resource that needs no vectors need not be wrapped.)"
        )
    if by_keywords and by_keywords.columns:
        _columns("keywords", list(by_keywords.columns))
    if chunking:
        _refuse_unfit_chunks(embed, nested or {}, by_keywords)
    hint = TableHint(
        embed=_columns("embed", embed) if embed else (),
        nested=_lists(nested or {}),
        keywords=by_keywords,
        index=indexes,
        collection=settings,
        chunk=chunking,
        vectors=further,
    )
    resource = _resource(data)
    if not chunking and chunking_of(resource):
        forget_chunks(resource)
    resource.apply_hints()  # dlt drops hints of tables where a resource had no hint before
    resource.apply_hints(additional_table_hints={TABLE_HINT: hint.to_hint()})
    _forget_dlts_adapter(resource)
    return check_and_cut_rows(resource, chunking)


def _refuse_unfit_chunks(embed: Any, nested: Mapping[Any, Any], keywords: Keywords | None) -> None:
    if not embed:
        raise ValueError(
            "`chunk` cuts the text that is embedded. Name its columns with `embed`, a column's "
            "name or a list of them."
        )
    if any(path in (CHUNKS, (CHUNKS,)) for path in nested):
        raise ValueError(
            f"`nested` names the list {CHUNKS!r}, which is the name of the chunks that `chunk` "
            "makes. Give the list another name, say with `resource.add_map(...)`."
        )
    if (
        keywords
        and keywords.columns
        and [*keywords.columns] != ([embed] if isinstance(embed, str) else [*embed])
    ):
        raise ValueError(
            "`keywords` names columns, and with `chunk` the keywords are those of the chunks' "
            "texts. Leave `columns` out, or name those of `embed`."
        )


def _resource(data: Any) -> DltResource:
    """The resource that is wrapped. Of several, dlt would make one with the rows of all."""
    from dlt.destinations.utils import get_resource_for_adapter
    from dlt.extract import DltResource, DltSource, SourceFactory

    if isinstance(data, SourceFactory):
        name = getattr(data, "__name__", "source")
        raise TypeError(
            f"`{name}` is a source function that was not called. Call it, and wrap its resources "
            f"one by one: `source = {name}()`, `qdrant_adapter(source.resources['...'], ...)`."
        )
    if isinstance(data, DltSource) and len(names := list(data.selected_resources)) != 1:
        raise TypeError(
            f"The source `{data.name}` has {len(names)} resources ({', '.join(names)}), and "
            "`qdrant_adapter` wraps one. Wrap each resource that is to be found: "
            "`qdrant_adapter(source.resources['...'], ...)`."
        )
    if isinstance(data, Sequence) and any(isinstance(each, DltResource) for each in data):
        raise TypeError("`data` is a list of dlt resources. Wrap each of them by itself.")
    if data is None or isinstance(data, (str, bytes, Mapping, int, float)):
        raise TypeError(
            f"`data` is {_kind(data)}; it must be a dlt resource, or rows: a list of dicts or a "
            "generator of them."
        )
    return get_resource_for_adapter(data)


def _kind(data: Any) -> str:
    """What something is; not its value, which may be a secret."""
    return "None" if data is None else f"of type {type(data).__name__}"


def _columns(argument: str, value: Any) -> tuple[str, ...]:
    columns = [value] if isinstance(value, str) else value
    if not columns or not isinstance(columns, list):
        raise ValueError(
            f"`{argument}` must name the columns whose text is embedded: a column's name or a list "
            f"of them. It is {value!r}."
        )
    for column in columns:
        if not isinstance(column, str) or not column.strip():
            raise ValueError(f"`{argument}` must name columns; {column!r} is no column's name.")
    return tuple(columns)


def _lists(nested: Any) -> dict[str, tuple[str, ...]]:
    lists = {}
    for path, columns in nested.items() if isinstance(nested, Mapping) else [(nested, None)]:
        parts = (path,) if isinstance(path, str) else path
        if not isinstance(parts, tuple) or not all(isinstance(p, str) and p.strip() for p in parts):
            raise ValueError(
                "`nested` must name columns by the list that they are in, say "
                f"{{'chunks': ['text']}}; {path!r} is no list's name."
            )
        name = LIST_SEPARATOR.join(parts)
        lists[name] = _columns(f"nested[{name!r}]", columns)
    return lists


def _forget_dlts_adapter(resource: DltResource) -> None:
    """Take out the marks that dlt's adapter set before, and columns that it named only for them."""
    columns: Any = resource.columns
    if not isinstance(columns, dict):
        return
    for name, column in list(columns.items()):
        if column.pop(EMBED_HINT, None) and not column.keys() - {"name"}:
            del columns[name]
