"""Turn texts into vectors with fastembed, on all cores, with one model a process.

fastembed pads a batch to its longest text and leaves the cores to onnxruntime, whose threads wait
by spinning. Here texts are sorted by their number of tokens before they are cut into batches, and
one single-threaded session is called from one Python thread a core (onnxruntime lets go of the
GIL), which is faster and stays so on a busy machine.
"""

from __future__ import annotations

import difflib
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from fastembed import TextEmbedding
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

DEFAULT_MODEL = "BAAI/bge-small-en"
DEFAULT_BATCH_SIZE = 32
VECTOR_NAME_PREFIX = "fast-"

# Long texts fill a batch before its number of texts does: attention's cost and memory grow with
# the square of the length, and caches are small.
_BATCH_TOKENS = 768


class EmbeddingError(ValueError):
    """A model or an option for it that cannot be used; the message says which and what to do."""


@dataclass(frozen=True)
class EmbeddingOptions:
    """Which model embeds, and with how much of the machine.

    Args:
        model: Name of a text embedding model of fastembed.
        model_path: Folder with the model's files, for machines without access to a model hub.
        cache_dir: Folder to keep downloaded models in. Default: `fastembed` in the user's cache
            folder (fastembed's own default is the temporary folder).
        local_files_only: Never download; the model has to be in `cache_dir`.
        threads: Threads that onnxruntime uses for one batch.
        providers: onnxruntime's execution providers, in order of preference.
        batch_size: The most texts in a batch.
        parallelism: Batches embedded at once. 0: as many as fill the cores.

    Raises:
        EmbeddingError: For values out of range or without effect.

    Example:
        >>> EmbeddingOptions(model="BAAI/bge-small-en").vector_name
        'fast-bge-small-en'
    """

    model: str = DEFAULT_MODEL
    model_path: str | None = None
    cache_dir: str | None = None
    local_files_only: bool = False
    threads: int = 1
    providers: tuple[str, ...] | None = None
    batch_size: int = DEFAULT_BATCH_SIZE
    parallelism: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot work or would be ignored."""
        if self.batch_size < 1:
            raise EmbeddingError(
                f"`embedding_batch_size` is {self.batch_size}; it must be 1 or more."
            )
        if self.parallelism < 0:
            raise EmbeddingError(
                f"`embedding_parallelism` is {self.parallelism}; it must be 0 (all cores) or more."
            )
        if self.threads < 1:
            raise EmbeddingError(f"`threads` is {self.threads}; it must be 1 or more.")
        without_effect = [
            f"`{name}`"
            for name, value in [
                ("cache_dir", self.cache_dir),
                ("local_files_only", self.local_files_only),
            ]
            if value
        ]
        if self.model_path and without_effect:
            raise EmbeddingError(
                f"{' and '.join(without_effect)} cannot take effect together with `model_path`, "
                "which names the files of the model. Remove one of them."
            )

    @property
    def vector_name(self) -> str:
        """Name of the vector in a collection; the one that qdrant-client's own mixin uses."""
        return f"{VECTOR_NAME_PREFIX}{self.model.rsplit('/', 1)[-1].lower()}"

    @property
    def workers(self) -> int:
        """How many batches are embedded at once."""
        return self.parallelism or max(1, available_cores() // self.threads)

    @property
    def vector_size(self) -> int:
        """Number of dimensions of the model's vectors, without loading the model.

        Raises:
            EmbeddingError: If fastembed does not know the model.
        """
        return int(_describe(self.model)["dim"])


def available_cores() -> int:
    """The cores that this process may use: its affinity, cut by the cgroup's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        limit = float("inf") if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        limit = float("inf")
    return max(1, int(min(cores or 1, limit)))


@lru_cache(maxsize=64)
def _describe(model: str) -> dict[str, Any]:
    """What fastembed knows of a model."""
    from fastembed import TextEmbedding

    supported = {str(entry["model"]): entry for entry in TextEmbedding.list_supported_models()}
    by_lower = {name.lower(): name for name in supported}
    if model.lower() in by_lower:
        return supported[by_lower[model.lower()]]
    close = difflib.get_close_matches(model.lower(), by_lower, n=3, cutoff=0.4)
    hint = f" Did you mean {' or '.join(by_lower[name] for name in close)}?" if close else ""
    raise EmbeddingError(
        f"`model` is {model!r}, which fastembed does not know.{hint} "
        "`fastembed.TextEmbedding.list_supported_models()` lists the names."
    )


def models_for_vector(vector_name: str) -> list[str]:
    """The models whose vectors carry a name, several if they differ in their owner only."""
    from fastembed import TextEmbedding

    names = [str(entry["model"]) for entry in TextEmbedding.list_supported_models()]
    return [name for name in names if EmbeddingOptions(model=name).vector_name == vector_name]


class TextEmbedder:
    """A loaded model with a pool of threads. Safe to use from several threads at once.

    Args:
        options: The model and how much of the machine it gets.

    Raises:
        EmbeddingError: If the model is not known, or its files cannot be had.

    Example:
        >>> embedder = load_embedder(EmbeddingOptions())
        >>> embedder.embed(["a text", "another"]).shape
        (2, 384)
    """

    def __init__(self, options: EmbeddingOptions) -> None:
        self.options = options
        self.vector_size = options.vector_size
        self._model = _load_model(options)
        self._pool = ThreadPoolExecutor(options.workers, thread_name_prefix="embed")

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed texts.

        Args:
            texts: Any number of texts; keep them to a few thousand to bound memory. Text beyond
                the model's limit of tokens is cut off by the model's tokenizer.

        Returns:
            An array of shape (len(texts), vector_size), in the order of the texts.
        """
        import numpy as np

        lengths = self._count_tokens(texts)
        order = sorted(range(len(texts)), key=lambda index: lengths[index], reverse=True)
        vectors: Vectors = np.empty((len(texts), self.vector_size), dtype=np.float32)
        # The longest first, so that no core is left with the longest batch at the end.
        jobs: list[tuple[list[int], Future[Vectors]]] = [
            (batch, self._pool.submit(self._embed_batch, [texts[index] for index in batch]))
            for batch in self._batches(order, lengths)
        ]
        for batch, job in jobs:
            vectors[batch] = job.result()
        return vectors

    def embed_query(self, text: str) -> Vectors:
        """Embed what somebody searches for, with the model's prefix for questions if it has one.

        Returns:
            An array of shape (vector_size,).
        """
        import numpy as np

        return np.asarray(next(iter(self._model.query_embed(text))), dtype=np.float32)

    def _embed_batch(self, texts: list[str]) -> Vectors:
        import numpy as np

        return np.asarray(list(self._model.embed(texts, batch_size=len(texts))), dtype=np.float32)

    def _count_tokens(self, texts: Sequence[str]) -> list[int]:
        tokenize = getattr(self._model.model, "tokenize", None)
        if tokenize is None:
            return [len(text) for text in texts]
        return [sum(encoding.attention_mask) for encoding in tokenize(list(texts))]

    def _batches(self, order: list[int], lengths: list[int]) -> list[list[int]]:
        batches: list[list[int]] = []
        start = 0
        while start < len(order):
            longest = max(1, lengths[order[start]])
            size = max(1, min(self.options.batch_size, _BATCH_TOKENS // longest))
            batches.append(order[start : start + size])
            start += size
        return batches


def _load_model(options: EmbeddingOptions) -> TextEmbedding:
    from fastembed import TextEmbedding

    files: dict[str, Any] = {"local_files_only": options.local_files_only}
    if options.model_path:
        if not Path(options.model_path).is_dir():
            raise EmbeddingError(
                f"`model_path` is {options.model_path}, which is no folder. Name the folder that "
                "holds the model's ONNX file and its tokenizer.json."
            )
        files = {"specific_model_path": options.model_path}
    cache_dir = options.cache_dir or os.environ.get("FASTEMBED_CACHE_PATH") or _default_cache()
    try:
        return TextEmbedding(
            model_name=options.model,
            cache_dir=cache_dir,
            threads=options.threads,
            providers=list(options.providers) if options.providers else None,
            **files,
        )
    except Exception as error:
        where = options.model_path or cache_dir
        raise EmbeddingError(
            f"The model {options.model!r} could not be loaded from {where}: {error} "
            "It is downloaded on first use: allow access to the model hub, or name a folder with "
            "its files as `model_path`."
        ) from error


def _default_cache() -> str:
    from platformdirs import user_cache_dir

    return user_cache_dir("fastembed")


_embedders: dict[EmbeddingOptions, TextEmbedder] = {}
_embedders_guard = threading.Lock()


def load_embedder(options: EmbeddingOptions) -> TextEmbedder:
    """The embedder of this process for some options, loaded at the first call.

    Args:
        options: The model and how much of the machine it gets.

    Raises:
        EmbeddingError: If the model is not known, or its files cannot be had.
    """
    with _embedders_guard:
        if options not in _embedders:
            _embedders[options] = TextEmbedder(options)
        return _embedders[options]


def preload_embedder(options: EmbeddingOptions) -> None:
    """Begin to load the embedder in the background, for a caller who has other things to do first.

    A failure is not shown here; `load_embedder` meets it again.

    Args:
        options: The model and how much of the machine it gets.
    """

    def load() -> None:
        with suppress(EmbeddingError):
            load_embedder(options)

    threading.Thread(target=load, name="preload-model", daemon=True).start()
