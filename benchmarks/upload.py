"""One process of a benchmark: write points whose vectors are there already."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from benchmarks.texts import product_rows

BATCH_SIZE = 64
_SIZE = 384
_VECTOR = "fast-any"
_WINDOW = 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", choices=["ours", "client"], required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--collection", required=True)
    parser.add_argument("--points", type=int, required=True)
    given = parser.parse_args()

    import numpy as np
    from qdrant_client import QdrantClient, models

    rows = product_rows(given.points)
    vectors = np.random.default_rng(0).random((given.points, _SIZE), dtype=np.float32)
    client = QdrantClient(given.url, timeout=60)
    parameters = models.VectorParams(size=_SIZE, distance=models.Distance.COSINE)
    client.create_collection(given.collection, vectors_config={_VECTOR: parameters})
    seconds = (_ours if given.side == "ours" else _clients)(given, rows, vectors)
    count = client.count(given.collection, exact=True).count
    if count != given.points:
        raise SystemExit(f"The collection holds {count} of {given.points} points.")
    print(json.dumps({"seconds": seconds}))


def _ours(given: argparse.Namespace, rows: list[dict[str, Any]], vectors: Any) -> float:
    """As a load job does it: a window at a time, waited for and checked."""

    from dagster_qdrant.destination.tables.chunks import ChunkNames
    from dagster_qdrant.destination.tables.rows import Row
    from dagster_qdrant.destination.tables.table_plan import TablePlan
    from dagster_qdrant.destination.writing.point_writer import PointWriter, Window
    from dagster_qdrant.qdrant.connection import connect
    from dagster_qdrant.qdrant.connection_options import ConnectionOptions

    plan = TablePlan(
        table_name="products",
        collection=given.collection,
        target=given.collection,
        write_disposition="merge",
        partition=None,
        nested=False,
        key=("id",),
        key_types=("bigint",),
        embed=("text",),
        in_any_order=False,
        keywords=None,
        vectors={},
        index={},
        numbers=(),
        settings={},
        chunk=None,
        chunked=(),
        chunks=None,
        chunk_names=ChunkNames(),
        variants={},
        hard_delete=None,
        dedup_sort=None,
        dedup_type=None,
        row_id="_dlt_id",
        load_id="_dlt_load_id",
        root_id=None,
        parent=None,
        parent_id=None,
        links=frozenset(),
        is_linked=False,
        is_parent=False,
        dlt_indexes={},
    )
    windows = []
    for first in range(0, len(rows), _WINDOW):
        window = Window()
        for number in range(first, min(first + _WINDOW, len(rows))):
            row = Row(
                payload=rows[number],
                identity=number,
                point_id=_point_id(number),
                text=None,
                row_hash="",
                hashes={},
                size=500,
                keywords=None,
                texts={},
                vector={_VECTOR: vectors[number]},
            )
            window.rows[row.point_id] = row
            window.upsert.append(row)
        windows.append(window)
    with (
        connect(ConnectionOptions(location=given.url)) as connection,
        PointWriter(connection, plan, BATCH_SIZE, 1) as writer,
    ):
        start = time.perf_counter()
        for window in windows:
            writer.settle()
            writer.start(window)
        writer.finish()
        return time.perf_counter() - start


def _clients(given: argparse.Namespace, rows: list[dict[str, Any]], vectors: Any) -> float:
    """With the client's own method and its defaults: not waited for."""
    from qdrant_client import QdrantClient, models

    def points() -> Iterator[models.PointStruct]:
        for number, row in enumerate(rows):
            yield models.PointStruct(
                id=_point_id(number), vector={_VECTOR: vectors[number].tolist()}, payload=row
            )

    client = QdrantClient(given.url, timeout=60)
    start = time.perf_counter()
    client.upload_points(given.collection, points(), batch_size=BATCH_SIZE)
    return time.perf_counter() - start


def _point_id(number: int) -> str:
    return str(UUID(int=number + 1))


if __name__ == "__main__":
    main()
