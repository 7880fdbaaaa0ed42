"""What a user says of the keywords of a table's texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from dagster_qdrant.destination.tables.given_fields import unknown_fields
from dagster_qdrant.embedding.embedder import load_embedder
from dagster_qdrant.embedding.sparse import DEFAULT_LANGUAGE, KeywordModel
from dagster_qdrant.errors import EmbeddingError

if TYPE_CHECKING:
    from qdrant_client import models

    from dagster_qdrant.embedding.options import EmbeddingOptions

# fastembed's name for what is made here without it.
_BM25 = "qdrant/bm25"
# From how many times the mean length that words are weighed by, or from which part of it, another
# one is said.
_MOST_DRIFT = 2.0


@dataclass(frozen=True)
class Keywords:
    """The keywords by which rows are found, beside the meaning of their texts.

    Args:
        language: Whose stopwords are left out and whose endings are cut off; one of
            `dagster_qdrant.embedding.sparse.LANGUAGES`.
        columns: The columns whose keywords count. Default: those that are embedded.
        avg_len: The mean number of words in a text, stopwords not counted. Default: measured when
            the collection is loaded first, and kept in its metadata.
        model: A sparse model of fastembed that makes the vectors in the place of BM25, say
            "prithivida/Splade_PP_en_v1". It knows its language and the lengths itself, and is run
            here, also where a service embeds.
        model_path: Folder with that model's files, for machines without access to a model hub.

    Raises:
        ValueError: For a language without rules, or a length that cannot be.

    Examples:
        >>> Keywords("german", columns=["title"]).columns
        ('title',)
    """

    language: str = DEFAULT_LANGUAGE
    columns: Sequence[str] = ()
    avg_len: float | None = None
    model: str | None = None
    model_path: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        columns = (self.columns,) if isinstance(self.columns, str) else tuple(self.columns)
        object.__setattr__(self, "columns", columns)
        try:
            _ = self.bm25
        except EmbeddingError as error:
            raise ValueError(str(error)) from error
        if str(self.model).lower() == _BM25:  # which is made here, with no download
            object.__setattr__(self, "model", None)
        if self.model and (self.language != DEFAULT_LANGUAGE or self.avg_len is not None):
            raise ValueError(
                f"`keywords` names the model {self.model!r}, so `language` and `avg_len`, which "
                "are BM25's, have no effect. Leave them out."
            )
        if self.model_path and not self.model:
            raise ValueError("`keywords` has a `model_path` and no `model`. Name the model too.")

    @classmethod
    def of(cls, said: Any) -> Keywords | None:
        """Read what a user said: a language, `Keywords` or its fields; False or None: no keywords.

        Raises:
            TypeError: If it is something else.
            ValueError: If there is no such field.
        """
        if said is None or said is False:
            return None
        if isinstance(said, Keywords):
            return said
        if said is True:
            return cls()
        if isinstance(said, str):
            return cls(language=said)
        if not isinstance(said, Mapping):
            raise TypeError(
                f"`keywords` is {said!r}; it must be True, a language, or `Keywords(...)`."
            )
        if wrong := unknown_fields(said, cls):
            raise ValueError(f"`keywords` {wrong}.")
        return cls(**said)

    @property
    def bm25(self) -> KeywordModel:
        """What makes vectors of the keywords, unless a model does."""
        return KeywordModel(self.language, self.avg_len)

    def options(self, configured: EmbeddingOptions) -> EmbeddingOptions:
        """The model that makes them, and how it is run: as the embedding model is, if here.

        Args:
            configured: The embedding model.
        """
        if configured.service:  # which has no such models
            configured = replace(configured, service=None, batch_size=None, parallelism=0)
        if self.model_path:
            configured = replace(configured, cache_dir=None, local_files_only=False)
        return replace(
            configured.without_prefixes,
            model=str(self.model),
            model_path=self.model_path,
            kind="sparse",
        )

    def has_idf(self, configured: EmbeddingOptions) -> bool:
        """Whether Qdrant weighs words by how rare they are, which some models do themselves.

        Raises:
            EmbeddingError: If fastembed does not know the model.
        """
        return self.model is None or bool(self.options(configured).description["requires_idf"])

    def query(self, text: str, configured: EmbeddingOptions) -> models.SparseVector:
        """The vector of a text that is searched for.

        Raises:
            EmbeddingError: If the model cannot be had.
        """
        if self.model is None:
            return self.bm25.query(text)
        question: models.SparseVector = load_embedder(self.options(configured)).embed_query(text)
        return question

    def to_json(self) -> dict[str, Any]:
        """Plain data, for hints and for a collection's metadata."""
        said = {**asdict(self), "columns": list(self.columns)}
        of_model = ("model", "model_path")
        return {k: value for k, value in said.items() if value is not None or k not in of_model}

    def with_columns(self, default: Sequence[str], normalize: Callable[[str], str]) -> Keywords:
        """The same with the names of columns as a schema writes them.

        Args:
            default: The columns whose keywords count if none were named.
            normalize: How the schema writes a name.
        """
        named = dict.fromkeys(map(normalize, self.columns))
        return replace(self, columns=tuple(named) or tuple(default))

    def other_length(self, mean: float) -> str | None:
        """What to say of texts, if their mean length is quite another than words are weighed by.

        Args:
            mean: The mean number of words in texts, stopwords not counted.
        """
        if not self.avg_len or 1 / _MOST_DRIFT < mean / self.avg_len < _MOST_DRIFT:
            return None
        return (
            f"its texts have {mean:.1f} words on average, stopwords not counted, and its keywords "
            f"are weighed by {self.avg_len:g}, so a search by keywords ranks long and short texts "
            f"less well. Set `keywords={{'avg_len': {mean:.1f}}}`. The next load that brings rows "
            "then makes the keywords of all rows anew, and embeds nothing."
        )

    @property
    def _made_of(self) -> tuple[Any, ...]:
        return self.model, self.language, tuple(self.columns)

    def fits(self, there: Keywords | None) -> bool:
        """Whether vectors that were made in another way are what these would be.

        Args:
            there: What they were made of; a mean length that is not known yet fits any.
        """
        if there is None or self._made_of != there._made_of:
            return False
        return None in (self.avg_len, there.avg_len) or self.avg_len == there.avg_len
