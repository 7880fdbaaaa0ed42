"""A model's files: found, downloaded and opened, or what to do where that fails."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dagster_qdrant.embedding.options import EmbeddingOptions, class_of, is_static
from dagster_qdrant.embedding.providers import providers_of, refuse_without_providers
from dagster_qdrant.errors import EmbeddingError
from dagster_qdrant.freed_memory import give_back
from dagster_qdrant.stopping import pause

logger = logging.getLogger(__name__)

_TOKENIZER_FILE = "tokenizer.json"
# Seconds between tries of a hub that does not answer, and for how long it may take to answer.
_WAITS, _HUB_TIMEOUT = (1.0, 3.0), 10.0
_OFFLINE = frozenset({"1", "TRUE", "YES", "ON"})  # values of HF_HUB_OFFLINE, as the hub reads it


class ModelNotHereError(EmbeddingError):
    """The model's files have to be downloaded first."""


class DownloadError(EmbeddingError):
    """The model's files could not be downloaded."""


def open_model(options: EmbeddingOptions, device: int | None, *, ahead: bool) -> Any:
    """Load a model, from the folder that the options name, the cache or a model hub.

    Args:
        options: Which model, and from where.
        device: The GPU that it gets; None: whatever onnxruntime takes.
        ahead: Whether nobody waits for it yet; see `TextEmbedder`.

    Returns:
        What fastembed has for models of its kind.

    Raises:
        QdrantStoppedError: If told to stop while a hub does not answer.
        ModelNotHereError: If the files are not here yet, and nobody waits for them.
        DownloadError: If no hub gives them.
        EmbeddingError: If the model cannot be loaded, or gives vectors of another size than that
            which it is registered with.
    """
    from fastembed.common.types import Device
    from onnxruntime import get_available_providers  # type: ignore[import-untyped]

    is_here = _is_here(options)
    if ahead and (not is_here or not threading.main_thread().is_alive()):
        raise ModelNotHereError(f"The model {options.model!r} is not here.")
    refuse_without_providers(options, get_available_providers())
    downloads = not is_here and not _is_offline(options)
    if downloads:
        logger.warning(
            "The model %s is not in %s yet: it is downloaded now, %s. Later loads find it there.",
            options.model,
            _cache_folder(options),
            _size(options),
        )
        _refuse_without_hub(options)
    files: dict[str, Any] = {"local_files_only": options.local_files_only}
    if options.model_path:
        files = {"specific_model_path": options.model_path}
    with _said_by_fastembed() as said:
        try:
            model = class_of(options.kind)(
                model_name=options.model,
                cache_dir=_cache_folder(options),
                threads=None if is_static(options) else options.threads,
                providers=list(options.providers) if options.providers else None,
                cuda=Device.AUTO if options.cuda is None else options.cuda,
                device_ids=None if device is None else [device],
                **files,
            )
            size = _tried(model, options)
        except Exception as error:
            if downloads and not _is_here(options):
                reason = said[0] if said else str(error)
                raise DownloadError(_not_downloaded(options, reason)) from error
            raise EmbeddingError(_not_loaded(options, error)) from error
    if size is not None and size != options.vector_size:
        raise EmbeddingError(
            f"The model {options.model!r} makes vectors of size {size}, but it is "
            f"registered with size {options.vector_size}. If it is a model of your own, register "
            f"it with `dim={size}` (`TextEmbedding.add_custom_model`). Else "
            f"{_folder(options)} holds the files of another model; set `model` to that one."
        )
    # onnxruntime falls back to the CPU without an error.
    refuse_without_providers(options, providers_of(model))
    give_back()  # loading takes several times the model's size
    return model


def _tried(model: Any, options: EmbeddingOptions) -> int | None:
    """Use a model once: the size of its vectors, if it makes some."""
    text = "a text to try it with"
    if options.kind == "reranker":
        list(model.rerank(text, [text]))
        return None
    [vector] = model.embed([text])
    return None if options.kind == "sparse" else int(vector.shape[-1])


def _refuse_without_hub(options: EmbeddingOptions) -> None:
    """See that the hub answers. fastembed finds out as well, in 39 seconds that nothing ends."""
    from huggingface_hub import model_info

    sources = options.description["sources"]
    if sources["url"] or not sources["hf"]:
        return
    for wait in (*_WAITS, None):
        try:
            model_info(sources["hf"], timeout=_HUB_TIMEOUT)
            return
        except Exception as error:
            if wait is None:
                reason = " ".join(f"The model hub cannot be used: {error}".split())
                raise DownloadError(_not_downloaded(options, reason)) from None
        pause(wait)


def _is_here(options: EmbeddingOptions) -> bool:
    """Whether the files of a model are on this machine."""
    from huggingface_hub import try_to_load_from_cache

    if options.model_path:
        if not Path(options.model_path).is_dir():
            raise EmbeddingError(
                f"`model_path` is {options.model_path}, which is no folder. Name the folder that "
                "holds the model's ONNX file and its tokenizer.json."
            )
        return True
    hub_name, cache = options.description["sources"]["hf"], _cache_folder(options)
    if (Path(cache) / f"fast-{options.model.rsplit('/', 1)[-1]}").is_dir():
        return True  # from a URL, as fastembed used to keep them
    return bool(hub_name) and all(
        isinstance(try_to_load_from_cache(hub_name, name, cache_dir=cache), str)
        for name in _files(options)
    )


def tokenizer_folder(options: EmbeddingOptions) -> Path | None:
    """The folder on this machine that has a model's tokenizer; None if there is none."""
    from huggingface_hub import try_to_load_from_cache

    if not _is_here(options):
        return None
    cache = _cache_folder(options)
    folders = [Path(_folder(options)), Path(cache) / f"fast-{options.model.rsplit('/', 1)[-1]}"]
    hub_name = options.description["sources"]["hf"]
    if hub_name and not options.model_path:
        found = try_to_load_from_cache(hub_name, _TOKENIZER_FILE, cache_dir=cache)
        folders += [Path(found).parent] if isinstance(found, str) else []
    return next((folder for folder in folders if (folder / _TOKENIZER_FILE).exists()), None)


def _files(options: EmbeddingOptions) -> list[str]:
    known = options.description
    return [str(known["model_file"]), *known["additional_files"], _TOKENIZER_FILE]


def _is_offline(options: EmbeddingOptions) -> bool:
    return options.local_files_only or _hub_is_off()


def _hub_is_off() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").strip().upper() in _OFFLINE


def _cache_folder(options: EmbeddingOptions) -> str:
    """Where downloaded models are kept."""
    from platformdirs import user_cache_dir

    return (
        options.cache_dir or os.environ.get("FASTEMBED_CACHE_PATH") or user_cache_dir("fastembed")
    )


def _folder(options: EmbeddingOptions) -> str:
    return options.model_path or _cache_folder(options)


def _size(options: EmbeddingOptions) -> str:
    gigabytes = float(options.description["size_in_GB"] or 0)
    if not gigabytes:  # a model of the user's own
        return "which may take a while"
    return f"{gigabytes:.1f} GB" if gigabytes >= 1 else f"{gigabytes * 1000:.0f} MB"


@contextmanager
def _said_by_fastembed() -> Iterator[list[str]]:
    """What fastembed logs of failures; its errors do not say why no file could be had."""
    from loguru import logger as fastembed_log

    said: list[str] = []
    handler = fastembed_log.add(
        lambda line: said.append(line.record["message"]), level="ERROR", filter="fastembed"
    )
    try:
        yield said
    finally:
        fastembed_log.remove(handler)


def _not_downloaded(options: EmbeddingOptions, reason: str) -> str:
    reason = reason.removesuffix("Falling back to other sources.").strip()
    return (
        f"The model {options.model!r} could not be downloaded into {_cache_folder(options)}. "
        f"{reason.rstrip('.')}. Give this machine access to the model hub, name a folder with "
        "the model's files as `model_path`, or copy the cache folder from a machine that has it."
    )


def _not_loaded(options: EmbeddingOptions, error: Exception) -> str:
    message = f"The model {options.model!r} could not be loaded from {_folder(options)}: {error}"
    if options.model_path:
        there = Path(options.model_path)
        lacks = [name for name in _files(options) if not (there / name).exists()]
        if lacks:
            return (
                f"{message} The folder lacks {' and '.join(f'`{name}`' for name in lacks)}. "
                "`model_path` has to name a folder with all files of this model."
            )
        return f"{message} Does `model_path` name this model's folder, and are its files whole?"
    if _is_offline(options) and not _is_here(options):
        asked = "`local_files_only`" if options.local_files_only else "HF_HUB_OFFLINE"
        return (
            f"{message} It is not there, and {asked} forbids to download it. Remove {asked}, copy "
            "the cache folder from a machine that has the model, or name a folder with the model's "
            "files as `model_path`."
        )
    return f"{message} If its files are damaged, delete them there: they are downloaded again."
