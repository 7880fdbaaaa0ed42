"""What Dagster loads: `dagster dev -m example_project.definitions`."""

from dagster import Definitions

from example_project.automation import (
    conditions_sensor,
    failures_sensor,
    inbox_sensor,
    jobs,
    python_docs_schedule,
)
from example_project.movies import movie_assets
from example_project.notes import notes_assets
from example_project.python_docs import python_docs_assets
from example_project.search import answers
from example_project.settings import qdrant_resource
from example_project.shop import shop_assets

defs = Definitions(
    assets=[movie_assets, shop_assets, notes_assets, python_docs_assets, answers],
    jobs=jobs,
    schedules=[python_docs_schedule],
    sensors=[inbox_sensor, conditions_sensor, failures_sensor],
    resources={"qdrant": qdrant_resource()},
)
