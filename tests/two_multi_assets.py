"""A code location that child processes can load: two multi-assets which share one local path."""

from typing import Any

import dagster as dg
import dlt

from dagster_qdrant import QdrantResource, build_qdrant_assets, qdrant_adapter
from tests.forking import processes


def resource(name: str) -> dlt.extract.DltResource:
    rows = [{"id": number, "title": f"{name} number {number}"} for number in range(20)]
    return qdrant_adapter(
        dlt.resource(rows, name=name, write_disposition="merge", primary_key="id"), embed="title"
    )


def job(options: dict[str, Any]) -> dg.JobDefinition:
    defs = dg.Definitions(
        assets=[
            build_qdrant_assets(dlt_source=resource(name), dataset_name="shared", name=name)
            for name in ("films", "books")
        ],
        jobs=[dg.define_asset_job("load_both")],
        resources={"qdrant": QdrantResource(**options)},
        executor=processes,
    )
    return defs.resolve_job_def("load_both")
