"""The one way to vectors: a model in this process, whatever makes the vectors."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from dagster_qdrant.embedding.local import TextEmbedder
from dagster_qdrant.embedding.local_files import DownloadError
from dagster_qdrant.embedding.options import EmbeddingOptions
from dagster_qdrant.embedding.prefixes import Prefixes
from dagster_qdrant.embedding.remote import RemoteEmbedder
from dagster_qdrant.embedding.reranker import Reranker
from dagster_qdrant.errors import EmbeddingError
from dagster_qdrant.stopping import begin, wait_for

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

# Seconds in which a model that could not be downloaded is not asked for again, which each table of
# a load would do.
_SECONDS_WITHOUT_HUB = 600.0


class TextsInWork(Protocol):
    """Texts that are being embedded."""

    @property
    def tokens(self) -> int:
        """How many tokens were embedded. What is not known before is so after `result`."""

    @property
    def cut(self) -> Mapping[int, int]:
        """How many tokens were not, by the position of each text beyond the model's window."""

    def result(self) -> Vectors | Sequence[Vectors]:
        """Wait for the vectors, in the order of the texts."""

    def cancel(self) -> None:
        """Embed no more than what is under way."""


class Embedder(Protocol):
    """What makes vectors of texts. Safe to use from several threads at once."""

    @property
    def vector_size(self) -> int:
        """Number of dimensions of the vectors."""

    @property
    def max_tokens(self) -> int | None:
        """The model's window: how many tokens of a text it takes. None if that is not known."""

    def embed(self, texts: Sequence[str]) -> Any:
        """Embed texts: an array of shape (len(texts), vector_size), in their order.

        Of a late-interaction model it is a list of arrays of shape (tokens, vector_size).
        """

    def start(self, texts: Sequence[str]) -> TextsInWork:
        """Begin to embed texts, behind those that were begun before."""

    def embed_query(self, text: str) -> Any:
        """Embed what somebody searches for: an array of shape (vector_size,)."""


class _WithPrefixes:
    """Puts before texts what their model wants to stand there."""

    def __init__(self, embedder: Embedder, prefixes: Prefixes) -> None:
        self._embedder = embedder
        self._prefixes = prefixes

    @property
    def vector_size(self) -> int:
        return self._embedder.vector_size

    @property
    def max_tokens(self) -> int | None:
        return self._embedder.max_tokens

    def embed(self, texts: Sequence[str]) -> Any:
        return self.start(texts).result()

    def start(self, texts: Sequence[str]) -> TextsInWork:
        return self._embedder.start([f"{self._prefixes.passage}{text}" for text in texts])

    def embed_query(self, text: str) -> Any:
        return self._embedder.embed_query(f"{self._prefixes.query}{text}")


# Embedders and rerankers, by what they were loaded with.
_embedders: dict[EmbeddingOptions, Any] = {}
_without_hub: dict[EmbeddingOptions, tuple[float, DownloadError]] = {}
_guard = threading.Lock()


def load_embedder(options: EmbeddingOptions) -> Embedder:
    """The embedder for some options, whose model a process loads at the first call.

    Args:
        options: The model, its prefixes, and where and how it is run.

    Raises:
        EmbeddingError: If the model is not known, or cannot be had.
        EmbeddingServiceError: If a service cannot be reached, or fails.
        QdrantStoppedError: If told to stop while the model is loaded.

    Example:
        >>> embedder = load_embedder(EmbeddingOptions())
        >>> embedder.embed(["a text", "another"]).shape
        (2, 384)
    """
    embedder: Embedder = _loaded(options.without_prefixes)
    return _WithPrefixes(embedder, options.prefixes) if any(options.prefixes) else embedder


def load_reranker(options: EmbeddingOptions) -> Reranker:
    """The reranker for some options, whose model a process loads at the first call.

    Args:
        options: The model, and where and how it is run.

    Raises:
        EmbeddingError: If the model is not known, or cannot be had.
        QdrantStoppedError: If told to stop while the model is loaded.
    """
    reranker: Reranker = _loaded(options)
    return reranker


def _loaded(options: EmbeddingOptions) -> Any:
    model = _kept(options)
    if model is None:
        # A process that ends while a thread is in the hub's library aborts, so this is no daemon.
        loading = begin(lambda: _load(options, ahead=False), "load-model", daemon=False)
        model = wait_for(loading)
    return model


def preload_embedder(options: EmbeddingOptions) -> None:
    """Begin to load the embedder in the background, for a caller who has other things to do first.

    A model that has to be downloaded waits for `load_embedder`, and so does any failure. A service
    has nothing to load, and is asked at once whether it has the model.

    Args:
        options: The model, and where and how it is run.

    Raises:
        EmbeddingError: If a service does not have it.
        EmbeddingServiceError: If a service cannot be reached, or fails.
    """
    if options.service:
        load_embedder(options)
        return

    def load() -> None:
        with suppress(EmbeddingError):
            _load(options.without_prefixes, ahead=True)

    # No daemon: a process that ends while one is in onnxruntime or in the hub's library aborts.
    # So a process waits for it at its end. It takes no more than it takes to open files.
    threading.Thread(target=load, name="preload-model").start()


def _kept(options: EmbeddingOptions) -> Any:
    model = _embedders.get(options)
    has_changed = isinstance(model, RemoteEmbedder) and model.has_changed
    return None if has_changed else model


def _load(options: EmbeddingOptions, *, ahead: bool) -> Any:
    with _guard:
        model = _kept(options)
        if model is None:
            model = RemoteEmbedder(options) if options.service else _local(options, ahead=ahead)
            _embedders[options] = model
        return model


def _local(options: EmbeddingOptions, *, ahead: bool) -> TextEmbedder | Reranker:
    failed_at, failure = _without_hub.get(options, (0.0, None))
    lately = failure and time.monotonic() - failed_at < _SECONDS_WITHOUT_HUB
    kind = Reranker if options.kind == "reranker" else TextEmbedder
    try:
        # What could not be downloaded may have come in another way.
        return kind(options, ahead=ahead or bool(lately))
    except DownloadError as error:
        _without_hub[options] = (time.monotonic(), error)
        raise
    except EmbeddingError:
        if lately:
            raise EmbeddingError(str(failure)) from failure
        raise


def vector_size(options: EmbeddingOptions) -> int:
    """Number of dimensions of a model's vectors, without loading the model.

    A service is asked for it once, unless the options say it.

    Args:
        options: The model, and where and how it is run.

    Raises:
        EmbeddingError: If the model is not known.
        EmbeddingServiceError: If a service cannot be reached, or fails.
    """
    if options.service is None:
        return options.vector_size
    return options.service.dimensions or load_embedder(options).vector_size
