"""A load goes on where the last one stopped, whatever names changed, or says that it cannot."""

import dagster as dg
import dlt
import pytest

from dagster_qdrant import QdrantResource, build_qdrant_assets, qdrant_adapter, qdrant_assets
from tests.conftest import Load
from tests.targets import Target

pytestmark = pytest.mark.in_memory

last = {"id": 2}


@pytest.fixture(autouse=True)
def _a_few_rows():
    last["id"] = 2


def more_rows():
    last["id"] += 1


def growing(name="films", disposition="append"):
    """A resource that brings the rows after those that it has brought."""

    @dlt.resource(name=name, write_disposition=disposition, primary_key="id")
    def rows(since=dlt.sources.incremental("id", initial_value=0)):
        yield [
            {"id": n, "title": f"{name} {n}"} for n in range(since.last_value + 1, last["id"] + 1)
        ]

    return qdrant_adapter(rows, embed="title")


def source(name, *resources):
    return dlt.source(lambda: list(resources) or [growing()], name=name)()


def assets(data, dataset, **options):
    return build_qdrant_assets(dlt_source=data, dataset_name=dataset, **options)


def assets_that_load(data, definition, dataset, **options):
    @qdrant_assets(dlt_source=definition, dataset_name=dataset, **options)
    def body(context: dg.AssetExecutionContext, qdrant: QdrantResource):
        yield from qdrant.run(context, dlt_source=data)

    return body


@pytest.fixture
def run(resource):
    def run(*assets):
        assert dg.materialize(list(assets), resources={"qdrant": resource}).success

    return run


@pytest.fixture
def refused(resource):
    def refused(assets) -> str:
        result = dg.materialize([assets], resources={"qdrant": resource}, raise_on_error=False)
        [failure] = [event for event in result.all_events if event.is_step_failure]
        return failure.step_failure_data.error.message

    return refused


@pytest.fixture
def ids(qdrant_target: Target, dataset):
    def ids(table="films"):
        return sorted(row["id"] for row in qdrant_target.rows(f"{dataset}_{table}"))

    return ids


@pytest.mark.parametrize("name", ["films", "load_films_pipeline"])
def test_a_plain_pipeline_goes_on_in_dagster_under_its_name(load: Load, run, ids, dataset, name):
    load(growing(), name=name)
    more_rows()
    run(assets(growing(), dataset, pipeline_name=name))
    assert ids() == [1, 2, 3]


def test_a_pipeline_of_dagster_goes_on_in_a_plain_script(load: Load, run, ids, dataset):
    run(assets(growing(), dataset, pipeline_name="films"))
    more_rows()
    load(growing(), name="films", machine="another")
    assert ids() == [1, 2, 3]


def test_a_plain_pipeline_of_a_source_goes_on_in_dagster(load: Load, run, ids, dataset):
    load(source("cinema"), name="films")
    more_rows()
    run(assets(source("cinema"), dataset, pipeline_name="films"))
    more_rows()
    run(assets(growing(), dataset, pipeline_name="films"))  # the source's resource, by itself
    assert ids() == [1, 2, 3, 4]


@pytest.mark.parametrize("definition", [growing, lambda: source("cinema")])
def test_a_run_may_load_the_resource_that_the_assets_were_defined_with(
    run, ids, dataset, definition
):
    run(assets(definition(), dataset, pipeline_name="p"))
    for data in (growing(), [growing()]):
        more_rows()
        run(assets_that_load(data, definition(), dataset, pipeline_name="p"))
    assert ids() == [1, 2, 3, 4]


def test_what_versions_before_named_the_source_is_found(load: Load, run, ids, dataset):
    """They named it after the dataset, in a pipeline that another resource began."""
    load(source("first", growing("actors")), name="p")
    load(source(dataset), name="p")
    more_rows()
    run(assets(growing(), dataset, pipeline_name="p"))
    assert ids() == [1, 2, 3]


def test_a_materialization_shows_what_a_source_of_another_name_has_loaded(
    load: Load, resource, dataset
):
    load(source("first", growing("actors")), name="p")
    result = dg.materialize(
        [assets(source("cinema"), dataset, pipeline_name="p", checks=True)],
        resources={"qdrant": resource},
    )
    [event] = result.get_asset_materialization_events()
    metadata = event.materialization.metadata
    assert metadata["dagster/row_count"].value == 2
    assert metadata["rows_embedded"].value == 2
    assert all(check.passed for check in result.get_asset_check_evaluations())


def test_another_name_of_the_op_is_refused(run, refused, ids, dataset):
    run(assets(growing(), dataset, name="load_films"))
    more_rows()
    said = refused(assets(growing(), dataset, name="load_all_films"))
    assert "Resource `films` appends. Pipeline `load_films` has loaded it" in said
    assert "Set `pipeline_name='load_films'` to go on" in said
    assert "`pipeline_name='load_all_films'` to load" in said
    assert ids() == [1, 2]
    run(assets(growing(), dataset, name="load_all_films", pipeline_name="load_films"))
    assert ids() == [1, 2, 3]


def test_a_plain_pipeline_that_moves_without_its_name_is_refused(
    load: Load, run, refused, ids, dataset
):
    load(growing(), name="films_of_old")
    assert "`pipeline_name='films_of_old'` to go on" in refused(assets(growing(), dataset))
    run(assets(growing(), dataset, pipeline_name="another"))  # which says that it is meant
    assert ids() == [1, 1, 2, 2]


def test_a_resource_that_moves_to_a_pipeline_that_has_run_is_refused(run, refused, ids, dataset):
    run(assets(growing(), dataset, name="one"))
    run(assets(growing("actors"), dataset, name="two"))
    said = refused(assets([growing(), growing("actors")], dataset, name="two"))
    assert "Resource `films` appends" in said
    assert "`pipeline_name='one'` to go on" in said


def test_another_name_of_the_source_is_refused(run, refused, ids, dataset):
    run(assets(source("cinema"), dataset, pipeline_name="p"))
    said = refused(assets(source("films"), dataset, pipeline_name="p"))
    assert "Name the source `cinema` to go on" in said
    assert "From source `films` it would load everything again" in said
    assert ids() == [1, 2]


def test_an_op_that_loads_what_a_pipeline_loaded_is_refused(load: Load, resource, ids, dataset):
    load(growing(), name="films_of_old")

    @dg.op(out=dg.Out(dg.Nothing))
    def op(context: dg.OpExecutionContext, qdrant: QdrantResource):
        yield from qdrant.run(context, dlt_source=growing(), dataset_name=dataset)
        yield dg.Output(None)

    job = dg.GraphDefinition("loading", node_defs=[op]).to_job()
    with pytest.raises(dg.Failure, match="`pipeline_name='films_of_old'` to go on"):
        job.execute_in_process(resources={"qdrant": resource})
    assert ids() == [1, 2]


@pytest.mark.parametrize("disposition", ["merge", "replace"])
def test_what_does_not_append_is_not_refused(load: Load, run, ids, dataset, disposition):
    load(growing(disposition=disposition), name="films_of_old")
    run(assets(growing(disposition=disposition), dataset))
    assert ids() == [1, 2]


def test_what_keeps_no_state_is_not_refused(load: Load, run, ids, dataset):
    load(dlt.resource([{"id": 1}], name="films"), name="films_of_old")
    for _ in range(2):
        run(assets(dlt.resource([{"id": 2}], name="films"), dataset))
    assert ids() == [1, 2, 2]


def test_what_is_loaded_anew_is_not_refused(load: Load, resource, ids, dataset):
    load(growing(), name="films_of_old")

    @qdrant_assets(dlt_source=growing(), dataset_name=dataset)
    def anew(context: dg.AssetExecutionContext, qdrant: QdrantResource):
        yield from qdrant.run(context, write_disposition="replace")

    assert dg.materialize([anew], resources={"qdrant": resource}).success
    assert ids() == [1, 2]


def test_a_transformer_whose_parent_has_the_state_is_refused(run, refused, ids, dataset):
    def chunks():
        @dlt.transformer(data_from=growing(), name="chunks", write_disposition="append")
        def chunks(rows):
            yield rows

        return chunks

    for _ in range(2):
        run(assets(chunks(), dataset, name="one"))
    assert "Resource `chunks` appends" in refused(assets(chunks(), dataset, name="two"))
    assert ids("chunks") == [1, 2]


def test_a_resource_that_goes_by_the_state_of_its_source_is_refused(run, refused, ids, dataset):
    @dlt.resource(name="films", write_disposition="append")
    def films():
        state = dlt.current.source_state()
        yield [{"id": number} for number in range(state.get("seen", 0), last["id"])]
        state["seen"] = last["id"]

    for _ in range(2):
        run(assets(films, dataset, name="one"))
    assert "`pipeline_name='one'` to go on" in refused(assets(films, dataset, name="two"))
    assert ids() == [0, 1]


def test_a_refresh_that_would_not_drop_the_rows_is_refused(run, resource, ids, dataset):
    run(assets(growing(), dataset, name="one"))

    @qdrant_assets(dlt_source=growing(), dataset_name=dataset, name="two")
    def anew(context: dg.AssetExecutionContext, qdrant: QdrantResource):
        yield from qdrant.run(context, refresh="drop_resources")

    with pytest.raises(dg.Failure, match="`pipeline_name='one'` to go on"):
        dg.materialize([anew], resources={"qdrant": resource})
    assert ids() == [1, 2]
