"""A code location whose assets are loaded by several workers, some of which break on their way."""

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import dlt

from dagster_qdrant import QdrantResource, build_qdrant_assets, qdrant_adapter
from dagster_qdrant.destination.writing.table_loader import TableLoader
from dagster_qdrant.runs import shared_dlt_load, worker_steps
from tests.forking import processes


@dataclass(frozen=True)
class Work:
    """What is loaded, and how.

    Args:
        options: Of the `QdrantResource`.
        dataset: The dataset.
        folder: Where steps say what they did, and Dagster keeps what it has to.
        executor: "in_process", "multiprocess" or "dask".
        rows: How many rows there are.
        workers: How many load them.
        broken: The part that fails once in the middle of its rows; None: none does.
        kills: Whether its process is killed, and does not raise an error.
        retries: How often a step is retried.
    """

    options: dict[str, Any]
    dataset: str
    folder: str
    executor: str = "in_process"
    rows: int = 30
    workers: int = 3
    broken: int | None = None
    kills: bool = False
    retries: int = 0

    def said(self, what: str) -> list[str]:
        """What steps said, in one word each."""
        path = Path(self.folder) / what
        return path.read_text().split() if path.exists() else []

    def say(self, what: str, word: str) -> None:
        with (Path(self.folder) / what).open("a") as file:
            file.write(f"{word}\n")

    def run(self, **options: Any) -> Any:
        """Run the job, whose steps load this module if they are processes of their own."""
        (Path(self.folder) / "work.json").write_text(json.dumps(self.__dict__))
        job = dg.build_reconstructable_job(
            "tests.working", "job_of", reconstructable_args=(self.folder,)
        )
        try:
            with self.instance() as instance:
                return dg.execute_job(job, instance, **options)
        finally:  # what was broken for the job is in this process too
            worker_steps.load_part = _load_part
            TableLoader.load = _load  # type: ignore[method-assign]
            shared_dlt_load.LEAST_ROWS = _LEAST_ROWS

    def instance(self) -> dg.DagsterInstance:
        folder = Path(self.folder) / "dagster"
        folder.mkdir(exist_ok=True)
        return dg.DagsterInstance.local_temp(str(folder))

    def retry(self, failed: Any) -> Any:
        """Run again what failed, and what did not run for it."""
        with self.instance() as instance:
            options = dg.ReexecutionOptions.from_failure(failed.run_id, instance)
        return self.run(reexecution_options=options)


def job_of(folder: str) -> dg.JobDefinition:
    work = Work(**json.loads((Path(folder) / "work.json").read_text()))
    shared_dlt_load.LEAST_ROWS = 1
    break_part(work)

    @dlt.resource(name="films", write_disposition="append")
    def films() -> Iterator[Any]:
        work.say("read", "once")
        yield [{"id": number, "title": f"film {number}"} for number in range(work.rows)]

    assets = build_qdrant_assets(
        dlt_source=qdrant_adapter(films, embed="title"),
        dataset_name=work.dataset,
        name="films",
        workers=work.workers,
        checks=True,
        retry_policy=dg.RetryPolicy(max_retries=work.retries) if work.retries else None,
    )
    return dg.Definitions(
        assets=[assets],
        resources={"qdrant": QdrantResource(**work.options)},
        jobs=[dg.define_asset_job("load", executor_def=executor(work))],
    ).resolve_job_def("load")


def executor(work: Work) -> Any:
    if work.executor == "dask":
        from dagster_dask import dask_executor

        return dask_executor.configured({"cluster": {"local": {"n_workers": 2}}})
    executors = {"in_process": dg.in_process_executor, "multiprocess": processes}
    return executors[work.executor]


_load_part, _load = worker_steps.load_part, TableLoader.load
_LEAST_ROWS = shared_dlt_load.LEAST_ROWS


def break_part(work: Work) -> None:
    """Have a part fail once, after some of its rows."""

    def load_part(resource: Any, package: Any, owner: str) -> Any:
        work.say("begun", str(package.part[0]))
        breaks = package.part[0] == work.broken and not work.said("broke")

        def load(self: TableLoader, windows: Any, report: Any) -> None:
            if not breaks:
                _load(self, windows, report)
                return
            work.say("broke", "once")
            _load(self, [next(iter(windows))[:2]], report)
            if work.kills:
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("the worker broke")

        TableLoader.load = load  # type: ignore[method-assign]
        return _load_part(resource, package, owner)

    worker_steps.load_part = load_part
