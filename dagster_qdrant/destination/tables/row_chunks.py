"""The chunks of a row's text, put into the row as a list, of which dlt makes a table of its own.

So a chunk is kept, replaced and removed as any row of a list in a row is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dlt
from dlt.common.json import json

from dagster_qdrant.destination.tables.chunks import (
    CHUNKS,
    END,
    NUMBER,
    START,
    TEXT,
    Chunking,
    ChunkNames,
)
from dagster_qdrant.destination.tables.names import is_of_dlt
from dagster_qdrant.destination.tables.row_key import RowKey
from dagster_qdrant.destination.tables.rows import is_deleted
from dagster_qdrant.embedding.options import EmbeddingOptions
from dagster_qdrant.embedding.text_measure import TextMeasure, text_measure
from dagster_qdrant.errors import EmbeddingError, QdrantConfigurationError, QdrantTerminalError

if TYPE_CHECKING:
    from dlt.extract import DltResource

_OWN_TYPES = {TEXT: "text", NUMBER: "bigint", START: "bigint", END: "bigint"}
# What of a column's hints holds for its copy beside a chunk.
_OF_TYPE = ("data_type", "precision", "scale", "timezone")


class RowChunks:
    """Adds to rows the chunks of their texts.

    Args:
        key: What is known of the rows' table, which has chunks.
        chunking: How its texts are cut.
        measure: How long texts are for the model; None where a function cuts.
    """

    def __init__(self, key: RowKey, chunking: Chunking, measure: TextMeasure | None) -> None:
        self._key = key
        self._chunking = chunking
        self._measure = measure
        self._not_copied = key.embedded - key.indexed
        self._own = {key.column(name) for name in _OWN_TYPES}
        self._list = key.column(CHUNKS)

    @classmethod
    def of(cls, key: RowKey, resource: DltResource, chunking: Chunking | None) -> RowChunks | None:
        """What adds chunks to the rows of a table.

        Args:
            key: What is known of the rows.
            resource: Their resource; it gets the hints of the chunks' table.
            chunking: How its texts are cut. Where it is a function, the hint has its name alone.

        Returns:
            None if nobody asks for chunks, or the pipeline's destination is another.

        Raises:
            QdrantConfigurationError: If it cannot be known how long texts are for the model.
            QdrantTerminalError: If dlt is told to make no tables of lists.
        """
        chunking = chunking or key.chunking
        if chunking is None or key.chunking is None:
            return None
        options = _embedding_of_pipeline(resource.name)
        if options is None:
            return None
        if key.max_nesting < 1:
            raise QdrantTerminalError(
                f"Resource `{resource.name}` has its texts cut into chunks, which are rows of the "
                f"table `{key.table}__{CHUNKS}`, and `max_table_nesting` is 0, so that dlt makes "
                "no tables of lists. Set it to 1 or more, or take out `chunk`."
            )
        if isinstance(chunking.function, str):
            raise QdrantTerminalError(
                f"Resource `{resource.name}` has its texts cut by the function "
                f"`{chunking.function}`, of which there is the name alone. Wrap it again with "
                "`qdrant_adapter(..., chunk=...)`."
            )
        try:
            measure = None if chunking.function else text_measure(options)
        except EmbeddingError as error:
            raise QdrantConfigurationError(f"Resource `{resource.name}`: {error}") from error
        _give_types(resource, key)
        return cls(key, chunking, measure)

    def added(self, row: Mapping[Any, Any]) -> dict[Any, Any]:
        """A row with its chunks.

        Raises:
            QdrantTerminalError: If it has something of a name that chunks have, or its text cannot
                be cut.
        """
        return {**row, CHUNKS: list(self._chunks(row))}

    def _chunks(self, row: Mapping[Any, Any]) -> Iterator[dict[str, Any]]:
        name, others = dlt.current.resource_name(), self._others(row)
        mark = self._key.value(row, self._key.hard_delete) if self._key.hard_delete else None
        text = None if is_deleted(mark) else self._text(row)
        if text is None:
            return
        try:
            for chunk in self._chunking.of_text(text, self._measure):
                if chunk:
                    yield {**ChunkNames().columns(chunk), **others}
        except (TypeError, ValueError) as error:
            raise QdrantTerminalError(f"Resource `{name}`: {error}") from error

    def _text(self, row: Mapping[Any, Any]) -> str | None:
        """The text of a row, as it would be embedded if it were not cut."""
        values = (self._key.value(row, column) for column in self._key.in_order)
        texts = [_as_text(value) for value in values if value is not None]
        return "\n".join(text for text in texts if text.strip()) or None

    def _others(self, row: Mapping[Any, Any]) -> dict[Any, Any]:
        """The columns of a row that stand beside each of its chunks."""
        return dict(self._copied(row, ()))

    def _copied(self, row: Mapping[Any, Any], path: tuple[str, ...]) -> Iterator[tuple[Any, Any]]:
        key = self._key
        for name, value in row.items():
            column = key.column(*path, name)
            if not path and column == self._list:
                raise _refuse(name, "the list of a row's chunks has")
            if value is None or is_of_dlt(column) or column in self._not_copied:
                continue
            if column in self._own:
                if column not in key.embedded:
                    raise _refuse(name, "a column of the chunks has")
                continue
            is_json = key.types.get(column, {}).get("data_type") == "json"
            if isinstance(value, (list, tuple, set)) and not is_json:  # a table of its own
                continue
            if not isinstance(value, Mapping) or is_json:
                yield name, value
            elif inner := dict(self._copied(value, (*path, name))):
                yield name, inner


def _as_text(value: Any) -> str:
    """The text that a value has in a payload."""
    return value if isinstance(value, str) else str(json.loads(json.dumps(value)))


def _refuse(name: Any, what: str) -> QdrantTerminalError:
    return QdrantTerminalError(
        f"Resource `{dlt.current.resource_name()}` has its texts cut into chunks, and its rows "
        f"have a column `{name}`, a name that {what}. Give it another name, say with "
        "`resource.add_map(...)`."
    )


def _give_types(resource: DltResource, key: RowKey) -> None:
    """Have the columns beside chunks be of the same types as in the rows."""
    if callable(resource.nested_hints):
        return
    types: dict[str, Any] = {
        name: {each: column[each] for each in _OF_TYPE if column.get(each) is not None}
        for name, column in key.types.items()
        if column.get("data_type")
        and not column.get("variant")
        and not is_of_dlt(name)
        and name not in key.embedded - key.indexed
    }
    types |= {key.column(name): {"data_type": kind} for name, kind in _OWN_TYPES.items()}
    hints: dict[Any, Any] = dict(resource.nested_hints or {})
    before: Any = hints.get(CHUNKS, {})
    columns = {name: {"name": name, **column} for name, column in types.items()}
    hints[CHUNKS] = {**before, "columns": {**(before.get("columns") or {}), **columns}}
    resource.apply_hints(nested_hints=hints)


def forget_chunks(resource: DltResource) -> None:
    """Take out the hints that an extraction with chunks gave to a resource."""
    hints: Any = resource.nested_hints
    if isinstance(hints, Mapping) and CHUNKS in hints:
        left = {name: each for name, each in hints.items() if name != CHUNKS}
        resource.apply_hints(nested_hints=left)


def _embedding_of_pipeline(resource_name: str) -> EmbeddingOptions | None:
    """What embeds the rows that are extracted; None if they go to another destination."""
    pipeline: Any = dlt.current.pipeline()
    if pipeline.destination is None:
        raise QdrantConfigurationError(
            f"Resource `{resource_name}` has its texts cut into chunks by the tokenizer of the "
            "model that embeds them, and the pipeline has no destination yet, which knows the "
            "model. Name it with `dlt.pipeline(..., destination=...)`."
        )
    config = pipeline.destination_client().config
    embedding = getattr(config, "embedding", None)
    return embedding if isinstance(embedding, EmbeddingOptions) else None
