"""Assets whose rows are loaded by several workers, each in a process of its own."""

import copyreg
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dagster_qdrant.destination.loads.load_record import LoadStatus
from tests.targets import Target
from tests.working import Work


@pytest.fixture
def work(qdrant_target: Target, model: Any, dataset: str, tmp_path: Path) -> Work:
    folder = tmp_path / "work"
    folder.mkdir()
    # Between two steps a load is silent for longer than other loads may be.
    options = {**qdrant_target.options, **model, "abandoned_after": 0.2}
    return Work(options, dataset, str(folder), workers=2)


def parts(target: Target) -> list[str]:
    return ["1"] if target.kind == "path" else ["1", "2"]


def refuse_loss(target: Target, work: Work, result: Any) -> None:
    """One load, one materialization, all rows."""
    assert result.success
    [event] = result.get_asset_materialization_events()
    assert event.materialization.metadata["rows_loaded"].value == work.rows
    assert event.materialization.metadata["dagster/row_count"].value == work.rows
    assert all(each.passed for each in result.get_asset_check_evaluations())
    assert sorted(row["id"] for row in target.rows(f"{work.dataset}_films")) == [*range(work.rows)]
    loads = target.rows(f"{work.dataset}__dlt_loads")
    assert [load["status"] for load in loads] == [LoadStatus.COMPLETE]


def test_a_worker_that_is_killed_is_made_up_for_by_a_retry_from_failure(
    qdrant_target: Target, work: Work
):
    last = parts(qdrant_target)[-1]
    work = replace(work, executor="multiprocess", broken=int(last), kills=True)
    failed = work.run()
    assert not failed.success
    refuse_loss(qdrant_target, work, work.retry(failed))
    assert work.said("read") == ["once"]
    assert sorted(work.said("begun")) == sorted([*parts(qdrant_target), last])


@pytest.fixture
def _errors_are_pickled_as_before() -> Iterator[None]:
    """Dask has all errors of the process pickled with their causes from when it is imported on."""
    before = dict(copyreg.dispatch_table)
    yield
    copyreg.dispatch_table.clear()
    copyreg.dispatch_table.update(before)


@pytest.mark.usefixtures("_errors_are_pickled_as_before")
def test_dask_s_workers_load_a_part_each(qdrant_target: Target, work: Work):
    work = replace(work, executor="dask")
    refuse_loss(qdrant_target, work, work.run())
    assert sorted(work.said("begun")) == parts(qdrant_target)
