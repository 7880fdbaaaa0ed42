"""Data versions and code versions: what Dagster takes for changed."""

import dagster as dg
import dlt
import pytest
from qdrant_client import models

from dagster_qdrant import (
    QdrantDltTranslator,
    QdrantResource,
    QdrantTerminalError,
    build_qdrant_assets,
    qdrant_adapter,
    qdrant_assets,
)
from dagster_qdrant.destination.writing.load_counts import LoadCounts, load_reports

pytestmark = pytest.mark.in_memory

FILMS = [{"id": 1, "title": "Moon"}, {"id": 2, "title": "Her"}]
DATASET = "versions"
KEY = dg.AssetKey([DATASET, "films"])


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def memory(model, dataset) -> QdrantResource:
    return QdrantResource(location=f":memory:{dataset}", **model)


def films(rows=FILMS, embed="title", index=None, collection=None, **hints):
    hints = {"write_disposition": "merge", "primary_key": "id"} | hints
    resource = dlt.resource(rows, name="films", **hints)
    return qdrant_adapter(resource, embed=embed, index=index, collection=collection)


def films_of(*args, **hints) -> dg.AssetsDefinition:
    return build_qdrant_assets(dlt_source=films(*args, **hints), dataset_name=DATASET)


class Versions:
    """Materializes, and tells the data version of each materialization.

    Args:
        instance: Where Dagster keeps them.
        qdrant: Where to load.
    """

    def __init__(self, instance: dg.DagsterInstance, qdrant: QdrantResource) -> None:
        self.instance = instance
        self.resources = {"qdrant": qdrant}

    def run(self, assets: dg.AssetsDefinition, **options) -> dg.ExecuteInProcessResult:
        return dg.materialize([assets], resources=self.resources, instance=self.instance, **options)

    def after(self, *args, partition_key=None, assets=None, **hints) -> str:
        assets = assets or films_of(*args, **hints)
        result = self.run(assets, partition_key=partition_key)
        assert result.success
        [event] = result.get_asset_materialization_events()
        return event.materialization.tags["dagster/data_version"]


@pytest.fixture
def version(instance, memory) -> Versions:
    return Versions(instance, memory)


class TestDataVersion:
    def test_a_load_that_changes_nothing_keeps_it(self, instance, resource, dataset):
        version = Versions(instance, resource)
        assets = build_qdrant_assets(dlt_source=films(), dataset_name=dataset)
        first = version.after(assets=assets)
        assert [version.after(assets=assets) for _ in range(2)] == [first, first]

    @pytest.mark.parametrize(
        "rows",
        [
            [*FILMS, {"id": 3, "title": "Alien"}],
            [{"id": 1, "title": "Moon Pie"}],
            [{"id": 1, "title": "Moon", "year": 2009}],
        ],
        ids=["a new row", "a new text", "a new payload"],
    )
    def test_a_change_makes_a_new_one(self, version, rows):
        assert version.after() != version.after(rows)

    def test_a_deleted_row_makes_a_new_one(self, version):
        hints = {"columns": {"gone": {"hard_delete": True, "data_type": "bool"}}}
        first = version.after(**hints)
        assert version.after([{"id": 1, "title": "Moon", "gone": True}], **hints) != first

    def test_appended_rows_make_a_new_one_and_none_keep_it(self, version):
        first = version.after(write_disposition="append")
        second = version.after(write_disposition="append")
        assert first != second
        assert version.after([], write_disposition="append") == second

    def test_a_replace_with_the_same_rows_keeps_it(self, version):
        first = version.after(write_disposition="replace")
        assert version.after(write_disposition="replace") == first
        assert version.after(FILMS[:1], write_disposition="replace") != first

    def test_rows_that_a_load_outdates_make_a_new_one(self, version, monkeypatch):
        first = version.after(write_disposition="replace")
        take = load_reports.take

        def with_outdated(load_id):
            counts = take(load_id)
            counts["films"].add(LoadCounts(outdated=1))
            return counts

        monkeypatch.setattr(load_reports, "take", with_outdated)
        assert version.after(write_disposition="replace") != first

    def test_a_nested_row_counts_as_the_assets_own(self, version):
        def rows(actor):
            return [{"id": 1, "title": "Moon", "actors": [{"name": actor}]}]

        first = version.after(rows("Sam"))
        assert version.after(rows("Sam")) == first
        assert version.after(rows("Kevin")) != first

    def test_a_source_that_never_has_a_row_keeps_it(self, version):
        assert version.after([]) == version.after([])

    def test_a_refresh_that_finds_nothing_makes_a_new_one(self, version):
        @qdrant_assets(dlt_source=films([]), dataset_name=DATASET)
        def refreshed(context: dg.AssetExecutionContext, qdrant: QdrantResource):
            yield from qdrant.run(context, refresh="drop_resources")

        first = version.after()
        assert version.after(assets=refreshed) != first

    def test_points_that_somebody_deleted_make_a_new_one(self, version, memory):
        first = version.after(write_disposition="append")
        with memory.get_client() as client:
            [point, *_], _ = client.scroll(f"{DATASET}_films")
            client.delete(f"{DATASET}_films", [point.id])
        assert version.after([], write_disposition="append") != first

    def test_what_a_failed_load_wrote_makes_a_new_one(self, version, monkeypatch):
        from dagster_qdrant.destination.job_client import QdrantJobClient

        first = version.after()
        changed = [{"id": 1, "title": "Moon Pie"}, {"id": 2, "title": "Her"}]
        with monkeypatch.context() as broken:

            def fails(*_):
                raise QdrantTerminalError("no more")

            broken.setattr(QdrantJobClient, "complete_load", fails)
            assert not version.run(films_of(changed), raise_on_error=False).success
        second = version.after(changed)  # finds all rows as they should be
        assert second != first
        assert version.after(changed) == second

    def test_what_another_program_loaded_makes_a_new_one(self, version, memory, tmp_path):
        changed = [{"id": 1, "title": "Moon Pie"}]
        first = version.after()
        pipeline = dlt.pipeline(
            "script",
            destination=memory.destination(),
            dataset_name=DATASET,
            pipelines_dir=str(tmp_path),
        )
        pipeline.run(films(changed))
        assert version.after(changed) != first

    def test_each_partition_keeps_its_own(self, version):
        @qdrant_assets(
            dlt_source=films(),
            dataset_name=DATASET,
            partitions_def=dg.StaticPartitionsDefinition(["1", "2"]),
        )
        def assets(context: dg.AssetExecutionContext, qdrant: QdrantResource):
            number = int(context.partition_key)
            yield from qdrant.run(context, dlt_source=films([{"id": number, "title": "a film"}]))

        one, two = (version.after(assets=assets, partition_key=key) for key in "12")
        assert one != two
        assert version.after(assets=assets, partition_key="1") == one
        assert version.after(assets=assets, partition_key="2") == two

    @pytest.mark.parametrize("disposition", ["append", "replace"])
    def test_rows_of_a_partition_that_were_removed_make_a_new_one(
        self, version, memory, disposition
    ):
        rows = {"1": [{"id": 1, "title": "Moon"}], "2": [{"id": 2, "title": "Her"}]}

        @qdrant_assets(
            dlt_source=films(write_disposition=disposition),
            dataset_name=DATASET,
            partitions_def=dg.StaticPartitionsDefinition(["1", "2"]),
        )
        def assets(context: dg.AssetExecutionContext, qdrant: QdrantResource):
            source = films(rows[context.partition_key], write_disposition=disposition)
            yield from qdrant.run(context, dlt_source=source)

        def after(partition):
            return version.after(assets=assets, partition_key=partition)

        one, two = after("1"), after("2")
        rows["1"] = []
        if disposition == "replace":
            memory.drop_partition(DATASET, "films", "1")
        else:
            rows["2"] = []
            match = models.FieldCondition(key="id", match=models.MatchValue(value=1))
            memory.delete_rows(DATASET, "films", models.Filter(must=[match]))
        less = after("1")
        assert less != one
        assert after("1") == less
        # Which partition the rows of a filter were of is not known.
        assert (after("2") == two) == (disposition == "replace")

    @pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
    def test_nothing_downstream_runs_for_a_load_that_changed_nothing(self, version):
        @dg.asset(
            deps=[KEY],
            automation_condition=dg.AutomationCondition.eager().replace(
                "newly_updated", dg.AutomationCondition.data_version_changed()
            ),
        )
        def summary(): ...

        def requested(rows, cursor):
            version.after(rows)
            defs = dg.Definitions([films_of(rows), summary], resources=version.resources)
            evaluated = dg.evaluate_automation_conditions(
                defs, instance=version.instance, cursor=cursor
            )
            return evaluated.total_requested, evaluated.cursor

        version.after()
        version.run(summary)
        _, cursor = requested(FILMS, None)
        unchanged, cursor = requested(FILMS, cursor)
        changed, cursor = requested([{"id": 1, "title": "Moon Pie"}], cursor)
        assert (unchanged, changed) == (0, 1)


class TestCodeVersion:
    def test_it_changes_with_what_decides_how_rows_become_points(self, monkeypatch):
        def code_version(*rows, **hints):
            [spec] = films_of(*rows, **hints).specs
            return spec.code_version

        versions = [
            code_version(),
            code_version(embed=["title", "plot"]),
            code_version(primary_key="title"),
            code_version(write_disposition="append"),
            code_version(index=["title"]),
            code_version(collection={"on_disk": True}),
        ]
        assert code_version([]) == versions[0]
        monkeypatch.setenv("DESTINATION__QDRANT__MODEL", "BAAI/bge-base-en")
        versions.append(code_version())
        monkeypatch.setenv("DESTINATION__QDRANT__PASSAGE_PREFIX", "passage: ")
        versions.append(code_version())
        assert all(versions)
        assert len(set(versions)) == len(versions)

    def test_a_translators_own_wins(self):
        class Mine(QdrantDltTranslator):
            def get_asset_spec(self, data):
                return super().get_asset_spec(data).replace_attributes(code_version="7")

        [spec] = build_qdrant_assets(dlt_source=films(), dagster_dlt_translator=Mine()).specs
        assert spec.code_version == "7"

    def test_hints_that_depend_on_the_row_are_left_out(self):
        [spec] = films_of(table_name=lambda row: "t").specs
        assert spec.code_version
        assert spec.metadata["embed"] == "title"
        assert spec.metadata["write_disposition"] == "merge"
        assert "primary_key" not in spec.metadata

    def test_the_page_of_an_asset_shows_its_hints_before_any_run(self):
        hints = {"disposition": "merge", "strategy": "upsert"}
        [spec] = films_of(primary_key=("id", "title"), write_disposition=hints).specs
        assert spec.metadata["primary_key"] == "id, title"
        assert spec.metadata["write_disposition"] == "merge"

    def test_an_asset_whose_code_changed_is_out_of_date(self, version):
        # What the UI shows; Dagster has no public name for it.
        from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
        from dagster._core.loader import LoadingContextForTest

        def status(assets):
            graph = dg.Definitions([assets], resources=version.resources).resolve_asset_graph()
            context = LoadingContextForTest(version.instance)
            resolver = CachingStaleStatusResolver(version.instance, graph, context)
            return resolver.get_status(KEY), [c.reason for c in resolver.get_stale_causes(KEY)]

        before = films_of()
        version.after(assets=before)
        assert status(before) == (StaleStatus.FRESH, [])
        after = films_of(embed=["title", "plot"], columns={"plot": {"data_type": "text"}})
        assert status(after) == (StaleStatus.STALE, ["has a new code version"])
        version.after(assets=after)
        assert status(after) == (StaleStatus.FRESH, [])
