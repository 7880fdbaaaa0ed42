"""A load that is killed outright, at any moment, and the next one, which makes up for it."""

import functools
import multiprocessing
import os
import signal
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from dagster_qdrant.destination.loads.load_record import LoadStatus
from tests import targets
from tests.crashing import FORMER, LATTER, Machine, cinema, load_and_die
from tests.forking import PRELOADED
from tests.targets import Target

# How many crashes to try on each kind of Qdrant.
CRASHES = int(os.environ.get("CRASHES", "8"))

# More than the requests of a load into all three tables.
LAST_REQUEST = 90


@pytest.fixture(scope="module", params=["path", "rest"])
def target(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Target]:
    with getattr(targets, request.param)(tmp_path_factory.mktemp("target")) as target:
        yield target


@pytest.fixture(scope="module")
def child() -> Any:
    """Makes processes that have all modules imported when they start."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context.Process


def is_complete(target: Target, dataset: str) -> bool:
    """Whether both loads are; one that was killed right after that is not run again."""
    statuses = [row["status"] for row in target.rows(f"{dataset}__dlt_loads")]
    return statuses.count(LoadStatus.COMPLETE) == 2


def content(target: Target, dataset: str) -> dict[str, list[str]]:
    """What readers see of the tables, without what is new in each load by its nature."""
    return {
        table: sorted(str(sorted(row.items())) for row in target.rows(f"{dataset}_{table}"))
        for table in ("films", "films__tags", "events")
    }


def options(target: Target, model: dict[str, Any], disposition: str) -> dict[str, Any]:
    strategy = {"replace_strategy": "swap"} if disposition == "swap" else {}
    return {**target.options, **model, **strategy}


def new_dataset() -> str:
    return f"crash_{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def undisturbed(target: Target, model: dict[str, Any], tmp_path_factory: Any) -> Any:
    """What both loads leave if nothing disturbs them, by their disposition."""

    @functools.cache
    def undisturbed(disposition: str) -> dict[str, list[str]]:
        pipelines = str(tmp_path_factory.mktemp("undisturbed"))
        machine = Machine(options(target, model, disposition), new_dataset(), pipelines)
        machine.load(cinema(disposition, FORMER, 5))
        machine.load(cinema(disposition, LATTER, 9))
        return content(target, machine.dataset)

    return undisturbed


@given(
    disposition=st.sampled_from(["append", "merge", "replace", "swap"]),
    place=st.sampled_from(["Dagster", "the same folder", "a new machine"]),
    request_number=st.integers(1, LAST_REQUEST),
    answered=st.booleans(),
)
@settings(
    max_examples=CRASHES,
    deadline=None,
    derandomize="CRASHES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
def test_the_load_after_a_crash_leaves_what_one_without_it_would(
    child,
    target,
    model,
    undisturbed,
    tmp_path_factory,
    disposition,
    place,
    request_number,
    answered,
):
    folder = tmp_path_factory.mktemp("pipelines")
    pipelines = None if place == "Dagster" else str(folder / "first")
    first = Machine(options(target, model, disposition), new_dataset(), pipelines)
    first.load(cinema(disposition, FORMER, 5))
    crashed = child(target=load_and_die, args=(first, disposition, request_number, answered))
    crashed.start()
    crashed.join()
    assert crashed.exitcode in (0, -signal.SIGKILL)
    event("killed" if crashed.exitcode else "done before it was to be killed")
    if not is_complete(target, first.dataset):
        fresh = replace(first, pipelines=str(folder / "fresh"))
        (fresh if place == "a new machine" else first).load(cinema(disposition, LATTER, 9))
    assert content(target, first.dataset) == undisturbed(disposition)
