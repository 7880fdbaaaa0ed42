"""A code location whose assets are copies, for runs whose steps are processes of their own."""

from typing import Any

import dagster as dg
import dlt

from dagster_qdrant import QdrantResource, build_qdrant_assets, build_qdrant_checks, qdrant_adapter
from tests.forking import processes

_rows = [{"id": number, "title": f"title {number}"} for number in range(5)]
films = build_qdrant_assets(
    dlt_source=qdrant_adapter(dlt.resource(_rows, name="films"), embed="title"),
    dataset_name="copied",
)


@dg.asset
def source() -> None: ...


[_mapped] = dg.map_asset_specs(lambda spec: spec.replace_attributes(deps=["source"]), [films])
_key = dg.AssetKey(["copied", "films"])
_prefixed = _mapped.with_attributes(asset_key_replacements={_key: _key.with_prefix("live")})


def job(options: dict[str, Any]) -> dg.JobDefinition:
    defs = dg.Definitions(
        assets=[source, _prefixed],
        asset_checks=build_qdrant_checks([_prefixed]),
        jobs=[dg.define_asset_job("load_all")],
        executor=processes,
        resources={"qdrant": QdrantResource(**options)},
    )
    return defs.resolve_job_def("load_all")
