"""The same loads leave the same points in every Qdrant."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dlt
import numpy as np
import pytest

from dagster_qdrant import QdrantResource, qdrant_adapter
from tests.targets import Target, grpc, memory, path, rest

# Rows bring the ids that dlt would else draw by lot.
FILMS = [
    {"id": n, "title": f"film {n % 5}", "year": 2000 + n, "score": n / 7, "_dlt_id": f"row-{n}"}
    for n in range(12)
] + [{"id": 12, "title": None, "seen": True, "_dlt_id": "row-12"}]
CHANGED = [
    FILMS[0],
    FILMS[1] | {"title": "another film"},
    FILMS[2] | {"year": 1},
    {"id": 3, "_dlt_id": "row-3"},
    {"id": 20, "title": "a new film", "_dlt_id": "row-20"},
]
TAGGED = [
    {"id": n, "title": f"film {n}", "tags": ["a", "b"], "cast": [{"name": "x", "roles": [1, 2]}]}
    | {"_dlt_id": f"row-{n}"}
    for n in range(3)
]
RETAGGED = [
    TAGGED[0] | {"tags": ["b"], "cast": []},
    TAGGED[1] | {"cast": [{"name": "y", "roles": [3]}]},
]


def films(rows: list[dict[str, Any]], disposition: str, **hints: Any) -> Any:
    # dlt changes what it loads.
    copies = [dict(row) for row in rows]
    resource = dlt.resource(copies, name="films", write_disposition=disposition, **hints)
    return qdrant_adapter(resource, embed="title")


def plain(rows: list[dict[str, Any]]) -> Any:
    return dlt.resource([dict(row) for row in rows], name="films")


SCENARIOS: dict[str, list[Callable[[], Any]]] = {
    "append": [lambda: films(FILMS, "append"), lambda: films(CHANGED[-1:], "append")],
    "merge": [
        lambda: films(FILMS, "merge", primary_key="id"),
        lambda: films(CHANGED, "merge", primary_key="id"),
    ],
    "merge_by_two_columns": [
        lambda: films(FILMS[:12], "merge", primary_key=("id", "year")),
        lambda: films(CHANGED[:3], "merge", primary_key=("id", "year")),
    ],
    "replace": [lambda: films(FILMS, "replace"), lambda: films(CHANGED * 2, "replace")],
    "nested_merge": [
        lambda: films(TAGGED, "merge", primary_key="id"),
        lambda: films(RETAGGED, "merge", primary_key="id"),
    ],
    "nested_replace": [lambda: films(TAGGED, "replace"), lambda: films(RETAGGED, "replace")],
    "nested_as_json": [lambda: films(TAGGED, "append", max_table_nesting=0)],
    "without_vectors": [lambda: plain(FILMS), lambda: plain(CHANGED[-1:])],
}

Points = dict[tuple[str, str], tuple[dict[str, Any], dict[str, list[float]]]]


def points_of(qdrant_target: Target, dataset: str) -> Points:
    """All points by collection and id: their payloads and vectors."""
    found: Points = {}
    for collection in sorted(qdrant_target.collections()):
        if collection.startswith(dataset) and not collection.startswith(f"{dataset}__dlt"):
            for point in qdrant_target.points(collection, vectors=True):
                payload = {k: v for k, v in point.payload.items() if k != "_dlt_load_id"}
                found[collection, str(point.id)] = payload, dict(point.vector or {})
    return found


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_qdrant_holds_the_same_points(scenario, dataset, model, tmp_path: Path):
    by_kind: dict[str, Points] = {}
    for maker in (memory, path, rest, grpc):
        with maker(tmp_path) as qdrant_target:
            for resource in SCENARIOS[scenario]:
                pipeline = dlt.pipeline(
                    "films",
                    destination=QdrantResource(**qdrant_target.options, **model).destination(),
                    dataset_name=dataset,
                    pipelines_dir=str(tmp_path / qdrant_target.kind),
                )
                pipeline.run(resource())
            by_kind[qdrant_target.kind] = points_of(qdrant_target, dataset)
            qdrant_target.clean_up(dataset)  # REST and gRPC lead to the same server
    expected = by_kind.pop("memory")
    assert len(expected) >= 3
    for kind, points in by_kind.items():
        assert points.keys() == expected.keys(), kind
        for place, (payload, vectors) in points.items():
            expected_payload, expected_vectors = expected[place]
            assert payload == expected_payload, (kind, place)
            assert vectors.keys() == expected_vectors.keys(), (kind, place)
            for name, vector in vectors.items():
                np.testing.assert_allclose(vector, expected_vectors[name], atol=1e-5)
