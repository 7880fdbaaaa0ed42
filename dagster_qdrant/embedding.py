"""Turn texts into vectors with fastembed, on all cores or on GPUs, with one model a process.

fastembed pads a batch to its longest text and leaves the cores to onnxruntime, whose threads wait
by spinning. Here texts are sorted by their number of tokens before they are cut into batches, and
one single-threaded session is called from one Python thread a core (onnxruntime lets go of the
GIL), which is faster and stays so on a busy machine. A GPU gets one thread and large batches.
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
VECTOR_NAME_PREFIX = "fast-"

# Long texts fill a batch before its number of texts does: attention's cost and memory grow with
# the square of the length. A core's caches are small; a GPU works at all of a batch at once.
_CPU_BATCH_TEXTS, _CPU_BATCH_TOKENS = 32, 768
_GPU_BATCH_TEXTS, _GPU_BATCH_TOKENS = 256, 16_384
# A batch is padded to its longest text. Few texts differ much in their length, and a batch more
# costs less than to embed the padding.
_SHORTEST_TO_LONGEST = 0.85

_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")

_CPU_PROVIDER = "CPUExecutionProvider"
_CUDA_PROVIDER = "CUDAExecutionProvider"
_GPU_PROVIDERS = frozenset(
    f"{name}ExecutionProvider"
    for name in ("CUDA", "Tensorrt", "NvTensorRTRTX", "ROCM", "MIGraphX", "Dml", "WebGPU")
)


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
        providers: onnxruntime's execution providers, in order of preference. All of them have to
            be there: none is left out in silence.
        cuda: Whether to use an Nvidia GPU. None: if onnxruntime can.
        device_ids: The GPUs to share the texts between. Default: the first.
        batch_size: The most texts in a batch. Default: 32, on a GPU 256.
        parallelism: Batches embedded at once. 0: as many as fill the cores, or one a GPU.

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
    cuda: bool | None = None
    device_ids: tuple[int, ...] | None = None
    batch_size: int | None = None
    parallelism: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot work or would be ignored."""
        if self.batch_size is not None and self.batch_size < 1:
            raise EmbeddingError(
                f"`embedding_batch_size` is {self.batch_size}; it must be 1 or more."
            )
        if self.parallelism < 0:
            raise EmbeddingError(
                f"`embedding_parallelism` is {self.parallelism}; it must be 0 (all cores) or more."
            )
        if self.threads < 1:
            raise EmbeddingError(f"`threads` is {self.threads}; it must be 1 or more.")
        if self.cuda is not None and self.providers:
            raise EmbeddingError(
                "`cuda` and `providers` are both set, and each says what the model runs on. Remove "
                "one of them."
            )
        if self.device_ids and not self.cuda:
            raise EmbeddingError(
                "`device_ids` names GPUs, but `cuda` does not ask for one. Set `cuda` to true, or "
                "remove `device_ids`."
            )
        if self.device_ids and min(self.device_ids) < 0:
            raise EmbeddingError(
                f"`device_ids` is {list(self.device_ids)}; GPUs are counted from 0."
            )
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
    def required_providers(self) -> tuple[str, ...]:
        """The execution providers that the model has to run on."""
        return self.providers or ((_CUDA_PROVIDER,) if self.cuda else ())

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
        quota, period = _CPU_QUOTA.read_text().split()
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


@dataclass(frozen=True)
class Batching:
    """How texts are cut into batches, and how many of these are embedded at once.

    Args:
        texts: The most texts in a batch.
        tokens: The most tokens in a batch, with the padding; a longer text is a batch of its own.
        workers: Batches at once.
    """

    texts: int
    tokens: int
    workers: int

    @classmethod
    def of(cls, options: EmbeddingOptions, *, gpu: bool) -> Batching:
        """What suits a GPU, or else the cores, as far as the options leave it open."""
        if gpu:
            texts, tokens, workers = _GPU_BATCH_TEXTS, _GPU_BATCH_TOKENS, len(_devices(options))
        else:
            texts, tokens = _CPU_BATCH_TEXTS, _CPU_BATCH_TOKENS
            workers = max(1, available_cores() // options.threads)
        return cls(options.batch_size or texts, tokens, options.parallelism or workers)

    def cut(self, lengths: Sequence[int]) -> list[list[int]]:
        """Cut texts into batches of about the same length, the longest first.

        Args:
            lengths: The texts' numbers of tokens.

        Returns:
            The batches, each as the positions of its texts.

        Example:
            >>> Batching(texts=2, tokens=100, workers=1).cut([9, 80, 10, 9])
            [[1], [2, 0], [3]]
        """
        order = sorted(range(len(lengths)), key=lambda index: lengths[index], reverse=True)
        batches: list[list[int]] = []
        fits, shortest = 0, 0.0
        for index in order:
            if not batches or len(batches[-1]) == fits or lengths[index] < shortest:
                batches.append([])
                fits = max(1, min(self.texts, self.tokens // max(1, lengths[index])))
                shortest = _SHORTEST_TO_LONGEST * lengths[index]
            batches[-1].append(index)
        return batches


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
        """Wait for the vectors, in the order of the texts."""
        import numpy as np

        vectors: Vectors = np.empty(self.shape, dtype=np.float32)
        for batch, job in self.jobs:
            vectors[batch] = job.result()
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
        >>> embedder = load_embedder(EmbeddingOptions())
        >>> embedder.embed(["a text", "another"]).shape
        (2, 384)
    """

    def __init__(self, options: EmbeddingOptions) -> None:
        self.options = options
        self.vector_size = options.vector_size
        self._models = [_load_model(options, device) for device in _devices(options)]
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
            list(texts), add_special_tokens=not _is_static(self.options.model)
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


def _devices(options: EmbeddingOptions) -> Sequence[int | None]:
    return options.device_ids or (None,)


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
            threads=None if _is_static(options.model) else options.threads,
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


def _is_static(model: str) -> bool:
    """Whether a model is a table of vectors, which fastembed adds up without onnxruntime."""
    return not str(_describe(model)["model_file"]).endswith(".onnx")


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
