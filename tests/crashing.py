"""A load in a process of its own that is killed at one of its requests to Qdrant."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import dagster as dg
import dlt

from dagster_qdrant import QdrantResource, qdrant_adapter, qdrant_assets
from dagster_qdrant.qdrant.connection import Connection

FORMER = [{"id": n, "title": f"film {n}", "tags": ["old", f"tag {n}"]} for n in range(8)]
# Some rows as they were, some with another text or other nested rows, some new, some gone, one that
# comes twice, and one that a merge deletes.
LATTER = [
    *FORMER[:2],
    *({**row, "title": f"{row['title']} again", "tags": ["new"]} for row in FORMER[2:5]),
    *({"id": n, "title": f"film {n}", "tags": []} for n in range(8, 11)),
    {**FORMER[3], "title": "film 3 once more", "tags": ["newest"]},
    {**FORMER[6], "gone": True},
]


@dlt.source(name="cinema")
def cinema(disposition: str, rows: list[dict[str, Any]], events: int) -> Any:
    """A table of some disposition with nested rows, and one that appends what is new in it."""
    disposition = "replace" if disposition == "swap" else disposition

    columns: Any = {"gone": {"hard_delete": True, "data_type": "bool"}}

    @dlt.resource(name="films", write_disposition=disposition, primary_key="id", columns=columns)
    def films() -> Iterator[Any]:
        yield from rows

    @dlt.resource(name="events", write_disposition="append")
    def new_events(since: Any = dlt.sources.incremental("id", initial_value=-1)) -> Iterator[Any]:
        yield [{"id": n, "what": f"event {n}"} for n in range(events)]

    return qdrant_adapter(films, embed="title"), qdrant_adapter(new_events, embed="what")


@dataclass(frozen=True)
class Machine:
    """Where a load runs, and how.

    Args:
        options: Of the `QdrantResource`, with those of the strategy.
        dataset: The dataset.
        pipelines: dlt's working folder; None: a run of Dagster's, which has one of its own.
    """

    options: dict[str, Any]
    dataset: str
    pipelines: str | None

    def load(self, source: Any) -> None:
        """Load once."""
        resource = QdrantResource(**self.options, abandoned_after=0.5)
        if self.pipelines:
            pipeline = dlt.pipeline(
                "cinema",
                pipelines_dir=self.pipelines,
                destination=resource.destination(),
                dataset_name=self.dataset,
            )
            pipeline.run(source)
            return

        @qdrant_assets(dlt_source=source, dataset_name=self.dataset, pipeline_name="cinema")
        def assets(context: dg.AssetExecutionContext, qdrant: QdrantResource):
            yield from qdrant.run(context)

        dg.materialize([assets], resources={"qdrant": resource})


def load_and_die(machine: Machine, disposition: str, request: int, answered: bool) -> None:
    """Load what is new, and be killed before or after a request. Runs in a child process."""
    requests = 0
    original = Connection.request

    def deadly(self: Any, operation: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal requests
        requests += 1
        dies = requests == request
        if dies and not answered:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(self, operation, *args, **kwargs)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    Connection.request = deadly  # type: ignore[method-assign]
    machine.load(cinema(disposition, LATTER, 9))
