"""One process of a benchmark: load any number of rows, which are made as they are read."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.stand_in import replace_the_model

_PAGE = 1_000


def main() -> None:
    parser = argparse.ArgumentParser()
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--url")
    place.add_argument("--path")
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--vectors", type=int, default=0, help="their size, of a stand-in's")
    parser.add_argument("--disposition", choices=["merge", "replace"], default="merge")
    parser.add_argument("--nested", action="store_true", help="with two nested rows each")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--pipelines", required=True, help="folder for dlt's working files")
    given = parser.parse_args()

    import dlt

    from dagster_qdrant import qdrant_adapter
    from dagster_qdrant.destination import qdrant

    if given.vectors:
        replace_the_model(given.vectors)
    resource = dlt.resource(
        rows_of(given.rows, nested=given.nested),
        name="products",
        write_disposition=given.disposition,
        primary_key="id",
    )
    pipeline = dlt.pipeline(
        given.dataset,
        destination=qdrant(location=given.url, path=given.path),
        dataset_name=given.dataset,
        pipelines_dir=given.pipelines,
    )
    start = time.perf_counter()
    pipeline.run(qdrant_adapter(resource, embed="text") if given.vectors else resource)
    seconds = time.perf_counter() - start
    with pipeline.destination_client() as client:
        found = client.collections.count(f"{given.dataset}_products")  # type: ignore[attr-defined]
    if found != given.rows:
        raise RuntimeError(f"{found:,} of {given.rows:,} rows are in the collection.")
    print(json.dumps({"seconds": seconds}))


def rows_of(count: int, *, nested: bool = False) -> Iterator[list[dict[str, Any]]]:
    for first in range(0, count, _PAGE):
        rows: list[dict[str, Any]] = [
            {"id": number, "price": 1.5 + number % 700, "text": f"product {number}, one of many"}
            for number in range(first, min(first + _PAGE, count))
        ]
        for row in rows if nested else ():
            row["tags"] = [f"tag {row['id'] % 7}", "product"]
        yield rows


if __name__ == "__main__":
    main()
