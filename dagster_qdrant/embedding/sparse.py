"""Texts -> sparse vectors of their keywords: BM25, by Qdrant's own engine in this process.

The tokens are those of a server's `Qdrant/bm25`. Stemmers and stopwords are compiled in; nothing is
downloaded. A vector holds how often each token stands in the text, weighed by the text's length.
How rare a token is, Qdrant itself adds (the IDF modifier).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from dagster_qdrant.errors import EmbeddingError

if TYPE_CHECKING:
    from qdrant_client import models
    from qdrant_edge import Bm25

KEYWORD_VECTOR = "bm25"
DEFAULT_LANGUAGE = "english"

# Snowball's stemmers, as Qdrant names their languages: the languages that fastembed knows too.
STEMMED = (
    "arabic",
    "danish",
    "dutch",
    "english",
    "finnish",
    "french",
    "german",
    "greek",
    "hungarian",
    "italian",
    "norwegian",
    "portuguese",
    "romanian",
    "russian",
    "spanish",
    "swedish",
    "tamil",
    "turkish",
)
# These have stopwords and no stemmer.
UNSTEMMED = (
    "azerbaijani",
    "basque",
    "bengali",
    "catalan",
    "chinese",
    "hebrew",
    "hinglish",
    "indonesian",
    "japanese",
    "kazakh",
    "nepali",
    "slovene",
    "tajik",
)
LANGUAGES = (*STEMMED, *UNSTEMMED)
# No spaces between words, or vowel signs: Qdrant's plain tokenizer would cut in the wrong places.
_MULTILINGUAL = frozenset({"bengali", "chinese", "japanese", "nepali", "tamil"})

# Qdrant's own default, for texts of which none is known yet.
_DEFAULT_AVG_LEN = 256.0
# With these, a token's weight is how often it stands in the text.
_COUNTING = {"k": 1e6, "b": 0.0}


def refuse_unknown_language(language: str) -> None:
    """See that there are rules for a language.

    Raises:
        EmbeddingError: If there are none.
    """
    if language in LANGUAGES:
        return
    close = difflib.get_close_matches(str(language).lower(), LANGUAGES, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    raise EmbeddingError(
        f"`keywords` names the language {language!r}, for which there are no rules.{hint} "
        f"There are some for {', '.join(LANGUAGES)}."
    )


@dataclass(frozen=True)
class KeywordModel:
    """BM25 for texts of one language.

    Args:
        language: Whose stopwords are left out and whose endings are cut off.
        avg_len: The mean number of tokens in a text, stopwords not counted. A longer text's tokens
            count less. None: not known.

    Raises:
        EmbeddingError: For a language without rules.

    Example:
        >>> model = KeywordModel("english", avg_len=4)
        >>> [document] = model.embed(["Androids hunted in the rain"])
        >>> set(model.query("hunting android").indices) <= set(document.indices)
        True
    """

    language: str = DEFAULT_LANGUAGE
    avg_len: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        refuse_unknown_language(self.language)
        if self.avg_len is not None and self.avg_len <= 0:
            raise EmbeddingError(f"`avg_len` is {self.avg_len}; it must be more than 0 tokens.")

    def embed(self, texts: Iterable[str]) -> list[models.SparseVector]:
        """The vectors of texts that are stored. A text without any keyword has an empty one."""
        model = _bm25(self.language, avg_len=self.avg_len or _DEFAULT_AVG_LEN)
        return [_sparse(model.embed_document(text)) for text in texts]

    def query(self, text: str) -> models.SparseVector:
        """The vector of a text that is searched for: each of its tokens counts the same."""
        return _sparse(_bm25(self.language, avg_len=_DEFAULT_AVG_LEN).embed_query(text))

    def mean_length(self, texts: Sequence[str]) -> float | None:
        """The mean number of tokens in texts, stopwords not counted; None if there are none."""
        lengths = self.lengths(texts)
        return sum(lengths) / len(lengths) if lengths else None

    def lengths(self, texts: Iterable[str]) -> list[int]:
        """The numbers of tokens in texts, stopwords not counted, of those that have some."""
        counting = _bm25(self.language, **_COUNTING)
        lengths = (round(sum(counting.embed_document(text).values)) for text in texts)
        return [length for length in lengths if length]


@lru_cache(maxsize=32)
def _bm25(language: str, **parameters: float) -> Bm25:
    import qdrant_edge

    options: dict[str, Any] = dict(parameters)
    if language == "tamil":  # the engine has its stemmer, and no stopwords
        stemmer = qdrant_edge.SnowballParams(qdrant_edge.SnowballLanguage.Tamil)
        options |= {"stemmer": stemmer, "stopwords": qdrant_edge.StopwordsSet()}
    else:
        options["language"] = language
    if language in _MULTILINGUAL:
        options["tokenizer"] = qdrant_edge.TokenizerType.Multilingual
    return qdrant_edge.Bm25(qdrant_edge.Bm25Config(**options))


def as_sparse_vector(vector: Any) -> models.SparseVector:
    """A vector of a sparse model of fastembed, as Qdrant takes it."""
    from qdrant_client import models

    return models.SparseVector(indices=vector.indices.tolist(), values=vector.values.tolist())


def _sparse(vector: Any) -> models.SparseVector:
    from qdrant_client import models

    return models.SparseVector.model_construct(indices=vector.indices, values=vector.values)
