"""Turn texts into vectors with fastembed, on all cores or on GPUs.

fastembed pads a batch to its longest text and leaves the cores to onnxruntime, whose threads wait
by spinning. Here texts are sorted by their number of tokens before they are cut into batches, and
one single-threaded session is called from one Python thread a core (onnxruntime lets go of the
GIL), which is faster and stays so on a busy machine. A GPU gets one thread and large batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dagster_qdrant.embedding.batching import Batching
from dagster_qdrant.embedding.local_files import open_model
from dagster_qdrant.embedding.options import EmbeddingOptions, is_static
from dagster_qdrant.embedding.providers import GPU_PROVIDERS, providers_of
from dagster_qdrant.embedding.sparse import as_sparse_vector
from dagster_qdrant.stopping import wait_for

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class TextsInModel:
    """Texts that are being embedded.

    Args:
        jobs: Batches, as the positions of their texts, each with its vectors to come.
        shape: Number of texts, size of their vectors; empty if that differs.
        tokens: How many tokens go through the model, padding not among them.
        cut: How many tokens do not, by the position of each text that is longer than the model's
            window.
    """

    jobs: Sequence[tuple[list[int], Future[Any]]]
    shape: tuple[int, ...]
    tokens: int
    cut: Mapping[int, int] = field(default_factory=dict)

    def result(self) -> Vectors | list[Vectors]:
        """Wait for the vectors, in the order of the texts.

        Raises:
            QdrantStoppedError: If told to stop meanwhile.
        """
        import numpy as np

        if self.shape:
            vectors: Vectors = np.empty(self.shape, dtype=np.float32)
            for batch, job in self.jobs:
                vectors[batch] = wait_for(job)
            return vectors
        of_tokens: dict[int, Vectors] = {}
        for batch, job in self.jobs:
            of_tokens.update(zip(batch, wait_for(job), strict=True))
        return [of_tokens[position] for position in range(len(of_tokens))]

    def cancel(self) -> None:
        """Embed no more than what the model is at."""
        for _, job in self.jobs:
            job.cancel()


class TextEmbedder:
    """A loaded model of fastembed with a pool of threads. Safe to use from several at once.

    It embeds texts as they are given. Prefixes are put before them by `load_embedder`.

    Args:
        options: The model and how much of the machine it gets.
        ahead: Whether nobody waits for it yet. Then nothing is downloaded, and a process that ends
            is not kept for longer than need be.

    Raises:
        EmbeddingError: If the model is not known, its files cannot be had, it cannot run on what
            the options ask for, or it is not what it is registered as.

    Example:
        >>> embedder = TextEmbedder(EmbeddingOptions())
        >>> embedder.embed(["a text", "another"]).shape
        (2, 384)
    """

    def __init__(self, options: EmbeddingOptions, *, ahead: bool = False) -> None:
        self.options = options
        self.vector_size = 0 if options.kind == "sparse" else options.vector_size
        self._models = [open_model(options, device, ahead=ahead) for device in options.devices]
        # fastembed uses it as well. To hand it the tokens would take private parts of it, for a
        # hundredth of the time.
        self._tokenizer: Any = self._models[0].model.tokenizer
        self._special_tokens = not is_static(options)
        truncation = self._tokenizer.truncation or {}
        self.max_tokens: int | None = truncation.get("max_length")
        in_use = providers_of(self._models[0])
        self._batching = Batching.of(options, gpu=not GPU_PROVIDERS.isdisjoint(in_use))
        self._pool = ThreadPoolExecutor(self._batching.workers, thread_name_prefix="embed")

    def embed(self, texts: Sequence[str]) -> Any:
        """Embed texts.

        Args:
            texts: Any number of texts; keep them to a few thousand to bound memory. Text beyond
                the model's window of tokens is cut off by the model's tokenizer.

        Returns:
            An array of shape (len(texts), vector_size), in the order of the texts; of a
            late-interaction model a list of arrays of shape (tokens, vector_size), of a sparse one
            a list of sparse vectors.
        """
        return self.start(texts).result()

    def start(self, texts: Sequence[str]) -> TextsInModel:
        """Begin to embed texts, behind those that were begun before.

        Args:
            texts: As `embed` takes them.

        Returns:
            The way to their vectors.
        """
        lengths, cut = self._lengths(texts)
        # The longest first, so that no core is left with the longest batch at the end.
        jobs = [
            (batch, self._pool.submit(self._embed_batch, number, [texts[i] for i in batch]))
            for number, batch in enumerate(self._batching.cut(lengths))
        ]
        is_dense = self.options.kind == "dense"
        shape = (len(texts), self.vector_size) if is_dense else ()
        return TextsInModel(jobs, shape, sum(lengths), cut)

    def embed_query(self, text: str) -> Any:
        """Embed what somebody searches for, as one that is, where a model tells it from the rest.

        Returns:
            An array of shape (vector_size,); of a late-interaction model (tokens, vector_size).
        """
        import numpy as np

        [vector] = self._models[0].query_embed(text)
        if self.options.kind == "sparse":
            return as_sparse_vector(vector)
        return np.asarray(vector, dtype=np.float32)

    def _lengths(self, texts: Sequence[str]) -> tuple[list[int], dict[int, int]]:
        """The texts' numbers of tokens in the model, and of those that it cuts off."""
        encodings = self._tokenizer.encode_batch_fast(
            list(texts), add_special_tokens=self._special_tokens
        )
        lengths = [sum(encoding.attention_mask) for encoding in encodings]
        cut = {
            position: sum(map(_own_tokens, encodings[position].overflowing))
            for position, length in enumerate(lengths)
            if length == self.max_tokens
        }
        return lengths, {position: tokens for position, tokens in cut.items() if tokens}

    def _embed_batch(self, number: int, texts: list[str]) -> Any:
        import numpy as np

        model = self._models[number % len(self._models)]
        vectors = list(model.embed(texts, batch_size=len(texts)))
        if self.options.kind == "sparse":
            return [as_sparse_vector(each) for each in vectors]
        if self.options.kind == "late_interaction":
            return [np.asarray(each, dtype=np.float32) for each in vectors]
        return np.asarray(vectors, dtype=np.float32)


def _own_tokens(encoding: Any) -> int:
    """The tokens of a piece of a text, without padding and what a tokenizer puts round it."""
    masks = zip(encoding.attention_mask, encoding.special_tokens_mask, strict=True)
    return sum(attended and not special for attended, special in masks)
