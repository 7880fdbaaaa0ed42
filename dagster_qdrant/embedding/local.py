"""Turn texts into vectors with fastembed, on all cores or on GPUs, with one model a process.

fastembed pads a batch to its longest text and leaves the cores to onnxruntime, whose threads wait
by spinning. Here texts are sorted by their number of tokens before they are cut into batches, and
one single-threaded session is called from one Python thread a core (onnxruntime lets go of the
GIL), which is faster and stays so on a busy machine. A GPU gets one thread and large batches.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster_qdrant.embedding.batching import Batching
from dagster_qdrant.embedding.options import EmbeddingOptions, is_static
from dagster_qdrant.errors import EmbeddingError
from dagster_qdrant.stopping import wait_for

if TYPE_CHECKING:
    import numpy as np
    from fastembed import TextEmbedding
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

_CPU_PROVIDER = "CPUExecutionProvider"
_GPU_PROVIDERS = frozenset(
    f"{name}ExecutionProvider"
    for name in ("CUDA", "Tensorrt", "NvTensorRTRTX", "ROCM", "MIGraphX", "Dml", "WebGPU")
)


@dataclass(frozen=True)
class TextsInModel:
    """Texts that are being embedded.

    Args:
        jobs: Batches, as the positions of their texts, each with its vectors to come.
        shape: Number of texts, size of their vectors.
        tokens: How many tokens go through the model, padding not among them.
    """

    jobs: Sequence[tuple[list[int], Future[Vectors]]]
    shape: tuple[int, int]
    tokens: int

    def result(self) -> Vectors:
        """Wait for the vectors, in the order of the texts.

        Raises:
            QdrantStoppedError: If told to stop meanwhile.
        """
        import numpy as np

        vectors: Vectors = np.empty(self.shape, dtype=np.float32)
        for batch, job in self.jobs:
            vectors[batch] = wait_for(job)
        return vectors

    def cancel(self) -> None:
        """Embed no more than what the model is at."""
        for _, job in self.jobs:
            job.cancel()


class TextEmbedder:
    """A loaded model with a pool of threads. Safe to use from several threads at once.

    Args:
        options: The model and how much of the machine it gets.

    Raises:
        EmbeddingError: If the model is not known, its files cannot be had, or it cannot run on
            what the options ask for.

    Example:
        >>> embedder = TextEmbedder(EmbeddingOptions())
        >>> embedder.embed(["a text", "another"]).shape
        (2, 384)
    """

    def __init__(self, options: EmbeddingOptions) -> None:
        self.options = options
        self.vector_size = options.vector_size
        self._models = [_load_model(options, device) for device in options.devices]
        in_use = _providers_of(self._models[0])
        self._batching = Batching.of(options, gpu=not _GPU_PROVIDERS.isdisjoint(in_use))
        self._pool = ThreadPoolExecutor(self._batching.workers, thread_name_prefix="embed")

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed texts.

        Args:
            texts: Any number of texts; keep them to a few thousand to bound memory. Text beyond
                the model's limit of tokens is cut off by the model's tokenizer.

        Returns:
            An array of shape (len(texts), vector_size), in the order of the texts.
        """
        return self.start(texts).result()

    def start(self, texts: Sequence[str]) -> TextsInModel:
        """Begin to embed texts, behind those that were begun before.

        Args:
            texts: As `embed` takes them.

        Returns:
            The way to their vectors.
        """
        # fastembed does this once more. To hand it the tokens would take private parts of it, for
        # a hundredth of the time.
        tokenizer: Any = self._models[0].model.tokenizer  # type: ignore[attr-defined]
        encodings = tokenizer.encode_batch(
            list(texts), add_special_tokens=not is_static(self.options.model)
        )
        lengths = [sum(encoding.attention_mask) for encoding in encodings]
        # The longest first, so that no core is left with the longest batch at the end.
        jobs = [
            (batch, self._pool.submit(self._embed_batch, number, [texts[i] for i in batch]))
            for number, batch in enumerate(self._batching.cut(lengths))
        ]
        return TextsInModel(jobs, (len(texts), self.vector_size), sum(lengths))

    def embed_query(self, text: str) -> Vectors:
        """Embed what somebody searches for, with the model's prefix for questions if it has one.

        Returns:
            An array of shape (vector_size,).
        """
        import numpy as np

        return np.asarray(next(iter(self._models[0].query_embed(text))), dtype=np.float32)

    def _embed_batch(self, number: int, texts: list[str]) -> Vectors:
        import numpy as np

        model = self._models[number % len(self._models)]
        return np.asarray(list(model.embed(texts, batch_size=len(texts))), dtype=np.float32)


def _load_model(options: EmbeddingOptions, device: int | None) -> TextEmbedding:
    from fastembed import TextEmbedding
    from fastembed.common.types import Device
    from onnxruntime import get_available_providers  # type: ignore[import-untyped]

    files: dict[str, Any] = {"local_files_only": options.local_files_only}
    if options.model_path:
        if not Path(options.model_path).is_dir():
            raise EmbeddingError(
                f"`model_path` is {options.model_path}, which is no folder. Name the folder that "
                "holds the model's ONNX file and its tokenizer.json."
            )
        files = {"specific_model_path": options.model_path}
    _refuse_without_providers(options, get_available_providers())
    cache_dir = options.cache_dir or os.environ.get("FASTEMBED_CACHE_PATH") or _default_cache()
    try:
        model = TextEmbedding(
            model_name=options.model,
            cache_dir=cache_dir,
            threads=None if is_static(options.model) else options.threads,
            providers=list(options.providers) if options.providers else None,
            cuda=Device.AUTO if options.cuda is None else options.cuda,
            device_ids=None if device is None else [device],
            **files,
        )
    except Exception as error:
        where = options.model_path or cache_dir
        raise EmbeddingError(
            f"The model {options.model!r} could not be loaded from {where}: {error} "
            "It is downloaded on first use: allow access to the model hub, or name a folder with "
            "its files as `model_path`."
        ) from error
    # onnxruntime falls back to the CPU without an error.
    _refuse_without_providers(options, _providers_of(model))
    return model


def _providers_of(model: TextEmbedding) -> Sequence[str]:
    """What a model runs on."""
    session = getattr(model.model, "model", None)  # a static model has none
    return session.get_providers() if session else [_CPU_PROVIDER]


def _refuse_without_providers(options: EmbeddingOptions, there: Sequence[str]) -> None:
    missing = [name for name in options.required_providers if name not in there]
    if missing:
        asked = "cuda" if options.cuda else "providers"
        raise EmbeddingError(
            f"`{asked}` asks for {' and '.join(missing)}, but the model {options.model!r} can use "
            f"{' and '.join(there)} only. An Nvidia GPU needs the package `onnxruntime-gpu` in "
            "place of `onnxruntime`, with the versions of CUDA and cuDNN that it was built for "
            f"(static models never use one). Install what is missing, or remove `{asked}`."
        )


def _default_cache() -> str:
    from platformdirs import user_cache_dir

    return user_cache_dir("fastembed")
