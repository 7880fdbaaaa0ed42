"""A code location whose assets are copies, for runs whose steps are processes of their own."""

import os

import dagster as dg
import dlt

from dagster_qdrant import QdrantResource, build_qdrant_assets, build_qdrant_checks, qdrant_adapter

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

defs = dg.Definitions(
    assets=[source, _prefixed],
    asset_checks=build_qdrant_checks([_prefixed]),
    jobs=[dg.define_asset_job("load_all")],
    executor=dg.multiprocess_executor,
    resources={
        "qdrant": QdrantResource(
            path=os.environ.get("TEST_QDRANT_PATH"),
            model=os.environ.get("TEST_MODEL"),
            model_path=os.environ.get("TEST_MODEL_PATH"),
        )
    },
)


def job() -> dg.JobDefinition:
    return defs.resolve_job_def("load_all")
