"""One process of a benchmark: the model alone, or our engine without a load around it.

The floor is what no library can beat: `session.run` over texts tokenized beforehand, sorted by
their number of tokens, on all cores. `--way best` tries the ways on a part of the texts.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.load import MODEL
from benchmarks.texts import product_rows

WAYS = [f"{kind}-{size}" for kind in ("pool", "intra") for size in (8, 16, 32)]

_SAMPLE = 512
_WINDOW = 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--way", choices=["best", "engine", *WAYS], required=True)
    parser.add_argument("--model-path", required=True)
    given = parser.parse_args()
    texts = [str(row["text"]) for row in product_rows(given.rows)]
    if given.way == "engine":
        print(json.dumps({"seconds": _engine(texts, given.model_path)}))
    elif given.way == "best":
        sample = texts[:: max(1, len(texts) // _SAMPLE)]
        # Twice each, the better of both: the first one of all would pay for a cold processor.
        seconds = {
            way: min(_floor(sample, given.model_path, way) for _ in range(2)) for way in WAYS
        }
        print(json.dumps({"best": min(seconds, key=seconds.__getitem__), "tried": seconds}))
    else:
        print(json.dumps({"seconds": _floor(texts, given.model_path, given.way)}))


def _floor(texts: list[str], model_path: str, way: str) -> float:
    from dagster_qdrant.embedding.batching import available_cores

    kind, size = way.split("-")
    cores = available_cores()
    session = _session(model_path, threads=1 if kind == "pool" else cores)
    inputs = _inputs(texts, model_path, int(size), {node.name for node in session.get_inputs()})
    run: Callable[[Any], Any] = lambda batch: session.run(None, batch)  # noqa: E731
    run(inputs[-1])
    start = time.perf_counter()
    if kind == "pool":
        with ThreadPoolExecutor(cores) as pool:
            for _ in pool.map(run, inputs):
                pass
    else:
        for batch in inputs:
            run(batch)
    return time.perf_counter() - start


def _session(model_path: str, threads: int) -> Any:
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    return onnxruntime.InferenceSession(
        f"{model_path}/model.onnx", options, providers=["CPUExecutionProvider"]
    )


def _inputs(texts: list[str], model_path: str, size: int, names: set[str]) -> list[dict[str, Any]]:
    """The batches as the model takes them, the longest first."""
    from pathlib import Path

    import numpy as np
    from fastembed.common.preprocessor_utils import load_tokenizer

    tokenizer, _ = load_tokenizer(Path(model_path))
    tokenizer.no_padding()
    tokens = sorted((each.ids for each in tokenizer.encode_batch(texts)), key=len, reverse=True)
    batches = []
    for start in range(0, len(tokens), size):
        batch = tokens[start : start + size]
        ids = np.zeros((len(batch), len(batch[0])), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, text in enumerate(batch):
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1
        every = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        batches.append({name: array for name, array in every.items() if name in names})
    return batches


def _engine(texts: list[str], model_path: str) -> float:
    from dagster_qdrant.embedding.embedder import load_embedder
    from dagster_qdrant.embedding.options import EmbeddingOptions

    embedder = load_embedder(EmbeddingOptions(model=MODEL, model_path=model_path))
    embedder.embed(texts[:1])
    start = time.perf_counter()
    for first in range(0, len(texts), _WINDOW):
        embedder.embed(texts[first : first + _WINDOW])
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
