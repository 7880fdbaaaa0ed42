"""One process of a benchmark: load a retrieval collection, search it, say how well and how fast."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.beir import Beir, ndcg, recall
from benchmarks.load import MODEL

# What is asked of `qdrant_adapter`, and how is searched, by the name of the way.
WAYS: dict[str, tuple[dict[str, Any], str]] = {
    "dense": ({"embed": ["title", "text"]}, "dense"),
    "keywords": ({"keywords": {"columns": ["title", "text"]}}, "keywords"),
    "hybrid": ({"embed": ["title", "text"], "keywords": True}, "hybrid"),
    "dense_in_chunks": ({"embed": ["title", "text"], "chunk": True}, "dense"),
    "hybrid_in_chunks": ({"embed": ["title", "text"], "keywords": True, "chunk": True}, "hybrid"),
}
_DEPTH = 100


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True, help="in BEIR's format")
    parser.add_argument("--way", choices=WAYS, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--pipelines", required=True, help="folder for dlt's working files")
    parser.add_argument("--model-path", required=True)
    given = parser.parse_args()

    import dlt

    from dagster_qdrant import qdrant_adapter
    from dagster_qdrant.destination import qdrant
    from dagster_qdrant.search import QdrantSearch

    said, mode = WAYS[given.way]
    data = Beir(given.folder)
    documents = dlt.resource(
        data.documents(), name="documents", write_disposition="merge", primary_key="id"
    )
    store = qdrant(location=given.url, model=MODEL, model_path=given.model_path)
    pipeline = dlt.pipeline(
        "retrieval",
        destination=store,
        dataset_name=given.way,
        pipelines_dir=given.pipelines,
    )
    start = time.perf_counter()
    pipeline.run(qdrant_adapter(documents, **said))
    loaded = time.perf_counter() - start

    queries = data.queries()
    searching = QdrantSearch(store)
    with pipeline.destination_client() as client:
        start = time.perf_counter()
        hits = searching.search(
            given.way, "documents", list(queries.values()), limit=_DEPTH, mode=mode
        )
        searched = time.perf_counter() - start
        rows = client.collections.count(f"{given.way}_documents")  # type: ignore[attr-defined]
    found = {
        query: [hit.payload["id"] for hit in of_query]
        for query, of_query in zip(queries, hits, strict=True)
    }
    judgements = data.judgements()
    print(
        json.dumps(
            {
                "rows_per_second": rows / loaded,
                "queries_per_second": len(queries) / searched,
                "ndcg@10": ndcg(judgements, found),
                "recall@100": recall(judgements, found),
            }
        )
    )


if __name__ == "__main__":
    main()
