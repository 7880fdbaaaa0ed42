"""What tests of the destination share."""

from collections.abc import Iterator
from typing import Any

import pytest

from dagster_qdrant import QdrantResource
from dagster_qdrant.destination.writing.load_counts import LoadCounts, load_reports
from tests.conftest import Load


@pytest.fixture
def client(resource: QdrantResource) -> Iterator[Any]:
    with resource.get_client() as client:
        yield client


def loaded(load: Load, *args: Any, **options: Any) -> LoadCounts:
    """Load a table `films`, and tell what was done with its rows."""
    pipeline = load(*args, **options)
    return load_reports.take(pipeline.last_trace.last_load_info.loads_ids[-1])["films"]


@pytest.fixture
def chunks(resource, dataset):
    """The chunks that are there, by the row's id, in order."""

    def chunks(table="docs__chunks"):
        with resource.get_client() as client:
            found, _ = client.scroll(f"{dataset}_{table}", limit=1000, with_vectors=True)
        by_row = {}
        for point in sorted(found, key=lambda point: point.payload["chunk_number"]):
            assert set(point.vector or {}) >= {"fast-all-minilm-l6-v2"}
            by_row.setdefault(point.payload["id"], []).append(point.payload)
        return by_row

    return chunks
