"""Which model embeds, and what is known of it before it is loaded."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from dagster_qdrant.embedding.prefixes import Prefixes, prefixes_of_makers
from dagster_qdrant.embedding.service_options import ServiceOptions
from dagster_qdrant.errors import EmbeddingError

DEFAULT_MODEL = "BAAI/bge-small-en"
VECTOR_NAME_PREFIX = "fast-"

_CUDA_PROVIDER = "CUDAExecutionProvider"

# What a model makes: a vector of a text, a vector of each of its tokens, a vector of the words that
# it may be found by, or a score of a question and a text.
Kind = Literal["dense", "late_interaction", "sparse", "reranker"]


@dataclass(frozen=True)
class EmbeddingOptions:
    """Which model embeds, and with how much of the machine.

    Args:
        model: Name of a text embedding model of fastembed, or the service's name for a model.
        query_prefix: What stands before what is searched for. Default: what the model's makers ask
            for. Empty: nothing.
        passage_prefix: What stands before the text of a row, likewise.
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
        parallelism: Batches embedded at once. 0: as many as fill the cores, one a GPU, or 8
            requests to a service.
        service: The service that embeds, in place of fastembed.
        kind: What the model makes: "dense", a vector of a text; "late_interaction", a vector of
            each of its tokens; "sparse", a vector of words; "reranker", a score of a question and
            a text.

    Raises:
        EmbeddingError: For values out of range or without effect.

    Example:
        >>> EmbeddingOptions(model="BAAI/bge-small-en").vector_name
        'fast-bge-small-en'
    """

    model: str = DEFAULT_MODEL
    query_prefix: str | None = None
    passage_prefix: str | None = None
    model_path: str | None = None
    cache_dir: str | None = None
    local_files_only: bool = False
    threads: int = 1
    providers: tuple[str, ...] | None = None
    cuda: bool | None = None
    device_ids: tuple[int, ...] | None = None
    batch_size: int | None = None
    parallelism: int = 0
    service: ServiceOptions | None = None
    kind: Kind = "dense"

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
        if self.service:
            self._refuse_local_options()
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

    def _refuse_local_options(self) -> None:
        of_fastembed = {
            "model_path": self.model_path,
            "cache_dir": self.cache_dir,
            "local_files_only": self.local_files_only,
            "threads": self.threads > 1,
            "providers": self.providers,
            "cuda": self.cuda is not None,
            "device_ids": self.device_ids,
        }
        if refused := [f"`{name}`" for name, value in of_fastembed.items() if value]:
            raise EmbeddingError(
                f"{' and '.join(refused)} cannot take effect together with `embedding_url`: the "
                "service has the model, not this machine. Remove one of them."
            )

    @property
    def vector_name(self) -> str:
        """Name of the vector in a collection; the one that qdrant-client's own mixin uses."""
        return f"{VECTOR_NAME_PREFIX}{self.model.rsplit('/', 1)[-1].lower()}"

    @property
    def prefixes(self) -> Prefixes:
        """What stands before texts: what is set, else what the model's makers ask for."""
        query, passage = prefixes_of_makers(self.model)
        return Prefixes(
            query if self.query_prefix is None else self.query_prefix,
            passage if self.passage_prefix is None else self.passage_prefix,
        )

    @property
    def without_prefixes(self) -> EmbeddingOptions:
        """What a model is loaded with; which prefixes its texts get makes no difference to it."""
        return replace(self, query_prefix=None, passage_prefix=None)

    @property
    def fingerprint(self) -> str:
        """What the vector of a row's text depends on, beside the text."""
        # The model alone where there is no prefix, as it was before there were any.
        passage = self.prefixes.passage
        return json.dumps([self.model, passage]) if passage else self.model

    @property
    def required_providers(self) -> tuple[str, ...]:
        """The execution providers that the model has to run on."""
        return self.providers or ((_CUDA_PROVIDER,) if self.cuda else ())

    @property
    def devices(self) -> tuple[int | None, ...]:
        """The GPUs, each with a model of its own; None: whatever onnxruntime takes."""
        return self.device_ids or (None,)

    @property
    def vector_size(self) -> int:
        """Number of dimensions of the vectors of fastembed's model, without loading it.

        Raises:
            EmbeddingError: If fastembed does not know the model.
        """
        return int(self.description["dim"])

    @property
    def description(self) -> dict[str, Any]:
        """What fastembed knows of its model.

        Raises:
            EmbeddingError: If fastembed does not know it.
        """
        return describe(self.model, self.kind)


def class_of(kind: Kind) -> Any:
    """The class of fastembed that runs the models of a kind."""
    if kind == "reranker":
        from fastembed.rerank.cross_encoder import TextCrossEncoder

        return TextCrossEncoder
    from fastembed import LateInteractionTextEmbedding, SparseTextEmbedding, TextEmbedding

    others = {"late_interaction": LateInteractionTextEmbedding, "sparse": SparseTextEmbedding}
    return others.get(kind, TextEmbedding)


# How users name a model of a kind, and what it is.
_ASKED_AS: dict[Kind, tuple[str, str]] = {
    "dense": ("model", "embedding model"),
    "late_interaction": ("model", "late-interaction model"),
    "sparse": ("model", "sparse model"),
    "reranker": ("rerank", "cross-encoder"),
}


@lru_cache(maxsize=64)
def describe(model: str, kind: Kind = "dense") -> dict[str, Any]:
    """What fastembed knows of a model."""
    known = class_of(kind)
    supported: dict[str, dict[str, Any]] = {
        str(entry["model"]): entry for entry in known.list_supported_models()
    }
    by_lower = {name.lower(): name for name in supported}
    if model.lower() in by_lower:
        return supported[by_lower[model.lower()]]
    close = difflib.get_close_matches(model.lower(), by_lower, n=3, cutoff=0.4)
    hint = f" Did you mean {' or '.join(by_lower[name] for name in close)}?" if close else ""
    argument, what = _ASKED_AS[kind]
    name = f"{known.__module__.split('.')[0]}.{known.__name__}"
    unknown = "which fastembed does not know" if kind == "dense" else f"no {what} of fastembed"
    raise EmbeddingError(
        f"`{argument}` is {model!r}, {unknown}.{hint} `{name}.list_supported_models()` lists the "
        f"names.{_how_to_add(known)}"
    )


def _how_to_add(known: Any) -> str:
    if not hasattr(known, "add_custom_model"):
        return ""
    return (
        " A model of your own is registered in each process, with "
        f"`{known.__name__}.add_custom_model`."
    )


def is_static(options: EmbeddingOptions) -> bool:
    """Whether a model is a table of vectors, which fastembed adds up without onnxruntime."""
    return not str(options.description["model_file"]).endswith(".onnx")


def models_for_vector(vector_name: str) -> list[str]:
    """The models whose vectors carry a name, several if they differ in their owner only."""
    from fastembed import TextEmbedding

    names = [str(entry["model"]) for entry in TextEmbedding.list_supported_models()]
    return [name for name in names if EmbeddingOptions(model=name).vector_name == vector_name]
