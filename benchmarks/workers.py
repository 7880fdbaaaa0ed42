"""One process of a benchmark: load rows with some workers, each a process of its own.

The stand-in for a model waits as long as one would compute, and needs no processor for it: so it
shows what workers cost and gain on a machine that has not as many processors as there are workers.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
import time

import dagster as dg
import dlt

from benchmarks.size import rows_of
from benchmarks.stand_in import replace_the_model
from dagster_qdrant import QdrantResource, build_qdrant_assets, qdrant_adapter

_GIVEN = "BENCHMARK_WORKERS"
_VECTOR_SIZE = 8


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--milliseconds", type=float, required=True, help="waited for a text")
    given = parser.parse_args()

    os.environ[_GIVEN] = json.dumps(vars(given))  # for the processes of the steps
    job = dg.build_reconstructable_job("benchmarks.workers", "job_of")
    with (
        tempfile.TemporaryDirectory() as folder,
        dg.DagsterInstance.local_temp(folder) as instance,
    ):
        start = time.perf_counter()
        result = dg.execute_job(job, instance, raise_on_error=True)
        whole = time.perf_counter() - start
        [event] = result.get_asset_materialization_events()
        shown = event.materialization.metadata
        steps = instance.get_run_step_stats(result.run_id)
        log = " ".join(entry.user_message for entry in instance.all_logs(result.run_id))
    parts = [step for step in steps if ".load_" in step.step_key]
    if parts:  # from the start of the first to the end of the last
        ends = max(step.end_time or 0.0 for step in parts)
        seconds = ends - min(step.start_time or ends for step in parts)
    else:
        [loaded], [extracted] = _seconds("Loaded", log), _seconds("Extracted", log)
        seconds = loaded - extracted
    if shown["rows_embedded"].value != given.rows:
        raise RuntimeError(f"{shown['rows_embedded'].value} rows were embedded.")
    print(json.dumps({"seconds": seconds, "run": whole}))


def _seconds(done: str, log: str) -> list[float]:
    return [float(seconds) for seconds in re.findall(rf"{done} in ([\d.]+) s", log)]


def job_of() -> dg.JobDefinition:
    given = json.loads(os.environ[_GIVEN])
    replace_the_model(_VECTOR_SIZE, seconds=given["milliseconds"] / 1000)
    resource = dlt.resource(
        rows_of(given["rows"]), name="products", write_disposition="merge", primary_key="id"
    )
    assets = build_qdrant_assets(
        dlt_source=qdrant_adapter(resource, embed="text"),
        dataset_name=given["dataset"],
        workers=given["workers"],
    )
    executor = dg.multiprocess_executor.configured({"max_concurrent": given["workers"]})
    return dg.Definitions(
        assets=[assets],
        resources={
            "qdrant": QdrantResource(location=given["url"], preview=False, vector_map=False)
        },
        jobs=[dg.define_asset_job("load", executor_def=executor)],
    ).resolve_job_def("load")


if __name__ == "__main__":
    main()
