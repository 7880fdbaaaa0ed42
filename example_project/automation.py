"""When things run, and who is told of it when they fail.

A job for each dataset, a schedule, a sensor that watches a folder, one that watches for failures,
and one that acts on the assets' automation conditions (in `shop.py` and `search.py`).
"""

import json
from collections.abc import Iterator

from dagster import (
    AssetSelection,
    AutomationConditionSensorDefinition,
    DagsterEvent,
    DefaultSensorStatus,
    RunConfig,
    RunFailureSensorContext,
    RunRequest,
    ScheduleDefinition,
    SensorEvaluationContext,
    SkipReason,
    define_asset_job,
    run_failure_sensor,
    sensor,
)

from example_project.movies import movie_assets
from example_project.notes import INBOX, NotesConfig, inbox_files, notes_assets
from example_project.python_docs import python_docs_assets
from example_project.search import answers
from example_project.settings import data_dir
from example_project.shop import shop_assets

FAILURES = data_dir() / "failures.log"

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


# Without it, the one that Dagster makes has to be turned on by hand.
conditions_sensor = AutomationConditionSensorDefinition(
    "conditions_sensor", target=AssetSelection.all(), default_status=DefaultSensorStatus.RUNNING
)


@run_failure_sensor(minimum_interval_seconds=10, default_status=DefaultSensorStatus.RUNNING)
def failures_sensor(context: RunFailureSensorContext) -> None:
    """Note why a run failed. A project of yours would send this line to somebody."""
    reasons = [_reason(event) for event in context.get_step_failure_events()]
    with FAILURES.open("a", encoding="utf-8") as file:
        for reason in reasons or [context.failure_event.message or "unknown"]:
            file.write(f"{context.dagster_run.run_id}: {reason.splitlines()[0]}\n")


def _reason(event: DagsterEvent) -> str:
    """What happened and what to do, which is what a load that fails says first."""
    data = event.step_failure_data
    if data.user_failure_data and data.user_failure_data.description:
        return data.user_failure_data.description
    # Around any other error Dagster puts one of its own, which only names the step.
    error = data.error and (data.error.cause or data.error)
    return error.message if error else event.message or "unknown"
