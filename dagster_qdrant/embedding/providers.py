"""What a model runs on: the execution providers of onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dagster_qdrant.embedding.options import EmbeddingOptions
from dagster_qdrant.errors import EmbeddingError

if TYPE_CHECKING:
    from fastembed import TextEmbedding

_CPU_PROVIDER = "CPUExecutionProvider"
GPU_PROVIDERS = frozenset(
    f"{name}ExecutionProvider"
    for name in ("CUDA", "Tensorrt", "NvTensorRTRTX", "ROCM", "MIGraphX", "Dml", "WebGPU")
)


def providers_of(model: TextEmbedding) -> Sequence[str]:
    """What a loaded model runs on."""
    session = getattr(model.model, "model", None)  # a static model has none
    return session.get_providers() if session else [_CPU_PROVIDER]


def refuse_without_providers(options: EmbeddingOptions, there: Sequence[str]) -> None:
    """A model runs on what the options ask for, or not at all.

    Raises:
        EmbeddingError: If onnxruntime lacks a provider, or fell back to another one.
    """
    missing = [name for name in options.required_providers if name not in there]
    if missing:
        asked = "cuda" if options.cuda else "providers"
        raise EmbeddingError(
            f"`{asked}` asks for {' and '.join(missing)}, but the model {options.model!r} can use "
            f"{' and '.join(there)} only. An Nvidia GPU needs the package `onnxruntime-gpu` in "
            "place of `onnxruntime`, with the versions of CUDA and cuDNN that it was built for "
            f"(static models never use one). Install what is missing, or remove `{asked}`."
        )
