"""What a user says of reranking, and how rows that were found are put into a better order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dagster_qdrant.destination.tables.given_fields import unknown_fields
from dagster_qdrant.destination.tables.names import is_of_dlt
from dagster_qdrant.destination.tables.rows import embedding_text
from dagster_qdrant.embedding.embedder import load_reranker
from dagster_qdrant.errors import EmbeddingError, QdrantConfigurationError, QdrantTerminalError

if TYPE_CHECKING:
    from dagster_qdrant.embedding.options import EmbeddingOptions

# How many rows are reranked, at least and as a multiple of those that are asked for.
_LEAST, _FACTOR = 50, 4
# What dlt's naming conventions put between a column and a type that is not the column's.
_VARIANTS = ("__v_", "▶v_")


@dataclass(frozen=True)
class Rerank:
    """How the rows that a search found are put into a better order.

    Args:
        model: A cross-encoder of fastembed, by its name, which reads the text that was searched for
            and the text of a row together. Or one of the collection's vectors, by its name: then
            Qdrant itself puts rows into the order of that, and finds none that has no such vector.
        candidates: How many rows are fetched and reranked. Default: 50, or four times `limit` and
            `offset` together if that is more.
        columns: The columns that make up the text of a row. Default: those that are embedded, or
            those whose keywords count.
        model_path: A folder with the model's files, for machines without access to a model hub.

    Raises:
        QdrantConfigurationError: For values that cannot work.

    Examples:
        >>> Rerank("Xenova/ms-marco-MiniLM-L-6-v2").depth(limit=20, offset=0)
        80
    """

    model: str
    candidates: int | None = None
    columns: Sequence[str] = ()
    model_path: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        columns = (self.columns,) if isinstance(self.columns, str) else tuple(self.columns)
        object.__setattr__(self, "columns", columns)
        if not isinstance(self.model, str) or not self.model.strip():
            raise QdrantConfigurationError(
                f"`rerank` is {self.model!r}; it must be the name of a cross-encoder, or "
                "`Rerank(...)`."
            )
        if self.candidates is not None and self.candidates < 1:
            raise QdrantConfigurationError(
                f"`candidates` of `rerank` is {self.candidates}; it must be 1 or more."
            )

    @classmethod
    def of(cls, said: Any) -> Rerank | None:
        """Read what a user said: a model's name, `Rerank` or its fields; None: no reranking.

        Raises:
            QdrantConfigurationError: If it is something else.
        """
        if said is None or isinstance(said, Rerank):
            return said
        if not isinstance(said, Mapping):
            return cls(said)
        if wrong := unknown_fields(said, cls):
            raise QdrantConfigurationError(f"`rerank` {wrong}.")
        return cls(**{"model": "", **said})

    def depth(self, limit: int, offset: int) -> int:
        """How many rows are fetched, of which `limit` are left after `offset` ones.

        Raises:
            QdrantConfigurationError: If fewer are asked for than that.
        """
        wanted = limit + offset
        if self.candidates is None:
            return max(_LEAST, _FACTOR * wanted)
        if self.candidates < wanted:
            raise QdrantConfigurationError(
                f"`candidates` of `rerank` is {self.candidates}, but `limit` and `offset` ask for "
                f"{wanted} rows. Raise it, or leave it out."
            )
        return self.candidates

    def options(self, configured: EmbeddingOptions) -> EmbeddingOptions:
        """The model, and how it is run: as the embedding model is, if that is run here.

        Args:
            configured: The embedding model.
        """
        if configured.service:
            configured = replace(configured, service=None, batch_size=None, parallelism=0)
        if self.model_path:
            configured = replace(configured, cache_dir=None, local_files_only=False)
        return replace(
            configured.without_prefixes,
            model=self.model,
            model_path=self.model_path,
            kind="reranker",
        )

    def scores(
        self,
        question: str,
        rows: Sequence[Mapping[str, Any]],
        *,
        collection: str,
        columns: Sequence[str],
        configured: EmbeddingOptions,
    ) -> list[float]:
        """How well rows answer a question, the better the higher.

        Args:
            question: The text that is searched for.
            rows: Their payloads.
            collection: Where they are.
            columns: The columns by whose text the collection is searched.
            configured: The embedding model, for how models are run.

        Raises:
            QdrantTerminalError: If the model is not known or cannot be had, or it is not known
                which columns make up the text of a row.
        """
        try:
            reranker = load_reranker(self.options(configured))
        except EmbeddingError as error:
            raise QdrantTerminalError(str(error)) from error
        columns = tuple(self.columns or columns)
        if not columns:
            raise QdrantTerminalError(
                f"Collection `{collection}` does not say which columns its texts are in. Name them "
                f"for the reranking: `rerank={{'model': {self.model!r}, 'columns': [...]}}`."
            )
        texts = [_text(row, columns) for row in rows]
        if texts and not any(texts):
            raise QdrantTerminalError(
                f"No row that was found in `{collection}` has a text to rerank it by in "
                f"{', '.join(f'`{name}`' for name in columns)}. They have "
                f"{', '.join(f'`{name}`' for name in _names(rows))}. Name some of them: "
                f"`rerank={{'model': {self.model!r}, 'columns': [...]}}`."
            )
        return reranker.score(question, texts)


def _text(row: Mapping[str, Any], columns: Sequence[str]) -> str:
    # dlt puts values of other types into columns beside the one that they were meant for.
    variants = {
        column: sorted(
            name for name in row if any(name.startswith(f"{column}{mark}") for mark in _VARIANTS)
        )
        for column in columns
    }
    return embedding_text(row, columns, variants) or ""


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({name for row in rows for name in row if not is_of_dlt(name)})
