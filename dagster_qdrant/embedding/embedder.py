"""The one way to vectors: a model in this process, whatever makes the vectors."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from dagster_qdrant.embedding.local import TextEmbedder
from dagster_qdrant.embedding.options import EmbeddingOptions
from dagster_qdrant.errors import EmbeddingError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]


class TextsInWork(Protocol):
    """Texts that are being embedded."""

    @property
    def tokens(self) -> int:
        """How many tokens were embedded. What is not known before is so after `result`."""

    def result(self) -> Vectors:
        """Wait for the vectors, in the order of the texts."""

    def cancel(self) -> None:
        """Embed no more than what is under way."""


class Embedder(Protocol):
    """What makes vectors of texts. Safe to use from several threads at once."""

    @property
    def vector_size(self) -> int:
        """Number of dimensions of the vectors."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed texts: an array of shape (len(texts), vector_size), in their order."""

    def start(self, texts: Sequence[str]) -> TextsInWork:
        """Begin to embed texts, behind those that were begun before."""

    def embed_query(self, text: str) -> Vectors:
        """Embed what somebody searches for: an array of shape (vector_size,)."""


_embedders: dict[EmbeddingOptions, Embedder] = {}
_guard = threading.Lock()


def load_embedder(options: EmbeddingOptions) -> Embedder:
    """The embedder of this process for some options, made at the first call.

    Args:
        options: The model, and where and how it is run.

    Raises:
        EmbeddingError: If the model is not known, or cannot be had.

    Example:
        >>> embedder = load_embedder(EmbeddingOptions())
        >>> embedder.embed(["a text", "another"]).shape
        (2, 384)
    """
    with _guard:
        if options not in _embedders:
            _embedders[options] = TextEmbedder(options)
        return _embedders[options]


def preload_embedder(options: EmbeddingOptions) -> None:
    """Begin to load the embedder in the background, for a caller who has other things to do first.

    A failure is not shown here; `load_embedder` meets it again.

    Args:
        options: The model, and where and how it is run.
    """

    def load() -> None:
        with suppress(EmbeddingError):
            load_embedder(options)

    threading.Thread(target=load, name="preload-model", daemon=True).start()


def vector_size(options: EmbeddingOptions) -> int:
    """Number of dimensions of a model's vectors, without loading the model.

    Args:
        options: The model, and where and how it is run.

    Raises:
        EmbeddingError: If the model is not known.
    """
    return options.vector_size
