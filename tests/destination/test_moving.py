"""Collections that qdrant-client copies to a server are loaded there as before."""

from pathlib import Path
from typing import Any

import dlt
import pytest

from dagster_qdrant import QdrantResource, qdrant_adapter
from dagster_qdrant.destination.writing.load_counts import load_reports
from tests.targets import Target, rest


@pytest.mark.parametrize("qdrant_kind", [rest], indirect=True)
def test_a_path_that_moved_to_a_server_goes_on_there(
    qdrant_target: Target, model: dict[str, Any], dataset: str, tmp_path: Path
):
    here = QdrantResource(path=str(tmp_path / "qdrant"), **model)
    there = QdrantResource(**qdrant_target.options, **model)

    def load(resource: QdrantResource, machine: str) -> Any:
        @dlt.resource(write_disposition="merge", primary_key="id")
        def films(since=dlt.sources.incremental("id", initial_value=0)):
            rows = [{"id": n, "title": f"film {n}", "tags": ["a", "b"]} for n in range(1, 4)]
            yield rows[: since.last_value + 2]

        pipeline = dlt.pipeline(
            "films",
            destination=resource.destination(),
            dataset_name=dataset,
            pipelines_dir=str(tmp_path / machine),
        )
        hints: Any = {"embed": "title", "keywords": True, "index": ["title"]}
        info = pipeline.run(qdrant_adapter(films, **hints))
        return load_reports.take(info.loads_ids[-1])["films"]

    assert load(here, "here").rows == 2
    with here.get_client() as source, there.get_client() as target:
        source.migrate(target)
    [hit] = there.search(dataset, "films", "film 2", limit=1)
    assert hit.payload["id"] == 2
    assert load(there, "there").embedded == 1  # it goes on after the rows that moved
    with there.get_client() as client:
        indexes = client.get_collection(f"{dataset}__dlt_pipeline_state").payload_schema
        assert {"created_at", "pipeline_name"} <= set(indexes)
        assert "title" in client.get_collection(f"{dataset}_films").payload_schema
    assert sorted(row["id"] for row in qdrant_target.rows(f"{dataset}_films")) == [1, 2, 3]
