"""A vector of a table's rows as checks see it: dense, of each token, or of keywords."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dagster_qdrant.destination.tables.keywords import Keywords
from dagster_qdrant.destination.tables.rows import Row
from dagster_qdrant.destination.tables.table_plan import (
    EMBEDDING_HASH,
    KEYWORDS_HASH,
    TablePlan,
    hash_field,
)
from dagster_qdrant.embedding.embedder import load_embedder
from dagster_qdrant.embedding.sparse import KEYWORD_VECTOR

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dagster_qdrant.embedding.options import EmbeddingOptions


@dataclass(frozen=True)
class CheckedVector:
    """A vector of a table's rows.

    Args:
        name: Its name in Qdrant.
        columns: The columns whose text it is of.
        hash_field: The payload field with the fingerprint of that text.
        options: The model that makes it; None: BM25.
        keywords: How keywords are made, if it is of these.
        is_main: Whether it is the vector of `embed`.
    """

    name: str
    columns: tuple[str, ...]
    hash_field: str
    options: EmbeddingOptions | None
    keywords: Keywords | None = None
    is_main: bool = False

    @classmethod
    def all_of(cls, plan: TablePlan, embedding: EmbeddingOptions) -> Iterator[CheckedVector]:
        """The vectors of a table's rows.

        Args:
            plan: How rows become points.
            embedding: The model that is configured.
        """
        if plan.embed:
            name = embedding.vector_name
            yield cls(name, plan.embed, EMBEDDING_HASH, embedding, is_main=True)
        for name, vector in plan.vectors.items():
            options = vector.options(embedding)
            yield cls(name, tuple(vector.columns), hash_field(name), options)
        if (keywords := plan.keywords) is not None:
            made_by = keywords.options(embedding) if keywords.model else None
            columns = tuple(keywords.columns)
            yield cls(KEYWORD_VECTOR, columns, KEYWORDS_HASH, made_by, keywords)

    @property
    def is_late(self) -> bool:
        """Whether it is a vector of each token."""
        return self.options is not None and self.options.kind == "late_interaction"

    @property
    def told(self) -> str:
        """What it is called in a sentence."""
        return "vector" if self.is_main else f"vector `{self.name}`"

    def number(self, name: str) -> str:
        """What a number that a check shows is called; those of the main vector have no name."""
        return name if self.is_main else f"{name}_{self.name}"

    def text_of(self, row: Row) -> str | None:
        """The text of a row that it is of; None if the point was loaded with another one."""
        # Rows that came when other columns were embedded have the vector of another text.
        if row.payload.get(self.hash_field) != row.hashes[self.hash_field]:
            return None
        if self.keywords:
            return row.keywords
        return row.text if self.is_main else row.texts.get(self.name)

    def embedded(self, text: str) -> Any:
        """The vector of a text that is stored.

        Raises:
            EmbeddingError: If the model cannot be had.
        """
        if self.options is None:
            return (self.keywords or Keywords()).bm25.embed([text])[0]
        return load_embedder(self.options).embed([text])[0]

    def question(self, text: str, vector: Any) -> Any:
        """What a search compares with it, for the text of a row.

        Args:
            text: The text.
            vector: Its vector as it is stored.

        Raises:
            EmbeddingError: If the model cannot be had.
        """
        if self.options is None:
            return (self.keywords or Keywords()).bm25.query(text)
        return vector if self.keywords else vector.tolist()


def numbers_in(vector: Any) -> NDArray[np.float32]:
    """What a vector, as Qdrant gives it, consists of."""
    import numpy as np

    return np.asarray(getattr(vector, "values", vector), dtype=np.float32)


def likeness(one: Any, other: Any) -> float:
    """How alike two vectors are: cosine similarity, of tokens each with the one most like it."""
    import numpy as np

    if hasattr(one, "indices"):
        values, others = (
            dict(zip(each.indices, each.values, strict=True)) for each in (one, other)
        )
        indices = sorted(values.keys() | others.keys())
        one, other = ([each.get(index, 0.0) for index in indices] for each in (values, others))
    a, b = (np.atleast_2d(np.asarray(each, dtype=np.float32)) for each in (one, other))
    lengths = np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
    alike = np.divide(a @ b.T, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return float(min(alike.max(axis=1).mean(), alike.max(axis=0).mean())) if alike.size else 0.0
