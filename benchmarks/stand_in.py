"""A stand-in for the model: a real one would take hours, and hide what the rest takes."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def replace_the_model(size: int, *, seconds: float = 0.0) -> None:
    """Let loads of this process have small vectors, which follow from the texts.

    Args:
        size: How many numbers a vector has.
        seconds: How long to wait for each text, without a processor.
    """
    from dagster_qdrant.embedding import embedder, local, options

    class Embedder:
        vector_size = size
        max_tokens = None

        def __init__(self, given: options.EmbeddingOptions, *, ahead: bool) -> None:
            self.options = given
            self._model = ThreadPoolExecutor(1)

        def start(self, texts: Sequence[str]) -> local.TextsInModel:
            def embed() -> Any:
                if seconds:
                    time.sleep(seconds * len(texts))
                return _vectors_of(texts, size)

            jobs = [(list(range(len(texts))), self._model.submit(embed))]
            return local.TextsInModel(jobs, (len(texts), size), len(texts))

    known: Any = options.EmbeddingOptions
    known.vector_size = property(lambda _: size)
    seam: Any = embedder
    seam.TextEmbedder = Embedder


def _vectors_of(texts: Sequence[str], size: int) -> Any:
    import numpy as np

    seeds = np.array([zlib.crc32(text.encode()) for text in texts], dtype=np.uint64)
    spread = seeds[:, None] * np.arange(1, size + 1, dtype=np.uint64)
    return (spread % 1_000).astype(np.float32) / 1_000 + 0.001
