"""The names that definitions get, and those that cannot be."""

import dagster as dg
import dlt
import pytest

from dagster_qdrant import QdrantResource, QdrantTerminalError, build_qdrant_assets, qdrant_adapter
from tests.conftest import Load
from tests.targets import Target

pytestmark = pytest.mark.in_memory


def table(name, rows=({"id": 1, "title": "Moon"},), **hints):
    return dlt.resource(list(rows), name=name, **hints)


@pytest.fixture
def memory(model, dataset) -> QdrantResource:
    return QdrantResource(location=f":memory:{dataset}", **model)


def collections(resource: QdrantResource) -> set[str]:
    with resource.get_client() as client:
        return {entry.name for entry in client.get_collections().collections}


class TestManyDefinitionsOfOneDataset:
    def test_each_resource_may_have_its_own(self, memory):
        @dlt.resource(primary_key="id")
        def growing(since=dlt.sources.incremental("id", initial_value=0)):
            yield {"id": since.last_value + 1}

        loads = [
            build_qdrant_assets(dlt_source=each, dataset_name="cinema")
            for each in (table("films"), table("books"), growing())
        ]
        defs = dg.Definitions(assets=loads, resources={"qdrant": memory})
        for _ in range(2):
            assert defs.resolve_implicit_global_asset_job_def().execute_in_process().success
        with memory.get_client() as client:
            assert client.count("cinema_growing").count == 2  # it went on where it was
            assert client.count("cinema_films").count == 2

    def test_parts_of_a_source_may(self):
        @dlt.source
        def library():
            return [table(name) for name in ("films", "books", "plays", "poems")]

        whole = build_qdrant_assets(dlt_source=library(), dataset_name="all")
        parts = [
            build_qdrant_assets(dlt_source=library().with_resources(*names), dataset_name="d")
            for names in (["films"], ["books"], ["plays", "poems"])
        ]
        lists = [
            build_qdrant_assets(dlt_source=[table(name), table(f"{name}_old")], dataset_name="d")
            for name in ("cars", "boats")
        ]
        names = [each.op.name for each in (whole, *parts, *lists)]
        assert names[:3] == ["library_all", "films_d", "books_d"]
        assert len(set(names)) == 6

    def test_many_long_names_still_differ(self):
        def op_name(last):
            resources = [table(f"resource_number_{number}") for number in (*range(20), last)]
            return build_qdrant_assets(dlt_source=resources, dataset_name="d").op.name

        assert op_name(20) != op_name(21)
        assert len(op_name(20)) <= 200


class TestNames:
    @pytest.mark.parametrize(
        ("name", "begins"), [("1st", "_1st"), ("2024-films", "_2024_films"), ("x" * 80, "x" * 80)]
    )
    def test_a_dataset_may_have_a_name_that_dlt_takes_for_none_of_a_source(
        self, memory, name, begins
    ):
        assets = build_qdrant_assets(dlt_source=table("films"), dataset_name=name)
        [spec] = assets.specs
        assert dg.materialize([assets], resources={"qdrant": memory}).success
        assert spec.metadata["dagster/table_name"] == f"{begins}_films"
        assert f"{begins}_films" in collections(memory)

    def test_datasets_whose_long_names_differ_at_the_end_keep_states_apart(self, memory):
        @dlt.resource(primary_key="id")
        def growing(since=dlt.sources.incremental("id", initial_value=0)):
            yield {"id": since.last_value + 1}

        for name in ("x" * 210 + "1", "x" * 210 + "2"):
            assets = build_qdrant_assets(dlt_source=growing(), dataset_name=name)
            assert dg.materialize([assets], resources={"qdrant": memory}).success
        found = [name for name in collections(memory) if name.endswith("_growing")]
        assert len(found) == 2

    @pytest.mark.parametrize("long", ["x" * 300, "é" * 130])
    def test_a_collections_name_that_is_too_long_is_refused_by_the_definition(
        self, long, monkeypatch
    ):
        monkeypatch.setenv("SCHEMA__NAMING", "direct")
        films = table("f" * 100)
        with pytest.raises(dg.DagsterInvalidDefinitionError, match="Its collection would be named"):
            build_qdrant_assets(dlt_source=films, dataset_name=long)

    def test_one_that_rows_name_is_refused_before_anything_is_written(
        self, load: Load, qdrant_target: Target, dataset
    ):
        rows = [{"kind": "short"}, {"kind": "k" * 230}]
        events = dlt.resource(rows, name="events", table_name=lambda row: row["kind"])
        with pytest.raises(Exception, match="Its collection would be named") as caught:
            load(events, dataset_name=f"{dataset}_{'d' * 60}")
        cause = caught.value
        while not isinstance(cause, QdrantTerminalError):
            cause = cause.__cause__ or cause.__context__
        assert not any(name.endswith("short") for name in qdrant_target.collections())

    def test_dataset_names_left_as_typed_are_so_in_collections(self, memory, monkeypatch):
        monkeypatch.setenv("DESTINATION__ENABLE_DATASET_NAME_NORMALIZATION", "false")
        films = qdrant_adapter(table("films"), embed="title")
        assets = build_qdrant_assets(dlt_source=films, dataset_name="My Films", checks=True)
        result = dg.materialize([assets], resources={"qdrant": memory})
        [event] = result.get_asset_materialization_events()
        assert event.materialization.metadata["dagster/row_count"].value == 1
        assert all(check.passed for check in result.get_asset_check_evaluations())
        assert "My Films_films" in collections(memory)
