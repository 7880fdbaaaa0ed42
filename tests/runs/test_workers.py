"""Assets whose rows are loaded by several steps of a run, in one process here."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import dlt
import pytest
from qdrant_client import models

from dagster_qdrant import (
    QdrantResource,
    build_qdrant_assets,
    build_qdrant_checks,
    qdrant_adapter,
    qdrant_assets,
)
from dagster_qdrant.destination.loads import load_leases
from dagster_qdrant.destination.loads.load_record import LoadStatus
from dagster_qdrant.destination.loads.shared_load import OwnerState, owners_known
from dagster_qdrant.runs import shared_dlt_load, worker_steps
from tests.crashing import FORMER, LATTER, cinema
from tests.targets import Target, rest
from tests.working import Work

# Enough for each of a few parts to have some, however they fall.
FILMS = [{"id": number, "title": f"film {number}"} for number in range(40)]


@pytest.fixture
def qdrant_target(tmp_path: Path, dataset: str) -> Iterator[Target]:
    """A server: a path has one worker at a time."""
    with rest(tmp_path) as target:
        yield target
        target.clean_up(dataset)


@pytest.fixture(autouse=True)
def _few_rows_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_dlt_load, "LEAST_ROWS", 1)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def films(rows: Any = FILMS, **hints: Any) -> Any:
    hints = {"write_disposition": "merge", "primary_key": "id"} | hints
    return qdrant_adapter(dlt.resource(rows, name="films", **hints), embed="title")


def materialize(assets: dg.AssetsDefinition, resource: QdrantResource, **options: Any) -> Any:
    return dg.materialize([assets], resources={"qdrant": resource}, **options)


def shown(result: Any) -> dict[str, dict[str, Any]]:
    """What each materialization shows, by asset."""
    return {
        event.asset_key.path[-1]: {
            name: entry.value for name, entry in event.materialization.metadata.items()
        }
        for event in result.get_asset_materialization_events()
    }


def succeeded(result: Any) -> list[str]:
    return [event.step_key.split(".")[-1] for event in result.get_step_success_events()]


@pytest.fixture
def work(
    qdrant_target: Target, resource: QdrantResource, model: Any, dataset: str, tmp_path: Any
) -> Work:
    folder = tmp_path / "work"
    folder.mkdir()
    options = {**qdrant_target.options, **model, "abandoned_after": 0.2}
    return Work(options, dataset, str(folder))


_LOAD_PART = worker_steps.load_part


@pytest.mark.parametrize("disposition", ["merge", "replace", "swap"])
def test_workers_leave_and_tell_what_one_step_would(
    qdrant_target: Target, resource: QdrantResource, dataset: str, disposition: str
):
    options = {"replace_strategy": "swap"} if disposition == "swap" else {}
    resource = resource.model_copy(update=options)
    left, told = {}, {}
    for workers in (1, 3):
        name = f"{dataset}_{workers}"
        for rows, events in ((FORMER, 5), (LATTER, 9)):
            with dg.DagsterInstance.ephemeral() as instance:
                assets = build_qdrant_assets(
                    dlt_source=cinema(disposition, rows, events),
                    dataset_name=name,
                    pipeline_name="cinema",
                    workers=workers,
                    checks=True,
                )
                result = materialize(assets, resource, instance=instance)
                assert all(each.passed for each in result.get_asset_check_evaluations())
                log = [entry.user_message for entry in instance.all_logs(result.run_id)]
        told[workers] = {
            asset: {
                name: value
                for name, value in entries.items()
                if name.startswith(("rows_", "points_", "texts_", "dagster/row"))
                and name not in ("rows_per_second", "texts_embedded")  # equal texts, other parts
            }
            for asset, entries in shown(result).items()
        }
        left[workers] = {
            table: sorted(map(str, qdrant_target.rows(f"{name}_{table}")))
            for table in ("films", "films__tags", "events")
        }
    assert left[3] == left[1]
    assert told[3] == told[1]
    assert succeeded(result) == ["extract", "load_1", "load_2", "load_3", "complete"]
    assert any(line.startswith("Part 2 of 3: Loaded in") for line in log)


def test_chunks_of_a_text_are_those_of_its_last_version(
    qdrant_target: Target, resource: QdrantResource, dataset: str
):
    left = {}
    for workers in (1, 3):
        name = f"{dataset}_{workers}"
        for version in ("first", "second"):
            rows = [{"id": n, "text": f"{version} word{n} " * 20 * (n + 1)} for n in range(4)]
            source = dlt.resource(
                rows[: 4 if version == "first" else 3],
                name="texts",
                write_disposition="merge",
                primary_key="id",
            )
            source = qdrant_adapter(source, embed="text", chunk={"tokens": 60})
            assets = build_qdrant_assets(dlt_source=source, dataset_name=name, workers=workers)
            materialize(assets, resource)
        left[workers] = sorted(map(str, qdrant_target.rows(f"{name}_texts__chunks")))
    assert left[3] == left[1]
    assert sum("second" in chunk for chunk in left[1]) >= 3


def test_equal_rows_are_told_apart_whatever_parts_there_are(
    qdrant_target: Target, resource: QdrantResource, dataset: str
):
    rows = [{"title": "twin"}] * 4 + [{"title": "single"}, {"title": "other"}]
    source = films(rows, write_disposition="replace", primary_key=None)
    materialize(build_qdrant_assets(dlt_source=source, dataset_name=dataset, workers=4), resource)
    assert len(qdrant_target.points(f"{dataset}_films")) == 6


def test_a_run_is_retried_from_the_part_that_failed(qdrant_target: Target, work: Work):
    failed = replace(work, broken=2).run()
    assert not failed.success
    assert "the worker broke" in _error_of(failed, "load_2")
    assert not failed.get_asset_materialization_events()
    retried = replace(work, broken=2).retry(failed)
    assert retried.success
    assert work.said("read") == ["once"]
    assert work.said("begun") == ["1", "2", "3", "2"]
    assert len(qdrant_target.points(f"{work.dataset}_films")) == work.rows
    numbers = shown(retried)["films"]
    assert numbers["rows_loaded"] == numbers["dagster/row_count"] == work.rows
    assert (numbers["rows_embedded"], numbers["rows_reused"]) == (work.rows - 2, 2)
    assert [row["status"] for row in _loads(qdrant_target, work)] == [LoadStatus.COMPLETE]
    assert all(each.passed for each in retried.get_asset_check_evaluations())


def test_a_load_that_another_one_did_not_wait_for_is_not_gone_on_with(
    qdrant_target: Target, work: Work
):
    failed = replace(work, broken=2).run()
    assert work.run().success  # which finds that the run is over, and takes back its rows
    assert len(qdrant_target.points(f"{work.dataset}_films")) == work.rows
    retried = work.retry(failed)
    assert "Materialize the assets again, from their first step" in _error_of(retried, "load_2")
    assert len(qdrant_target.points(f"{work.dataset}_films")) == work.rows


def test_a_part_that_is_retried_within_the_run_is_no_other_load(qdrant_target: Target, work: Work):
    assert replace(work, broken=1, retries=1).run().success
    assert sorted(work.said("begun")) == ["1", "1", "2", "3"]
    assert len(qdrant_target.points(f"{work.dataset}_films")) == work.rows


def test_a_first_step_that_is_retried_begins_a_load_anew(
    qdrant_target: Target, work: Work, monkeypatch: pytest.MonkeyPatch
):
    begun = shared_dlt_load.CutLoad.begun

    def break_once(self: Any, former: Any) -> Any:
        if work.said("broke"):
            return begun(self, former)
        work.say("broke", "once")
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(shared_dlt_load.CutLoad, "begun", break_once)
    assert replace(work, retries=1).run().success
    assert work.said("read") == ["once"] * 2
    assert len(qdrant_target.points(f"{work.dataset}_films")) == work.rows


def leave_a_load(work: Work) -> None:
    """Leave the load of a run as it is while its steps wait."""
    assert work.run().success
    with QdrantResource(**work.options).get_client() as client:
        loads = f"{work.dataset}__dlt_loads"
        [point], _ = client.scroll(loads)
        claims = [{"name": "films", "part": None, "exclusive": True, "ticket": 0}]
        client.set_payload(loads, {"status": 1, "claims": claims, "heartbeat": 7}, [point.id])


@pytest.fixture
def left(work: Work) -> Iterator[list[OwnerState]]:
    """A load whose steps wait in a queue, and the state of its run."""
    leave_a_load(work)
    states = [OwnerState.ALIVE]
    with owners_known(lambda _: states[-1]):
        yield states


def other_load(work: Work) -> Any:
    source = films(write_disposition="append", primary_key=None)
    assets = build_qdrant_assets(dlt_source=source, dataset_name=work.dataset, name="other")
    return materialize(assets, QdrantResource(**work.options), raise_on_error=False)


def test_a_load_whose_steps_wait_in_a_queue_is_waited_for_until_its_run_is_over(
    work: Work, left: list[OwnerState], caplog: pytest.LogCaptureFixture
):
    """Others look at its run, and not for how long it was silent."""
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(other_load, work)
        while "if that is dead, terminate it" not in caplog.text:
            assert not waiting.done()
            time.sleep(0.1)
        with pytest.raises(FutureTimeoutError):
            waiting.result(4 * work.options["abandoned_after"])
        left.append(OwnerState.OVER)
        assert waiting.result(60).success


def test_a_load_does_not_wait_for_ever_for_steps_that_may_wait_behind_it(
    work: Work, left: list[OwnerState], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(load_leases, "_QUEUED", 0.3)
    result = other_load(work)
    assert "waiting for the place that this step takes" in _error_of(result, "other")


def test_rows_are_deleted_without_a_wait_for_a_run_that_is_over(
    qdrant_target: Target, work: Work, monkeypatch: pytest.MonkeyPatch
):
    leave_a_load(work)
    monkeypatch.setenv("DAGSTER_HOME", f"{work.folder}/dagster")
    first = models.Filter(must=[models.FieldCondition(key="id", range=models.Range(lt=1))])
    gone = QdrantResource(**work.options).delete_rows(work.dataset, "films", first)
    assert gone == {"films": 1}


def test_a_collection_that_goes_while_parts_are_loaded_is_not_filled_with_the_rest(
    resource: QdrantResource, work: Work, monkeypatch: pytest.MonkeyPatch
):
    def load_part(resource: Any, package: Any, owner: str) -> Any:
        if package.part[0] == 2:
            with resource.get_client() as client:
                client.delete_collection(f"{work.dataset}_films")
        return _LOAD_PART(resource, package, owner)

    monkeypatch.setattr(worker_steps, "load_part", load_part)
    assets = build_qdrant_assets(dlt_source=films(), dataset_name=work.dataset, workers=3)
    result = materialize(assets, resource, raise_on_error=False)
    assert not result.success
    assert "which was deleted meanwhile" in _error_of(result, "load_2")


def test_a_part_refuses_another_process_s_memory(model: Any, tmp_path: Any, monkeypatch: Any):
    def load_part(resource: Any, package: Any, owner: str) -> Any:
        return _LOAD_PART(QdrantResource(location=":memory:other", **model), package, owner)

    monkeypatch.setattr(worker_steps, "load_part", load_part)
    assets = build_qdrant_assets(dlt_source=films(), dataset_name="films", workers=2)
    result = materialize(
        assets, QdrantResource(location=":memory:one", **model), raise_on_error=False
    )
    assert "`:memory:`, which serves one process alone" in _error_of(result, "load_1")


def test_on_a_path_one_worker_loads_all_rows(
    model: Any, tmp_path: Any, caplog: pytest.LogCaptureFixture
):
    resource = QdrantResource(path=str(tmp_path / "qdrant"), **model)
    assets = build_qdrant_assets(dlt_source=films(), dataset_name="films", workers=3)
    result = materialize(assets, resource)
    assert succeeded(result) == ["extract", "load_1", "complete"]
    assert shown(result)["films"]["dagster/row_count"] == len(FILMS)
    assert "A `path` serves one process at a time" in caplog.text


def test_what_travels_holds_no_key(work: Work):
    key = work.options["api_key"].encode()
    assert work.run().success
    travelled = [each for each in Path(work.folder, "dagster").rglob("films.*/*") if each.is_file()]
    assert len(travelled) == 7  # what was begun, and of each part the rows and the report
    assert not [each for each in travelled if key in each.read_bytes()]


def test_few_rows_are_not_spread(
    resource: QdrantResource, dataset: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shared_dlt_load, "LEAST_ROWS", 20)
    assets = build_qdrant_assets(dlt_source=films(), dataset_name=dataset, workers=3)
    assert succeeded(materialize(assets, resource)) == ["extract", "load_1", "load_2", "complete"]


def test_a_source_without_rows_is_a_load_too(
    qdrant_target: Target, resource: QdrantResource, dataset: str
):
    result = materialize(
        build_qdrant_assets(dlt_source=films([]), dataset_name=dataset, workers=3), resource
    )
    assert shown(result)["films"]["dagster/row_count"] == 0
    assert f"{dataset}_films" in qdrant_target.collections()


def test_an_incremental_source_goes_on_where_it_stopped(
    qdrant_target: Target, resource: QdrantResource, dataset: str
):
    for events in (3, 5):
        source = cinema("merge", [], events).with_resources("events")
        assets = build_qdrant_assets(dlt_source=source, dataset_name=dataset, workers=2)
        numbers = shown(materialize(assets, resource))["events"]
    assert (numbers["rows_loaded"], numbers["dagster/row_count"]) == (2, 5)


def test_a_part_of_the_assets_and_checks_alone_run_as_they_do_otherwise(
    resource: QdrantResource, dataset: str, instance: dg.DagsterInstance
):
    assets = build_qdrant_assets(
        dlt_source=cinema("merge", FORMER, 3),
        dataset_name=dataset,
        workers=2,
        checks=True,
        group_name="search",
        deps={"films": ["studio"]},
    )
    upstream = {
        spec.key.path[-1]: {dep.asset_key.path[-1] for dep in spec.deps} for spec in assets.specs
    }
    assert upstream == {"films": {"studio"}, "events": set()}
    films, events = (dg.AssetKey([dataset, name]) for name in ("films", "events"))
    assert {spec.group_name for spec in assets.specs} == {"search"}
    options = {"instance": instance}
    result = materialize(assets, resource, selection=[films], **options)
    assert set(shown(result)) == {"films"}
    only_checks = dg.AssetSelection.checks_for_assets(films)
    result = materialize(assets, resource, selection=only_checks, **options)
    assert all(each.passed for each in result.get_asset_check_evaluations())
    assert not shown(result)
    moved = assets.with_attributes(asset_key_replacements={events: events.with_prefix("live")})
    result = materialize(moved, resource, selection=[events.with_prefix("live")], **options)
    assert [event.asset_key.path[0] for event in result.get_asset_materialization_events()] == [
        "live"
    ]


def test_a_function_of_one_s_own_runs_in_each_step(resource: QdrantResource, dataset: str):
    steps = []

    @qdrant_assets(
        dlt_source=films(),
        dataset_name=dataset,
        workers=2,
        op_tags={"team": "search"},
        worker_tags={"gpu": "1"},
    )
    def load_films(context, qdrant: QdrantResource):
        steps.append(context.op_execution_context.op_handle.name)
        yield from qdrant.run(context, write_disposition="replace")

    assert "replace" in str(shown(materialize(load_films, resource))["films"])
    assert steps == ["extract", "load_1", "load_2", "complete"]
    assert build_qdrant_checks([load_films])[0].check_keys
    tags = {node.name: dict(node.tags) for node in load_films.node_def.node_defs}
    assert tags["extract"] == tags["complete"] == {"team": "search"}
    assert tags["load"] == {"team": "search", "gpu": "1"}


def test_a_partition_is_loaded_by_workers_and_several_with_sources_are_refused(
    qdrant_target: Target, resource: QdrantResource, dataset: str
):
    def of_day(day: str) -> Any:
        return films(
            [{"id": n, "title": f"film {n} of {day}"} for n in range(6)],
            write_disposition="replace",
        )

    days = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-01-04")
    assets = build_qdrant_assets(
        dlt_source=of_day, dataset_name=dataset, partitions_def=days, workers=2
    )
    for day in ("2026-01-01", "2026-01-02", "2026-01-01"):
        numbers = shown(materialize(assets, resource, partition_key=day))["films"]
    assert numbers["dagster/partition_row_count"] == 6
    assert len(qdrant_target.points(f"{dataset}_films")) == 12
    both = {
        "dagster/asset_partition_range_start": "2026-01-01",
        "dagster/asset_partition_range_end": "2026-01-02",
    }
    result = materialize(assets, resource, tags=both, raise_on_error=False)
    assert "BackfillPolicy.multi_run()" in _error_of(result, "extract")


@pytest.mark.parametrize("workers", [0, -1, 2.5, True, "4"])
def test_what_is_no_number_of_workers_is_refused(workers: Any):
    with pytest.raises(ValueError, match="`workers` is"):
        build_qdrant_assets(dlt_source=films(), workers=workers)


def test_tags_of_workers_that_there_are_not_are_refused():
    with pytest.raises(ValueError, match="`worker_tags`"):
        build_qdrant_assets(dlt_source=films(), worker_tags={"gpu": "1"})


def test_one_worker_is_one_step_as_without():
    assert isinstance(build_qdrant_assets(dlt_source=films(), workers=1).node_def, dg.OpDefinition)


def _error_of(result: Any, step: str) -> str:
    [event] = [event for event in result.get_step_failure_events() if event.step_key.endswith(step)]
    return str(event.step_failure_data.user_failure_data or event.step_failure_data.error)


def _loads(target: Target, work: Work) -> list[dict[str, Any]]:
    return target.rows(f"{work.dataset}__dlt_loads")
