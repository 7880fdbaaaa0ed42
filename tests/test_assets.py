"""dlt sources as Dagster assets: their specs, their runs, and what a run shows."""

import logging
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import dagster as dg
import dlt
import pytest
from dagster_dlt import DagsterDltTranslator
from dlt.sources.sql_database import sql_database

from dagster_qdrant import (
    QdrantDltTranslator,
    QdrantResource,
    QdrantTerminalError,
    build_qdrant_assets,
    build_qdrant_checks,
    qdrant_adapter,
    qdrant_assets,
)
from tests.targets import Target, shared_server

pytestmark = pytest.mark.in_memory

FILMS = [{"id": 1, "title": "Blade Runner"}, {"id": 2, "title": "Her"}]
ACTORS = [{"id": 1, "name": "Harrison Ford"}]


def films(rows=FILMS, name="films", **hints):
    hints = {"write_disposition": "merge", "primary_key": "id"} | hints
    return qdrant_adapter(dlt.resource(rows, name=name, **hints), embed="title")


@dlt.resource(name="actors", write_disposition="merge", primary_key="id")
def _actors():
    """People who play in films."""
    yield ACTORS


def actors():
    return qdrant_adapter(_actors(), embed="name")


def run(assets, resource, **options):
    assets = assets if isinstance(assets, list) else [assets]
    return dg.materialize(assets, resources={"qdrant": resource}, **options)


def shown(result, *key):
    [event] = [
        event
        for event in result.get_asset_materialization_events()
        if event.asset_key == dg.AssetKey(key)
    ]
    return {name: entry.value for name, entry in event.materialization.metadata.items()}


def ids(qdrant_target: Target, collection: str) -> list[int]:
    return sorted(row["id"] for row in qdrant_target.rows(collection))


class TestSpecs:
    def test_an_asset_is_named_after_dataset_and_table(self):
        assets = build_qdrant_assets(dlt_source=films(), dataset_name="MoviesDataset")
        [spec] = assets.specs
        assert spec.key == dg.AssetKey(["MoviesDataset", "films"])
        assert spec.kinds == {"dlt", "qdrant"}
        assert spec.metadata["dagster/table_name"] == "movies_dataset_films"
        assert spec.metadata["embed"] == "title"
        assert spec.metadata["write_disposition"] == "merge"

    def test_without_a_dataset_the_table_alone_names_it(self):
        [spec] = build_qdrant_assets(dlt_source=films()).specs
        assert spec.key == dg.AssetKey(["films"])
        assert spec.metadata["dagster/table_name"] == "films"

    def test_the_docstring_of_a_resource_describes_its_asset(self):
        [spec] = build_qdrant_assets(dlt_source=actors(), dataset_name="d").specs
        assert spec.description == "People who play in films."

    def test_a_transformer_by_itself_will_do(self):
        @dlt.transformer(data_from=films(), name="chunks")
        def chunks(rows):
            yield rows

        assert build_qdrant_assets(dlt_source=chunks).keys == {dg.AssetKey(["chunks"])}

    def test_a_source_a_resource_and_a_list_will_do(self):
        @dlt.source
        def cinema():
            yield films()
            yield actors()

        for source in (cinema(), [films(), actors()]):
            assets = build_qdrant_assets(dlt_source=source, dataset_name="d")
            assert {key.path[-1] for key in assets.keys} == {"films", "actors"}

    def test_only_selected_resources_become_assets(self):
        @dlt.source
        def cinema():
            yield films()
            yield actors()

        assets = build_qdrant_assets(dlt_source=cinema().with_resources("films"), dataset_name="d")
        assert assets.keys == {dg.AssetKey(["d", "films"])}

    def test_anything_else_is_refused_with_what_to_do(self):
        @dlt.source
        def cinema():
            yield films()

        for data, said in (
            ([{"title": "Moon"}], "a list that holds something of type dict.*qdrant_adapter"),
            ("films", "of type str"),
            (7, "of type int"),
            ([], "an empty list"),
            (lambda: [1], "the function `<lambda>`. Decorate it with `@dlt.resource`"),
            (cinema, "the source function `cinema`. Call it: `cinema\\(\\)`"),
            ([cinema()], "a list with the source `cinema`.*list\\(source.resources.values"),
        ):
            with pytest.raises(TypeError, match=f"`dlt_source` is {said}"):
                build_qdrant_assets(dlt_source=data, dataset_name="d")
        with pytest.raises(TypeError, match="`dataset_name` is 5; it must be text"):
            build_qdrant_assets(dlt_source=films(), dataset_name=5)

    def test_a_resource_that_needs_arguments_is_said_to(self):
        @dlt.resource
        def films_of(year):
            yield {"year": year}

        with pytest.raises(dg.DagsterInvalidDefinitionError, match="Call it with them: `films_of"):
            build_qdrant_assets(dlt_source=films_of, dataset_name="d")

    def test_what_dagster_dlts_factory_takes_has_its_effect(self):
        @dg.failure_hook
        def tell(context): ...

        partitions = dg.DailyPartitionsDefinition("2026-01-01")
        assets = build_qdrant_assets(
            dlt_source=films(),
            dataset_name="d",
            name="load_films",
            group_name="cinema",
            partitions_def=partitions,
            op_tags={"team": "search"},
            hooks={tell},
            pool="qdrant",
            retry_policy=dg.RetryPolicy(max_retries=3),
        )
        [spec] = assets.specs
        assert (assets.op.name, spec.group_name) == ("load_films", "cinema")
        assert spec.partitions_def == partitions
        assert assets.backfill_policy == dg.BackfillPolicy.single_run()
        assert (assets.op.tags["team"], assets.op.pool) == ("search", "qdrant")
        assert assets.op.retry_policy == dg.RetryPolicy(max_retries=3)
        assert assets.hook_defs == {tell}
        policy = dg.BackfillPolicy.multi_run(5)
        assets = build_qdrant_assets(
            dlt_source=films(), partitions_def=partitions, backfill_policy=policy
        )
        assert assets.backfill_policy == policy

    def test_a_resource_may_have_another_key(self, model, dataset):
        places = {key: f":memory:{dataset}-{key}" for key in ("qdrant", "archive")}
        resources = {key: QdrantResource(location=at, **model) for key, at in places.items()}
        loads = build_qdrant_assets(dlt_source=films(), dataset_name="a")
        archives = build_qdrant_assets(dlt_source=films(), dataset_name="b", resource_key="archive")
        checks = build_qdrant_checks([loads, archives])
        result = dg.materialize([loads, archives, *checks], resources=resources)
        assert all(check.passed for check in result.get_asset_check_evaluations())
        assert "a_films" in Target("memory", {"location": places["qdrant"]}).collections()
        assert "b_films" in Target("memory", {"location": places["archive"]}).collections()

    def test_a_resource_that_is_none_of_ours_is_named_with_its_key(self):
        assets = build_qdrant_assets(dlt_source=films(), dataset_name="d", resource_key="archive")
        other = dg.ResourceDefinition.hardcoded_resource("something else")
        with pytest.raises(dg.DagsterInvalidDefinitionError, match="key `archive` is a str"):
            dg.materialize([assets], resources={"archive": other})

    def test_a_function_of_a_partitions_key_is_a_source(
        self, resource, qdrant_target: Target, dataset
    ):
        def of_a_year(year):
            return films([{"id": int(year), "title": "a film"}], write_disposition="replace")

        partitions = dg.StaticPartitionsDefinition(["1982", "2009"])
        assets = build_qdrant_assets(
            dlt_source=of_a_year, dataset_name=dataset, partitions_def=partitions
        )
        for year in ("1982", "2009"):
            assert run(assets, resource, partition_key=year).success
        assert ids(qdrant_target, f"{dataset}_films") == [1982, 2009]

    @pytest.mark.parametrize("partitions", [None, dg.DynamicPartitionsDefinition(name="any")])
    def test_a_function_of_a_partitions_key_needs_a_partition(self, partitions):
        with pytest.raises(dg.DagsterInvalidDefinitionError, match="the key of a partition"):
            build_qdrant_assets(dlt_source=lambda key: films(), partitions_def=partitions)

    def test_a_translator_sets_anything(self):
        class Mine(QdrantDltTranslator):
            def get_asset_spec(self, data):
                return (
                    super()
                    .get_asset_spec(data)
                    .replace_attributes(
                        key=dg.AssetKey(["mine", data.table_name]),
                        group_name="g",
                        owners=["team:search"],
                        tags={"dataset": data.dataset_name},
                        deps=[dg.AssetKey("upstream")],
                        automation_condition=dg.AutomationCondition.eager(),
                        code_version="7",
                    )
                )

        assets = build_qdrant_assets(
            dlt_source=films(), dataset_name="d", dagster_dlt_translator=Mine()
        )
        [spec] = assets.specs
        assert spec.key == dg.AssetKey(["mine", "films"])
        assert (spec.group_name, spec.owners, spec.tags["dataset"]) == ("g", ["team:search"], "d")
        assert [dep.asset_key for dep in spec.deps] == [dg.AssetKey("upstream")]
        assert spec.automation_condition == dg.AutomationCondition.eager()
        assert spec.code_version == "7"

    def test_assets_upstream_are_of_all_or_of_one_resource(self):
        @dg.multi_asset(specs=[dg.AssetSpec(["raw", "a"]), dg.AssetSpec(["raw", "b"])])
        def raw(): ...

        class AfterC(QdrantDltTranslator):
            def get_asset_spec(self, data):
                return super().get_asset_spec(data).replace_attributes(deps=["c"])

        def upstream(deps, **options) -> dict[str, set[str]]:
            source = [films(), actors()]
            assets = build_qdrant_assets(dlt_source=source, deps=deps, **options)
            return {
                spec.key.path[-1]: {dep.asset_key.to_user_string() for dep in spec.deps}
                for spec in assets.specs
            }

        assert upstream(None) == {"films": set(), "actors": set()}
        assert upstream("c") == {"films": {"c"}, "actors": {"c"}}
        several = {"raw/a", "raw/b", "c"}
        assert upstream([raw, "c"]) == {"films": several, "actors": several}
        assert upstream({"films": raw, "actors": dg.AssetSpec("c")}) == {
            "films": {"raw/a", "raw/b"},
            "actors": {"c"},
        }
        assert upstream({"films": dg.AssetKey(["raw", "a"])}) == {
            "films": {"raw/a"},
            "actors": set(),
        }
        assert upstream({"films": ["d"]}, dagster_dlt_translator=AfterC()) == {
            "films": {"c", "d"},
            "actors": {"c"},
        }
        with pytest.raises(dg.DagsterInvalidDefinitionError, match="resource `film`. There are"):
            upstream({"film": ["c"]})

    def test_two_places_for_the_group_are_refused(self):
        class Grouped(QdrantDltTranslator):
            def get_asset_spec(self, data):
                return super().get_asset_spec(data).replace_attributes(group_name="g")

        with pytest.raises(dg.DagsterInvariantViolationError, match="the translator sets groups"):
            build_qdrant_assets(
                dlt_source=films(), group_name="other", dagster_dlt_translator=Grouped()
            )

    def test_no_live_object_is_kept_in_metadata(self):
        [spec] = build_qdrant_assets(dlt_source=films(), dataset_name="d").specs
        assert all(isinstance(value, str) for value in spec.metadata.values())


class TestRuns:
    def test_the_decorator_and_the_factory_load_alike(
        self, resource, qdrant_target: Target, dataset
    ):
        @qdrant_assets(dlt_source=[films(), actors()], dataset_name=dataset)
        def cinema(context: dg.AssetExecutionContext, qdrant: QdrantResource):
            yield from qdrant.run(context)

        assert run(cinema, resource).success
        assert ids(qdrant_target, f"{dataset}_films") == [1, 2]
        assert ids(qdrant_target, f"{dataset}_actors") == [1]
        built = build_qdrant_assets(dlt_source=[films(), actors()], dataset_name=f"{dataset}_b")
        assert run(built, resource).success
        assert ids(qdrant_target, f"{dataset}_b_films") == [1, 2]

    def test_a_materialization_shows_what_was_loaded(
        self, resource, qdrant_target: Target, dataset
    ):
        assets = build_qdrant_assets(dlt_source=films(), dataset_name=dataset)
        first = shown(run(assets, resource), dataset, "films")
        rates = ("tokens_embedded", "tokens_per_second")
        assert all(first[name] > 0 for name in rates)
        metadata = shown(run(assets, resource), dataset, "films")
        assert [metadata[name] for name in rates] == [0, 0]
        collection = f"{dataset}_films"
        assert metadata["dagster/row_count"] == 2
        assert metadata["dagster/table_name"] == collection
        assert (metadata["rows_loaded"], metadata["rows_embedded"]) == (2, 0)
        assert (metadata["rows_reused"], metadata["points_unchanged"]) == (2, 2)
        assert all(metadata[f"seconds_{step}"] >= 0 for step in ("embedding", "writing"))
        assert re.fullmatch(
            r"2 rows loaded in [\d.]+ s: 0 embedded, 2 reused, 2 points unchanged\.",
            metadata["summary"],
        )
        details = metadata["details"].replace("\\", "")
        for line in (
            f"| dataset | {dataset} |",
            f"| collection | {collection} |",
            "| write disposition | merge |",
            "| model | sentence-transformers/all-MiniLM-L6-v2 |",
            "| vector | fast-all-minilm-l6-v2 |",
            "| size of the vector | 384 dimensions |",
        ):
            assert line in details
        assert re.search(r"\| reading the source \| [\d.]+ s \|", details)
        assert list(metadata)[:3] == ["summary", "dagster/row_count", "preview"]
        columns = {column.name: column for column in metadata["dagster/column_schema"].columns}
        assert columns["id"].type == "bigint"
        assert columns["id"].constraints.other == ["primary key"]
        assert columns["title"].constraints.other == ["embedded"]

    def test_a_subset_loads_only_what_is_selected(self, resource, qdrant_target: Target, dataset):
        assets = build_qdrant_assets(dlt_source=[films(), actors()], dataset_name=dataset)
        result = run(
            assets, resource, selection=dg.AssetSelection.keys(dg.AssetKey([dataset, "actors"]))
        )
        assert [e.asset_key.path[-1] for e in result.get_asset_materialization_events()] == [
            "actors"
        ]
        assert f"{dataset}_films" not in qdrant_target.collections()

    def test_an_incremental_resource_goes_on_in_the_next_run(
        self, resource, qdrant_target: Target, dataset
    ):
        seen = []

        @dlt.resource(name="films", primary_key="id")
        def growing(since=dlt.sources.incremental("id", initial_value=0)):
            seen.append(since.last_value)
            yield [{"id": since.last_value + 1, "title": "next"}]

        assets = build_qdrant_assets(
            dlt_source=qdrant_adapter(growing, embed="title"), dataset_name=dataset
        )
        for _ in range(3):
            assert run(assets, resource).success
        assert seen == [0, 1, 2]
        assert ids(qdrant_target, f"{dataset}_films") == [1, 2, 3]

    def test_the_model_is_loaded_for_the_first_load_and_only_then(
        self, resource, dataset, monkeypatch
    ):
        from dagster_qdrant.embedding import embedder

        monkeypatch.setattr(embedder, "_embedders", {})
        assets = build_qdrant_assets(dlt_source=films(), dataset_name=dataset)
        run(assets, resource)
        assert len(embedder._embedders) == 1
        embedder._embedders.clear()
        run(assets, resource)
        assert not embedder._embedders

    def test_a_failed_run_does_not_poison_the_next(self, resource, qdrant_target: Target, dataset):
        rows = [{"id": 1, "title": "Moon"}, {"id": None, "title": "no key"}]
        assets = build_qdrant_assets(dlt_source=films(rows), dataset_name=dataset)
        assert not run(assets, resource, raise_on_error=False).success
        rows[1]["id"] = 2
        assert run(assets, resource).success
        assert ids(qdrant_target, f"{dataset}_films") == [1, 2]

    def test_rows_of_a_failed_append_do_not_come_twice(
        self, resource, qdrant_target: Target, dataset, monkeypatch
    ):
        from dagster_qdrant.destination import load_job
        from dagster_qdrant.destination.writing.point_writer import PointWriter

        monkeypatch.setattr(load_job, "_WINDOW_ROWS", 4)
        rows = [{"id": number, "title": f"film {number}"} for number in range(20)]
        assets = build_qdrant_assets(
            dlt_source=films(rows, write_disposition="append"), dataset_name=dataset
        )
        with monkeypatch.context() as broken:
            settle = PointWriter.settle

            def fails_after_some_windows(writer):
                settle(writer)
                if writer.seconds and len(qdrant_target.points(f"{dataset}_films")) >= 8:
                    raise QdrantTerminalError("no more")

            broken.setattr(PointWriter, "settle", fails_after_some_windows)
            assert not run(assets, resource, raise_on_error=False).success
        assert run(assets, resource).success
        assert ids(qdrant_target, f"{dataset}_films") == list(range(20))

    def test_runs_at_once_of_one_pipeline_do_not_disturb_each_other(
        self, resource, qdrant_target: Target, dataset
    ):
        meet = threading.Barrier(3, timeout=60)

        def rows(first):
            meet.wait()
            yield from ({"id": first + n, "title": f"film {first + n}"} for n in range(20))

        def load(number):
            assets = build_qdrant_assets(
                dlt_source=films(rows(number * 100)), dataset_name=dataset, pipeline_name="same"
            )
            return run(assets, resource).success

        with ThreadPoolExecutor(3) as pool:
            assert all(pool.map(load, range(3)))
        assert len(ids(qdrant_target, f"{dataset}_films")) == 60
        assert logging.getLogger("dagster_qdrant").level == logging.NOTSET  # as it was

    def test_two_wrapped_tables_of_a_database(
        self, resource, qdrant_target: Target, dataset, tmp_path
    ):
        import sqlite3

        with sqlite3.connect(tmp_path / "shop.db") as database:
            database.execute("create table products (id integer primary key, description text)")
            database.execute("create table reviews (id integer primary key, text text)")
            database.execute("create table orders (id integer primary key)")
            database.execute("insert into products values (1, 'a chair'), (2, 'a table')")
            database.execute("insert into reviews values (7, 'very good')")
            database.execute("insert into orders values (9)")
        database.close()
        tables = sql_database(f"sqlite:///{tmp_path / 'shop.db'}")
        qdrant_adapter(tables.products, embed="description")
        qdrant_adapter(tables.reviews, embed="text")
        assert run(build_qdrant_assets(dlt_source=tables, dataset_name=dataset), resource).success
        assert all(p.vector for p in qdrant_target.points(f"{dataset}_products", vectors=True))
        assert all(p.vector for p in qdrant_target.points(f"{dataset}_reviews", vectors=True))
        assert not any(p.vector for p in qdrant_target.points(f"{dataset}_orders", vectors=True))

    def test_a_partition_is_loaded_with_a_source_made_for_it(
        self, resource, qdrant_target: Target, dataset
    ):
        partitions = dg.StaticPartitionsDefinition(["1982", "2013"])

        @qdrant_assets(dlt_source=films(), dataset_name=dataset, partitions_def=partitions)
        def by_year(context: dg.AssetExecutionContext, qdrant: QdrantResource):
            year = int(context.partition_key)
            yield from qdrant.run(context, dlt_source=films([{"id": year, "title": "a film"}]))

        for year in ("1982", "2013"):
            result = run(by_year, resource, partition_key=year)
        assert ids(qdrant_target, f"{dataset}_films") == [1982, 2013]
        metadata = shown(result, dataset, "films")
        assert metadata["dagster/partition_row_count"] == 1
        assert metadata["dagster/row_count"] == 2

    def test_options_of_dlts_extract_are_handed_on(self, resource, qdrant_target: Target, dataset):
        @qdrant_assets(dlt_source=films(), dataset_name=dataset)
        def cinema(context: dg.AssetExecutionContext, qdrant: QdrantResource):
            yield from qdrant.run(context, write_disposition="append")

        for _ in range(2):
            run(cinema, resource)
        assert ids(qdrant_target, f"{dataset}_films") == [1, 1, 2, 2]

    def test_an_op_loads_too(self, resource, qdrant_target: Target, dataset):
        @dg.op(out=dg.Out(dg.Nothing))
        def load(context: dg.OpExecutionContext, qdrant: QdrantResource):
            yield from qdrant.run(context, dlt_source=films(), dataset_name=dataset)
            yield dg.Output(None)

        @dg.job
        def loading():
            load()

        result = loading.execute_in_process(resources={"qdrant": resource})
        [event] = [e for e in result.all_events if e.is_step_materialization]
        assert event.asset_key == dg.AssetKey([dataset, "films"])
        assert ids(qdrant_target, f"{dataset}_films") == [1, 2]

    def test_an_asset_that_is_not_ours_has_to_say_what_to_load(self, resource, dataset):
        @dg.asset
        def other(context: dg.AssetExecutionContext, qdrant: QdrantResource):
            list(qdrant.run(context))

        with pytest.raises(dg.DagsterInvariantViolationError, match="Give it a `dlt_source`"):
            run(other, resource)

    def test_a_translator_of_dagster_dlt_works(self, resource, qdrant_target: Target, dataset):
        assets = build_qdrant_assets(
            dlt_source=films(), dataset_name=dataset, dagster_dlt_translator=DagsterDltTranslator()
        )
        [spec] = assets.specs
        assert spec.kinds == {"dlt", "qdrant"}
        assert run(assets, resource).success
        assert ids(qdrant_target, f"{dataset}_films") == [1, 2]

    def test_a_translator_with_dagster_dlts_former_methods_works(self, resource, dataset):
        class Old(DagsterDltTranslator):
            def get_asset_key(self, resource):
                return dg.AssetKey(f"old_{resource.name}")

        assets = build_qdrant_assets(
            dlt_source=films(), dataset_name=dataset, dagster_dlt_translator=Old()
        )
        assert assets.keys == {dg.AssetKey("old_films")}
        assert run(assets, resource).success


class TestFailures:
    def test_the_first_line_says_what_to_do(self, resource, dataset):
        assets = build_qdrant_assets(
            dlt_source=films(write_disposition="merge", primary_key=None), dataset_name=dataset
        )
        result = run(assets, resource, raise_on_error=False)
        [failure] = [event for event in result.all_events if event.is_step_failure]
        assert (
            "no key, by which its rows are distinguished" in failure.step_failure_data.error.message
        )

    def test_an_unknown_model_is_refused_before_the_source_is_read(
        self, qdrant_target: Target, dataset
    ):
        def rows():
            raise AssertionError("the source was read")
            yield

        assets = build_qdrant_assets(dlt_source=films(rows), dataset_name=dataset)
        unknown = QdrantResource(**qdrant_target.options, model="no/such-model")
        result = run(assets, unknown, raise_on_error=False)
        [failure] = [event for event in result.all_events if event.is_step_failure]
        assert "which fastembed does not know" in failure.step_failure_data.error.message

    def test_what_cannot_succeed_is_not_tried_again(self, resource, dataset):
        attempts = []

        def rows():
            attempts.append(1)
            yield {"id": None, "title": "no key"}

        assets = build_qdrant_assets(
            dlt_source=films(rows),
            dataset_name=dataset,
            retry_policy=dg.RetryPolicy(max_retries=3),
        )
        assert not run(assets, resource, raise_on_error=False).success
        assert len(attempts) == 1

    def test_what_may_succeed_is_tried_again(self, dataset, model):
        unreachable = QdrantResource(location="http://127.0.0.1:9", upload_max_retries=0, **model)
        assets = build_qdrant_assets(
            dlt_source=films(),
            dataset_name=dataset,
            retry_policy=dg.RetryPolicy(max_retries=1),
        )
        result = run(assets, unreachable, raise_on_error=False)
        assert len([e for e in result.all_events if e.is_step_restarted]) == 1

    def test_a_key_shows_in_no_event_and_no_log(self, dataset, model, monkeypatch, capfd):
        monkeypatch.setenv("THE_KEY", "very-secret-and-wrong")
        refused = QdrantResource(
            location=shared_server().url, api_key=dg.EnvVar("THE_KEY"), **model
        )
        assets = build_qdrant_assets(dlt_source=films(), dataset_name=dataset)
        result = run(assets, refused, raise_on_error=False)
        [failure] = [event for event in result.all_events if event.is_step_failure]
        assert "refused the API key" in failure.step_failure_data.error.message
        events = "".join(str(event) for event in result.all_events)
        assert "very-secret-and-wrong" not in events + "".join(capfd.readouterr())

    def test_a_failure_of_the_source_stays_its_own(self, resource, dataset):
        def rows():
            yield {"id": 1, "title": "Moon"}
            raise KeyError("the API's answer has no 'films'")

        assets = build_qdrant_assets(dlt_source=films(rows), dataset_name=dataset)
        with pytest.raises(Exception, match="the API's answer has no 'films'"):
            run(assets, resource)


def test_two_multi_assets_share_a_path_under_the_multiprocess_executor(tmp_path, model):
    path = str(tmp_path / "qdrant")
    job = dg.build_reconstructable_job(
        "tests.two_multi_assets", "job", reconstructable_args=({"path": path, **model},)
    )
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        assert dg.execute_job(job, instance=instance).success
    qdrant_target = Target("path", {"path": path})
    assert (
        ids(qdrant_target, "shared_films") == ids(qdrant_target, "shared_books") == list(range(20))
    )
