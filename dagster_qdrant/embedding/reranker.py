"""Score how well texts answer a question, with a cross-encoder of fastembed.

A cross-encoder reads a question and a text together. It judges better than vectors do, and costs a
run of the model a text, so it is given the few texts that a search found.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dagster_qdrant.embedding.batching import Batching
from dagster_qdrant.embedding.local_files import open_model
from dagster_qdrant.embedding.options import EmbeddingOptions
from dagster_qdrant.embedding.providers import GPU_PROVIDERS, providers_of
from dagster_qdrant.stopping import wait_for


class Reranker:
    """A loaded cross-encoder with a pool of threads. Safe to use from several at once.

    Args:
        options: The model and how much of the machine it gets.
        ahead: See `open_model`.

    Raises:
        EmbeddingError: If the model is not known, or cannot be had.

    Example:
        >>> reranker = Reranker(EmbeddingOptions("Xenova/ms-marco-MiniLM-L-6-v2", kind="reranker"))
        >>> right, wrong = reranker.score("Who hunts?", ["A hunter hunts.", "Rain falls."])
        >>> right > wrong
        True
    """

    def __init__(self, options: EmbeddingOptions, *, ahead: bool = False) -> None:
        # fastembed uses the first device alone.
        self._model: Any = open_model(options, options.devices[0], ahead=ahead)
        gpu = not GPU_PROVIDERS.isdisjoint(providers_of(self._model))
        self._batching = Batching.of(options, gpu=gpu)
        self._pool = ThreadPoolExecutor(self._batching.workers, thread_name_prefix="rerank")

    def score(self, question: str, texts: Sequence[str]) -> list[float]:
        """Score texts, the better the higher.

        Args:
            question: What somebody asks.
            texts: What may answer it. What is beyond the model's window, its tokenizer cuts off.

        Returns:
            Their scores, in their order. How high they are depends on the model.

        Raises:
            QdrantStoppedError: If told to stop meanwhile.
        """
        tokenizer = self._model.model.tokenizer
        pairs = [(question, text) for text in texts]
        lengths = [sum(each.attention_mask) for each in tokenizer.encode_batch(pairs)]
        jobs = [
            (batch, self._pool.submit(self._score_batch, [pairs[i] for i in batch]))
            for batch in self._batching.cut(lengths)
        ]
        scores = [0.0] * len(texts)
        for batch, job in jobs:
            of_batch: list[float] = wait_for(job)
            for position, score in zip(batch, of_batch, strict=True):
                scores[position] = score
        return scores

    def _score_batch(self, pairs: list[tuple[str, str]]) -> list[float]:
        return [float(each) for each in self._model.rerank_pairs(pairs, batch_size=len(pairs))]
