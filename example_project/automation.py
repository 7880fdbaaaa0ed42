"""When things run: a job for each dataset, a schedule, and a sensor that watches a folder."""

import json
from collections.abc import Iterator

from dagster import (
    AssetSelection,
    DefaultSensorStatus,
    RunConfig,
    RunRequest,
    ScheduleDefinition,
    SensorEvaluationContext,
    SkipReason,
    define_asset_job,
    sensor,
)

from example_project.movies import movie_assets
from example_project.notes import INBOX, NotesConfig, inbox_files, notes_assets
from example_project.python_docs import python_docs_assets
from example_project.search import answers
from example_project.shop import shop_assets

movies_job = define_asset_job("movies_job", AssetSelection.assets(movie_assets))
shop_job = define_asset_job("shop_job", AssetSelection.assets(shop_assets))
notes_job = define_asset_job("notes_job", AssetSelection.assets(notes_assets))
python_docs_job = define_asset_job("python_docs_job", AssetSelection.assets(python_docs_assets))
answers_job = define_asset_job("answers_job", AssetSelection.assets(answers))

jobs = [movies_job, shop_job, notes_job, python_docs_job, answers_job]

python_docs_schedule = ScheduleDefinition(
    name="python_docs_daily", job=python_docs_job, cron_schedule="0 6 * * *"
)


@sensor(job=notes_job, minimum_interval_seconds=10, default_status=DefaultSensorStatus.RUNNING)
def inbox_sensor(context: SensorEvaluationContext) -> Iterator[RunRequest | SkipReason]:
    """Load each file that arrived in the inbox, or that changed there."""
    # The cursor holds the time of each file: a file may arrive with an old time.
    seen = json.loads(context.cursor or "{}")
    times = {path.name: path.stat().st_mtime_ns for path in inbox_files()}
    arrived = [name for name, time in times.items() if seen.get(name) != time]
    for name in arrived:
        yield RunRequest(
            run_key=f"{name}@{times[name]}",
            run_config=RunConfig({notes_assets.op.name: NotesConfig(file=name)}),
            tags={"inbox/file": name},
        )
    if not arrived:
        yield SkipReason(f"Nothing new in {INBOX}.")
    context.update_cursor(json.dumps(times))
