"""What a materialization shows in the UI."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dagster import MetadataValue, TableColumn, TableColumnConstraints, TableSchema

from dagster_qdrant.destination.job_client import QdrantJobClient
from dagster_qdrant.destination.passages import Chunked
from dagster_qdrant.destination.search_ways import SearchWays
from dagster_qdrant.destination.tables.hints import TableHint
from dagster_qdrant.destination.tables.resource_tables import ResourceTables
from dagster_qdrant.destination.tables.table_plan import PARTITION
from dagster_qdrant.destination.writing.load_counts import LoadCounts
from dagster_qdrant.errors import QdrantNotFoundError
from dagster_qdrant.pages.arrangement import arranged, summary
from dagster_qdrant.pages.markdown import table, windowed
from dagster_qdrant.pages.preview import Preview
from dagster_qdrant.qdrant.collections import CHUNKS_IN, about, vector_params
from dagster_qdrant.qdrant.points import matches

if TYPE_CHECKING:
    from qdrant_client import models

logger = logging.getLogger(__name__)

# Under this name a materialization shows the id of its load.
LOAD_ID = "load_id"
# Dagster's own name for it.
PARTITION_ROW_COUNT = "dagster/partition_row_count"

# Under these, what checks compare with later.
ROWS_BY_TABLE = "rows_by_table"
POINTS_OF_LOAD = "points_of_load"
TEXTS_CUT = "texts_cut"


@dataclass(frozen=True)
class ResourceLoad:
    """What came of one resource in a run.

    Args:
        tables: The tables that the resource fills.
        rows: Rows that it gave.
        counts: What was done with the rows of its tables, by table.
        shared: The tables that others gave rows to as well, with the names of all who did. What was
            done with their rows is known of the table as a whole.
    """

    tables: ResourceTables
    rows: int
    counts: Mapping[str, LoadCounts]
    shared: Mapping[str, Sequence[str]] = field(default_factory=dict)


def materialization_metadata(
    client: QdrantJobClient,
    load: ResourceLoad,
    *,
    seconds: Mapping[str, float],
    load_ids: Sequence[str],
    partition: str | None,
    preview: bool,
    vector_map: bool,
) -> dict[str, Any]:
    """Describe the tables of a resource that was just loaded.

    The UI plots numbers over time by their name, so names stay the same and every run has them.
    `arrangement` says in which order they come. The load is done by now, so nothing that goes wrong
    here makes it fail: what cannot be shown is left out, and the log says so.

    Args:
        client: The job client, entered.
        load: What came of the resource.
        seconds: How long each step of dlt took.
        load_ids: dlt's ids of the loads, which rows carry as `_dlt_load_id`.
        partition: The partition that the run loads, if it is one.
        preview: Whether to show some rows.
        vector_map: Whether to draw the vectors.

    Returns:
        Metadata under Dagster's own names where there are such.
    """
    tables = load.tables
    main = tables.main({name: counts.rows for name, counts in load.counts.items()})
    shown: dict[str, Any] = {}
    try:
        rows = _rows_by_table(client, load)
        main = tables.main(rows) or main
        if partition is not None:
            shown[PARTITION_ROW_COUNT] = MetadataValue.int(
                rows_of_partition(client, tables, partition, load.rows)
            )
        shown["dagster/row_count"] = MetadataValue.int(sum(rows.get(r, 0) for r in tables.roots))
        if len(rows) > 1:
            shown["tables"] = MetadataValue.md(_overview(client, load, rows))
        shown[ROWS_BY_TABLE] = rows
        if main in rows:
            reader = _Reader(client, load, rows, preview=preview, vector_map=vector_map)
            for name, entry in reader.entries(main):
                shown[name] = entry
    except Exception as error:  # of Qdrant, numpy or Pillow; see above
        logger.warning(
            "Collection `%s` was loaded, but not all of it can be shown: %s: %s",
            client.collections.name(main or tables.resource),
            type(error).__name__,
            error,
        )
    numbers = {"rows_loaded": load.rows, **_numbers(load)}
    metadata: dict[str, Any] = {
        "summary": summary(numbers, seconds),
        "dataset": client.dataset_name or "",
        **_place(client, main),
        **numbers,
        **{f"seconds_{step}": round(took, 3) for step, took in seconds.items()},
    }
    if load_ids:
        metadata[LOAD_ID] = load_ids[-1]
    return arranged(shown | metadata)  # the UI keeps the order


def _place(client: QdrantJobClient, main: str | None) -> dict[str, Any]:
    """Where the rows of a table are."""
    if main is None:  # no row was ever given, and rows alone name the table
        return {}
    collection, connection = client.collections.name(main), client.config.connection
    place: dict[str, Any] = {
        "dagster/table_name": collection,
        "collection": collection,
    }
    if uri := connection.collection_uri(collection):
        place["dagster/uri"] = MetadataValue.text(uri)
    if dashboard := connection.dashboard_url(collection):
        # A link with a short text: the UI does not break a URL, and would cut off its neighbours.
        place["dashboard"] = MetadataValue.md(f"[open](<{dashboard}>)")
    if main in client.schema.tables:
        place["write_disposition"] = str(client.prepare_load_table(main)["write_disposition"])
    return place


def _numbers(load: ResourceLoad) -> dict[str, Any]:
    """What was done with the rows; with those of nested tables where it says points or texts."""
    if load.shared:
        others = " ".join(
            f"`{table}` is filled by {' and '.join(f'`{name}`' for name in names)}."
            for table, names in load.shared.items()
        )
        return {"shared_tables": f"{others} What was done with the rows is known by table only."}
    all_tables, own_tables, chunks, rows = (LoadCounts() for _ in range(4))
    for name, counts in load.counts.items():
        all_tables.add(counts)
        (chunks if counts.chunks else rows).add(counts)
        if name in load.tables.roots:
            own_tables.add(counts)
    of_rows = {
        "rows_embedded": rows.embedded,
        "rows_reused": rows.reused,
        "rows_given_keywords": rows.keywords,
    }
    of_chunks = {
        "chunks_loaded": chunks.chunks,
        "chunks_embedded": chunks.embedded,
        "chunks_reused": chunks.reused,
    }
    if not chunks.chunks:
        of_chunks = {}
    elif not any(of_rows.values()):  # its rows have no vectors but those of their chunks
        of_rows = {}
    return {
        **of_rows,
        **of_chunks,
        "texts_embedded": all_tables.texts,
        "tokens_embedded": all_tables.tokens,
        TEXTS_CUT: all_tables.texts_cut,
        "tokens_cut": all_tables.tokens_cut,
        "rows_without_text": all_tables.rows_without_text,
        "rows_deleted": own_tables.deleted + own_tables.outdated,
        "points_written": all_tables.written,
        "points_payload_only": all_tables.payload_only,
        "points_unchanged": all_tables.unchanged,
        "seconds_embedding": round(all_tables.seconds_embedding, 3),
        "seconds_writing": round(all_tables.seconds_writing, 3),
        "rows_per_second": round(all_tables.rows_per_second, 1),
        "tokens_per_second": round(all_tables.tokens_per_second, 1),
    }


def _rows_by_table(client: QdrantJobClient, load: ResourceLoad) -> dict[str, int]:
    """The points of the tables that have a collection."""
    rows = {}
    for name in load.tables.all:
        try:
            rows[name] = client.collections.count(client.collections.name(name))
        except QdrantNotFoundError:
            if name in load.counts:  # it was loaded a moment ago
                raise
    return rows


def rows_of_partition(
    client: QdrantJobClient, tables: ResourceTables, partition: str, given: int
) -> int:
    """The rows of a replaced partition; which rows are whose is not known of other tables.

    Args:
        client: The job client, entered.
        tables: The tables of a resource.
        partition: The partition's key.
        given: The rows that the resource gave for it.
    """
    of_partition = matches({PARTITION: partition})
    count = 0
    for root in tables.roots:
        if root not in client.schema.tables:
            return given
        if client.prepare_load_table(root)["write_disposition"] != "replace":
            return given
        with suppress(QdrantNotFoundError):
            count += client.collections.count(client.collections.name(root), of_partition)
    return count if tables.roots else given


def _overview(client: QdrantJobClient, load: ResourceLoad, rows: Mapping[str, int]) -> str:
    """The tables as a table: what is in each, and what the load did to it."""
    lines = []
    for name, count in rows.items():
        done = load.counts.get(name, LoadCounts())
        lines.append(
            {
                "table": name,
                "collection": client.collections.name(name),
                "rows": count,
                "embedded": done.embedded,
                "reused": done.reused,
                "written": done.written,
                "unchanged": done.unchanged,
                "deleted": done.deleted + done.outdated,
                "filled by": ", ".join(load.shared.get(name, [load.tables.resource])),
            }
        )
    columns = list(lines[0]) if load.shared else list(lines[0])[:-1]
    text = table(
        [{name: line[name] for name in columns} for line in lines], first=columns, most=9, width=100
    )
    return windowed(text)


class _Reader:
    """Reads off collections what only they can tell.

    Args:
        client: The job client, entered.
        load: What came of a resource.
        rows: The rows of those that have one.
        preview: Whether to show some rows.
        vector_map: Whether to draw the vectors.
    """

    def __init__(
        self,
        client: QdrantJobClient,
        load: ResourceLoad,
        rows: Mapping[str, int],
        *,
        preview: bool,
        vector_map: bool,
    ) -> None:
        self._client = client
        self._tables = load.tables
        texts = (counts.texts_of_vectors for counts in load.counts.values())
        self._texts_of_vectors = sum(texts, Counter[str]())
        self._rows = rows
        self._with_rows = preview
        self._with_map = vector_map

    def entries(self, main: str) -> Iterator[tuple[str, Any]]:
        """The most important first."""
        client = self._client
        info = client.collections.describe(client.collections.name(main))
        if info is None:
            return
        embed: Sequence[str] = ()
        vectors = TableHint.read(about(info)).vectors
        if main in client.schema.tables:
            embed = about(info).get("embed", ())
            columns = client.schema.get_table_columns(main)
            cut = about(info).get("chunked", ())
            key = [name for name, column in columns.items() if column.get("primary_key")]
            labels = {
                "embedded": {*embed, *(each for v in vectors.values() for each in v.columns)},
                "in chunks": cut,
                "primary key": key,
                "indexed": info.payload_schema,
            }
            yield "dagster/column_schema", _column_schema(columns, labels)
        for name, count in self._rows.items():
            if client.collections.name(name) == about(info).get(CHUNKS_IN):
                yield "chunks", MetadataValue.int(count)
        yield from self._pictures(main, embed, info)
        embedded = None if embed else self._largest_with_texts()
        if embedded is not None:  # lists in the rows are what is searched
            name, info = embedded
            chunked = self._found_by(main, name)
            for title, entry in self._pictures(name, about(info)["embed"], info, chunked):
                if title != "preview":
                    yield title, entry
        if model := about(info).get("model"):
            yield "model", model
        for name, params in vector_params(info).items():
            if name not in vectors:
                yield "vector_name", name
                yield "vector_size", params.size
        if vectors:
            yield "vectors", {name: vector.to_json() for name, vector in vectors.items()}
        for name in vectors:
            yield f"texts_embedded_{name}", self._texts_of_vectors[name]

    def _pictures(
        self,
        name: str,
        embed: Sequence[str],
        info: models.CollectionInfo,
        chunked: Chunked | None = None,
    ) -> Iterator[tuple[str, Any]]:
        vector_name = self._client.config.embedding.vector_name
        vector = vector_params(info).get(vector_name)
        columns: Mapping[str, Any] = {}
        if name in self._client.schema.tables:
            columns = self._client.schema.get_table_columns(name)
        yield from Preview(
            self._client.connection,
            self._client.collections.name(name),
            key=[column for column in self._key_of(name) if column in columns],
            embed=list(embed),
            vector_name=vector_name if vector else None,
            distance=vector.distance.value if vector else "Cosine",
            total=self._rows.get(name, 0),
            with_rows=self._with_rows,
            with_map=self._with_map,
            chunked=chunked,
        ).entries()

    def _found_by(self, rows: str, chunks: str) -> Chunked | None:
        """The way to find the rows of a table by their chunks, if another has these."""
        client, name = self._client, self._client.collections.name
        info = client.collections.describe(name(rows))
        if info is None or about(info).get(CHUNKS_IN) != name(chunks):
            return None
        return SearchWays.of(client.connection, name(rows), client.config.embedding).chunked

    def _key_of(self, name: str) -> list[str]:
        """The columns by which a reader knows rows; chunks have those of their row beside them."""
        tables, root = self._client.schema.tables, name
        while root in tables and tables[root].get("parent"):
            root = str(tables[root]["parent"])
        columns = tables[root]["columns"] if root in tables else {}
        return [column for column, hints in columns.items() if hints.get("primary_key")]

    def _largest_with_texts(self) -> tuple[str, models.CollectionInfo] | None:
        """The largest table whose collection has vectors."""
        collections = self._client.collections
        with_rows = [name for name in self._tables.all if self._rows.get(name)]
        for name in sorted(with_rows, key=lambda name: self._rows[name], reverse=True):
            info = collections.describe(collections.name(name))
            if info is not None and about(info).get("embed"):
                return name, info
        return None


def _column_schema(
    columns: Mapping[str, Any], labels: Mapping[str, Container[str]]
) -> MetadataValue[Any]:
    return MetadataValue.table_schema(
        TableSchema(
            columns=[
                TableColumn(
                    name=name,
                    type=column.get("data_type", "text"),
                    description=column.get("description"),
                    constraints=TableColumnConstraints(
                        nullable=column.get("nullable", True),
                        unique=bool(column.get("unique")),
                        other=[label for label, names in labels.items() if name in names],
                    ),
                )
                for name, column in columns.items()
            ]
        )
    )
