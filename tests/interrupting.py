"""Loads in processes of their own that are told to stop somewhere on their way."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import dlt

from dagster_qdrant import QdrantResource, qdrant_adapter, qdrant_assets

FOR_EVER = 60.0  # seconds, as tests see it


@dataclass(frozen=True)
class Work:
    """What is loaded, and where.

    Args:
        options: Of the `QdrantResource`.
        dataset: The dataset.
        folder: Where the process says how far it is.
        source: Which of the sources here.
        disposition: The write disposition.
    """

    options: dict[str, Any]
    dataset: str
    folder: str
    source: str = "long"
    disposition: str = "append"

    @property
    def resource(self) -> QdrantResource:
        return QdrantResource(**self.options)

    @property
    def begun(self) -> Path:
        """This file is there when the source is being read."""
        return Path(self.folder) / "begun"

    def films(self) -> Any:
        films = dlt.resource(
            getattr(self, self.source)(),
            name="films",
            write_disposition=self.disposition,
            primary_key="id" if self.disposition == "merge" else None,
            parallelized=self.source == "threaded",
        )
        return qdrant_adapter(films, embed="title")

    def short(self) -> Iterator[Any]:
        self.begun.touch()
        yield [{"id": n, "title": f"film {n}", "note": f"note {n}"} for n in range(20)]

    def fewer(self) -> Iterator[Any]:
        self.begun.touch()
        yield [{"id": n, "title": f"film {n}", "note": f"note {n}"} for n in range(5)]

    def long(self) -> Iterator[Any]:
        """More texts than can be embedded in the time of a test."""
        self.begun.touch()
        yield [{"id": n, "title": f"film {n} " * 30} for n in range(20_000)]

    def many(self) -> Iterator[Any]:
        """More rows than can be normalized in the time of a test."""
        page = [{"id": n, "title": "film", "tags": [str(n)] * 20} for n in range(5_000)]
        self.begun.touch()
        for _ in range(3):
            yield page

    def slow(self) -> Iterator[Any]:
        """A source that waits for its next page."""
        yield {"id": 1, "title": "film"}
        self.begun.touch()
        time.sleep(FOR_EVER)
        yield {"id": 2, "title": "film"}

    def stubborn(self) -> Iterator[Any]:
        """A source that goes on whatever happens to a page."""
        for number in range(600):
            with suppress(BaseException):
                self.begun.touch()
                time.sleep(0.1)
            yield {"id": number, "title": "film"}

    def threaded(self) -> Iterator[Any]:
        yield {"id": 1, "title": "film"}
        self.begun.touch()
        for _ in range(20):
            time.sleep(0.1)
        yield {"id": 2, "title": "film"}


def script(work: Work) -> None:
    """Load with a plain dlt pipeline."""
    pipeline = dlt.pipeline(
        "cinema",
        pipelines_dir=str(Path(work.folder) / "pipelines"),
        destination=work.resource.destination(),
        dataset_name=work.dataset,
    )
    pipeline.run(work.films())


def definition(work: Work) -> dg.AssetsDefinition:
    @qdrant_assets(
        dlt_source=work.films(),
        dataset_name=work.dataset,
        pipeline_name="cinema",
        retry_policy=dg.RetryPolicy(max_retries=3),
    )
    def films(context: dg.AssetExecutionContext, qdrant: QdrantResource):
        yield from qdrant.run(context)

    return films


def instance(work: Work) -> dg.DagsterInstance:
    folder = Path(work.folder) / "dagster"
    folder.mkdir(exist_ok=True)
    return dg.DagsterInstance.local_temp(str(folder))


def run(work: Work) -> None:
    """Load with a run of Dagster's in this process."""
    with instance(work) as there:
        dg.materialize(
            [definition(work)],
            resources={"qdrant": work.resource},
            instance=there,
            raise_on_error=False,
        )


def job_of(folder: str) -> dg.JobDefinition:
    work = Work(**json.loads((Path(folder) / "work.json").read_text()))
    definitions = dg.Definitions(
        assets=[definition(work)],
        resources={"qdrant": work.resource},
        jobs=[dg.define_asset_job("load", dg.AssetSelection.all())],
    )
    return definitions.resolve_job_def("load")


def run_in_processes(work: Work) -> None:
    """The same with a process for each step."""
    (Path(work.folder) / "work.json").write_text(json.dumps(work.__dict__))
    job = dg.build_reconstructable_job(
        "tests.interrupting", "job_of", reconstructable_args=(work.folder,)
    )
    with instance(work) as there:
        dg.execute_job(job, there, raise_on_error=False)
