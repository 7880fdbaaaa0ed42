"""One process of a benchmark: load products with one of the two destinations.

It runs in either environment, so each side imports what it needs where it needs it.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from importlib import import_module
from typing import Any

from benchmarks.texts import product_rows

MODEL = "sentence-transformers/all-MiniLM-L6-v2"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", choices=["ours", "dlts"], required=True)
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--url")
    place.add_argument("--path")
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--tables", type=int, default=1, help="all with these rows")
    parser.add_argument("--changed", type=int, default=0, help="percent of the texts")
    parser.add_argument("--batch-size", type=int, help="embedding_batch_size")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--pipelines", required=True, help="folder for dlt's working files")
    parser.add_argument("--model-path", required=True)
    given = parser.parse_args()

    import dlt

    rows = product_rows(given.rows, given.changed)
    destination, adapter = _ours(given) if given.library == "ours" else _dlts(given)
    pipeline = dlt.pipeline(
        f"{given.dataset}_{given.library}",
        destination=destination,
        dataset_name=given.dataset,
        pipelines_dir=given.pipelines,
    )
    tables = [
        adapter(
            dlt.resource(rows, name=name, write_disposition="merge", primary_key="id"), embed="text"
        )
        for name in ["products", *(f"products_{number}" for number in range(1, given.tables))]
    ]
    start = time.perf_counter()
    pipeline.run(tables)
    print(json.dumps({"seconds": time.perf_counter() - start}))


def _options(given: argparse.Namespace) -> dict[str, Any]:
    options: dict[str, Any] = {"model": MODEL}
    if given.batch_size:
        options["embedding_batch_size"] = given.batch_size
    return options


def _ours(given: argparse.Namespace) -> tuple[Any, Any]:
    from dagster_qdrant import qdrant_adapter
    from dagster_qdrant.destination import qdrant

    return qdrant(
        location=given.url, path=given.path, model_path=given.model_path, **_options(given)
    ), qdrant_adapter


def _dlts(given: argparse.Namespace) -> tuple[Any, Any]:
    from dlt.destinations import qdrant  # type: ignore[attr-defined,unused-ignore]
    from dlt.destinations.adapters import qdrant_adapter

    # It has no option for a folder with the model's files. Nothing else is changed.
    embedder: Any = import_module("qdrant_client.embed.embedder")
    embedder.TextEmbedding = functools.partial(
        embedder.TextEmbedding, specific_model_path=given.model_path
    )
    return qdrant(qd_location=given.url, qd_path=given.path, **_options(given)), qdrant_adapter


# fastembed's worker processes import this file again.
if __name__ == "__main__":
    main()
