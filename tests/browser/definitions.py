"""A code location beside the example: a load that fails, a longer one, one for each minute."""

from collections.abc import Iterator
from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetSelection,
    Definitions,
    ScheduleDefinition,
    define_asset_job,
)

from dagster_qdrant import QdrantResource, build_qdrant_assets, qdrant_adapter, qdrant_assets
from dagster_qdrant.destination.writing import progress
from example_project.automation import failures_sensor
from example_project.model import MODEL_NAME, model_folder
from example_project.settings import data_dir

# Progress is said every few seconds of a load; these loads take few seconds.
progress._INTERVAL = 0.2

TEXTS = [{"id": number, "text": f"Note {number}, as short as can be."} for number in range(300)]


def notes(name: str, rows: list[dict[str, Any]]) -> Any:
    return qdrant_adapter(rows, embed="text").with_name(name)


@qdrant_assets(dlt_source=notes("lost", TEXTS[:1]), dataset_name="probe", name="lost")
def lost(context: AssetExecutionContext, nowhere: QdrantResource) -> Iterator[Any]:
    """A load into a server that is not there."""
    yield from nowhere.run(context)


many = build_qdrant_assets(dlt_source=notes("many", TEXTS), dataset_name="probe", name="many")
minutely = build_qdrant_assets(
    dlt_source=notes("minutely", TEXTS[:1]), dataset_name="probe", name="minutely"
)
model = {"model": MODEL_NAME, "model_path": str(model_folder(data_dir()))}

defs = Definitions(
    assets=[lost, many, minutely],
    schedules=[
        ScheduleDefinition(
            name="each_minute",
            job=define_asset_job("minutely_job", AssetSelection.assets(minutely)),
            cron_schedule="* * * * *",
        )
    ],
    sensors=[failures_sensor],
    resources={
        "qdrant": QdrantResource(path=str(data_dir() / "probe"), **model),
        "nowhere": QdrantResource(location="http://127.0.0.1:9", upload_max_retries=0, **model),
    },
)
