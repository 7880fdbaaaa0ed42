"""What a run says in the log."""

import re
from typing import Any

import dagster as dg
import dlt
import pytest

from dagster_qdrant import QdrantResource, qdrant_adapter, qdrant_assets
from tests.targets import memory


@pytest.fixture
def qdrant_target(tmp_path, dataset):
    with memory(tmp_path) as target:
        yield target


def films(titles: list[str]) -> Any:
    rows = [{"id": number, "title": title, "tags": ["new"]} for number, title in enumerate(titles)]
    merged = dlt.resource(rows, name="films", primary_key="id", write_disposition="merge")
    return qdrant_adapter(merged, embed="title")


@pytest.fixture
def said(tmp_path, resource, dataset):
    """Runs an asset, or an op, and gives the lines of its log."""

    def said(body: Any, *, source: Any = None, managed: list[str] | None = None) -> list[str]:
        if source is None:
            source = films(["Alien", "Moon"])
        decorate = qdrant_assets(dlt_source=source, dataset_name=dataset)
        overrides = {"python_logs": {"managed_python_loggers": managed}} if managed else {}
        with dg.instance_for_test(temp_dir=str(tmp_path), overrides=overrides) as instance:
            result = dg.materialize(
                [decorate(body)],
                resources={"qdrant": resource},
                instance=instance,
                raise_on_error=False,
            )
            logs = instance.all_logs(result.run_id)
        failed = [
            entry.dagster_event
            for entry in logs
            if entry.dagster_event and entry.dagster_event.is_step_failure
        ]
        lines = [entry.user_message for entry in logs if entry.dagster_event is None]
        return lines + [event.event_specific_data.error.message for event in failed]

    return said


def load(context: dg.AssetExecutionContext, qdrant: QdrantResource):
    yield from qdrant.run(context)


@pytest.mark.parametrize(
    "managed", [None, ["dagster_qdrant"], ["root"], ["dagster_qdrant.runs", "dlt"]]
)
def test_each_line_is_there_once(said, managed):
    lines = said(load, managed=managed)
    assert len([line for line in lines if "Extracted in" in line]) == 1
    assert len([line for line in lines if "Loaded in" in line]) == 1


def test_a_load_that_went_well_says_so_in_one_line(said):
    said(load)
    lines = said(load, source=films(["Alien", "Solaris", "Alien", "Momo"]))
    [line] = [line for line in lines if "Loaded in" in line]
    numbers = ["films 4 rows, 2 embedded, 2 reused", "films__tags 4 rows, 0 embedded, 0 reused"]
    assert re.fullmatch(rf"Loaded in \d+\.\d s: {'; '.join(numbers)}\.", line), line


def test_an_asset_that_makes_a_run_and_does_not_load_fails(said, qdrant_target):
    def forgets(context: dg.AssetExecutionContext, qdrant: QdrantResource):
        qdrant.run(context)

    lines = said(forgets)
    assert "nothing was loaded" in lines[-1]
    assert "Write `yield from qdrant.run(context)`." in lines[-1]
    assert qdrant_target.collections() == set()


def test_a_run_that_is_returned_loads(said, qdrant_target, dataset):
    def returns(context: dg.AssetExecutionContext, qdrant: QdrantResource):
        return qdrant.run(context)

    assert not [line for line in said(returns) if "nothing was loaded" in line]
    assert len(qdrant_target.rows(f"{dataset}_films")) == 2


def test_an_op_that_makes_a_run_and_does_not_load_says_so(resource, dataset, caplog):
    @dg.op
    def forgets(context: dg.OpExecutionContext, qdrant: QdrantResource):
        qdrant.run(context, dlt_source=films(["Alien"]), dataset_name=dataset)

    @dg.job
    def job():
        forgets()

    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(resources={"qdrant": resource}, instance=instance)
        lines = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert [line for line in lines if "nothing was loaded" in line]
