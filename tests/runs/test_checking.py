"""Asset checks: they pass after a load, and each fails when its collection is really broken."""

import uuid

import dagster as dg
import dlt
import pytest
from qdrant_client.http import models

from dagster_qdrant import (
    QdrantResource,
    build_qdrant_assets,
    build_qdrant_checks,
    qdrant_adapter,
    qdrant_assets,
)
from dagster_qdrant.destination import load_job
from tests.qdrant_server import ServerProcess
from tests.targets import API_KEY, Target

VECTOR = "fast-all-minilm-l6-v2"
VECTOR_CHECKS = {"all_vectors_present", "no_text_cut", "search_finds_row", "vectors_valid"}
CHECKS = {"all_rows_present", "collection_healthy", "no_orphans"} | VECTOR_CHECKS
# One row with text, so that what is sampled is known.
FILMS = [
    {"id": 1, "title": "Blade Runner", "cast": [{"name": "Harrison Ford"}, {"name": "Sean Young"}]},
    {"id": 2, "year": 2013},
]


def films(rows=FILMS, **hints):
    hints = {"name": "films", "write_disposition": "merge", "primary_key": "id"} | hints
    columns = {"title": {"data_type": "text"}}
    return qdrant_adapter(dlt.resource(rows, columns=columns, **hints), embed="title")


class Cinema:
    """Assets that are loaded and then checked by the checks apart from them."""

    def __init__(self, resource: QdrantResource, target: Target, dataset: str) -> None:
        self.target = target
        self.resource = resource
        self.collection = f"{dataset}_films"
        self.assets = build_qdrant_assets(dlt_source=films(), dataset_name=dataset)
        self.instance = dg.DagsterInstance.ephemeral()

    def run(self, *definitions, **options):
        return dg.materialize(
            definitions, resources={"qdrant": self.resource}, instance=self.instance, **options
        )

    def load(self):
        assert self.run(self.assets).success

    def check(self, **options):
        checks = build_qdrant_checks([self.assets])
        selection = dg.AssetSelection.checks(*checks)
        result = self.run(self.assets, *checks, selection=selection, **options)
        assert not result.get_asset_materialization_events()
        return result

    def failing(self) -> dict[str, str]:
        """The checks that fail, with what they say."""
        evaluations = self.check().get_asset_check_evaluations()
        assert {evaluation.check_name for evaluation in evaluations} == CHECKS
        return {e.check_name: e.description for e in evaluations if not e.passed}

    def change(self, method: str, *arguments, **options):
        with self.resource.get_client() as client:
            return getattr(client, method)(*arguments, **options)

    def point(self, **columns) -> str:
        [point] = [
            point
            for point in self.target.points(self.collection)
            if columns.items() <= point.payload.items()
        ]
        return point.id


@pytest.fixture
def in_memory(model) -> QdrantResource:
    """For what does not depend on the kind of Qdrant."""
    return QdrantResource(location=f":memory:{uuid.uuid4().hex}", **model)


@pytest.fixture
def cinema(resource, qdrant_target: Target, dataset) -> Cinema:
    return Cinema(resource, qdrant_target, dataset)


def numbers(result, check_name: str) -> dict:
    [evaluation] = [e for e in result.get_asset_check_evaluations() if e.check_name == check_name]
    return {name: value.value for name, value in evaluation.metadata.items()}


def passed(result) -> dict[str, bool]:
    return {e.check_name: e.passed for e in result.get_asset_check_evaluations()}


class TestWithALoad:
    @pytest.mark.parametrize("disposition", ["append", "merge", "replace"])
    def test_they_pass_and_show_numbers(self, resource, dataset, disposition):
        assets = build_qdrant_assets(
            dlt_source=films(write_disposition=disposition), dataset_name=dataset, checks=True
        )
        for _ in range(2):
            result = dg.materialize([assets], resources={"qdrant": resource})
            assert passed(result) == dict.fromkeys(CHECKS, True)
        shown = numbers(result, "all_rows_present")
        changed = 2 if disposition == "append" else 0  # by the second load
        assert shown["films_loaded"] == shown["films_found"] == changed
        assert shown["films__cast_loaded"] == shown["films__cast_found"] == changed
        assert shown["points"] == (4 if disposition == "append" else 2)
        assert numbers(result, "vectors_valid")["vector_size"] == 384
        assert numbers(result, "all_vectors_present")["points_without_vector"] >= 1
        assert numbers(result, "no_orphans")["films__cast_rows_read"] >= 2
        assert numbers(result, "collection_healthy")["status"] == "green"
        assert numbers(result, "search_finds_row")["similarity_of_best_hit"] > 0.99

    def test_only_what_is_selected_is_checked(self, in_memory):
        assets = build_qdrant_assets(
            dlt_source=[films(), films(name="series")], dataset_name="d", checks=True
        )
        key = dg.AssetKey(["d", "films"])

        def run(selection):
            return dg.materialize([assets], resources={"qdrant": in_memory}, selection=selection)

        result = run(dg.AssetSelection.assets(key))
        assert {e.asset_key for e in result.get_asset_check_evaluations()} == {key}
        result = run(dg.AssetSelection.assets(key).without_checks())
        assert not result.get_asset_check_evaluations()
        one = dg.AssetSelection.checks(dg.AssetCheckKey(key, "no_orphans"))
        assert passed(run(one)) == {"no_orphans": True}

    def test_they_run_without_a_load(self, in_memory):
        assets = build_qdrant_assets(dlt_source=films(), dataset_name="d", checks=True)
        dg.materialize([assets], resources={"qdrant": in_memory})
        checks = dg.AssetSelection.checks_for_assets(assets)
        result = dg.materialize([assets], resources={"qdrant": in_memory}, selection=checks)
        assert passed(result) == dict.fromkeys(CHECKS, True)
        assert not result.get_asset_materialization_events()

    def test_a_partition_is_checked_for_its_own_rows(self, in_memory):
        partitions = dg.StaticPartitionsDefinition(["1982", "2013"])

        @qdrant_assets(dlt_source=films(), dataset_name="d", partitions_def=partitions, checks=True)
        def by_year(context: dg.AssetExecutionContext, qdrant: QdrantResource):
            rows = [{"id": int(context.partition_key), "title": "a film"}]
            yield from qdrant.run(context, dlt_source=films(rows))

        for year in ("1982", "2013"):
            result = dg.materialize([by_year], resources={"qdrant": in_memory}, partition_key=year)
        assert set(passed(result).values()) == {True}
        shown = numbers(result, "all_rows_present")
        assert (shown["films_loaded"], shown["points"]) == (1, 2)

    # In a replaced table, rows with the same key are points of their own.
    @pytest.mark.parametrize(("disposition", "points"), [("merge", 3), ("replace", 7)])
    def test_rows_that_come_twice_are_counted_as_points(
        self, in_memory, disposition, points, monkeypatch
    ):
        monkeypatch.setattr(load_job, "_WINDOW_ROWS", 2)
        rows = [{"id": number % 3, "title": f"take {number}"} for number in range(7)]
        assets = build_qdrant_assets(
            dlt_source=films(rows, write_disposition=disposition),
            dataset_name="d",
            checks=True,
        )
        result = dg.materialize([assets], resources={"qdrant": in_memory})
        assert passed(result)["all_rows_present"]
        assert numbers(result, "all_rows_present")["films_loaded"] == points

    def test_a_collection_that_takes_anothers_place_passes_them(self, model):
        location = f":memory:{uuid.uuid4().hex}"
        swapping = QdrantResource(location=location, replace_strategy="swap", **model)
        assets = build_qdrant_assets(
            dlt_source=films(write_disposition="replace"), dataset_name="d", checks=True
        )
        for _ in range(2):
            result = dg.materialize([assets], resources={"qdrant": swapping})
            assert passed(result) == dict.fromkeys(CHECKS, True)
            assert numbers(result, "all_rows_present")["films_found"] == 2

    def test_deleted_rows_are_not_missed(self, in_memory, monkeypatch):
        monkeypatch.setattr(load_job, "_WINDOW_ROWS", 1)
        columns = {"gone": {"hard_delete": True, "data_type": "bool"}}
        source = films([*FILMS, {"id": 1, "gone": True, "cast": [{"name": "nobody"}]}])
        source.apply_hints(columns=columns)
        assets = build_qdrant_assets(dlt_source=source, dataset_name="d", checks=True)
        result = dg.materialize([assets], resources={"qdrant": in_memory})
        assert set(passed(result).values()) == {True}
        assert numbers(result, "all_rows_present")["films_found"] == 1

    def test_rows_that_came_before_a_column_was_embedded_are_fine(self, in_memory):
        def run(embed):
            rows = [{"id": 1, "title": "Moon", "plot": "A miner is alone."}]
            source = dlt.resource(
                rows if embed == "title" else [], name="films", columns={embed: {}}
            )
            assets = build_qdrant_assets(
                dlt_source=qdrant_adapter(source, embed=embed), dataset_name="d", checks=True
            )
            return dg.materialize([assets], resources={"qdrant": in_memory})

        run("title")
        assert set(passed(run("plot")).values()) == {True}

    def test_a_resource_without_rows_has_nothing_to_miss(self, in_memory):
        assets = build_qdrant_assets(dlt_source=films([]), dataset_name="d", checks=True)
        result = dg.materialize([assets], resources={"qdrant": in_memory})
        assert passed(result) == dict.fromkeys(CHECKS, True)

    def test_a_check_that_qdrant_refuses_does_not_undo_the_load(self, dataset, model):
        with ServerProcess() as server:
            server.fault("answer", status=400, message="no search today", operation="query_batch")
            qdrant = QdrantResource(location=server.url, **model)
            assets = build_qdrant_assets(dlt_source=films(), dataset_name=dataset, checks=True)
            result = dg.materialize([assets], resources={"qdrant": qdrant})
        assert result.get_asset_materialization_events()
        assert {name for name, fine in passed(result).items() if not fine} == {"search_finds_row"}
        [failed] = [e for e in result.get_asset_check_evaluations() if not e.passed]
        assert "It could not be checked" in failed.description
        assert "no search today" in failed.description

    def test_a_strict_server_lets_them_through(self, dataset, model):
        with ServerProcess(api_key=API_KEY, strict=True) as server:
            qdrant = QdrantResource(location=server.url, api_key=API_KEY, **model)
            assets = build_qdrant_assets(dlt_source=films(), dataset_name=dataset, checks=True)
            result = dg.materialize([assets], resources={"qdrant": qdrant})
        assert passed(result) == dict.fromkeys(CHECKS, True)


class TestSpecs:
    def test_there_are_none_unless_asked_for(self):
        assert not build_qdrant_assets(dlt_source=films(), dataset_name="d").check_keys

    def test_a_table_without_vectors_has_no_checks_of_them(self):
        source = dlt.resource([{"id": 1}], name="orders")
        assets = build_qdrant_assets(dlt_source=source, dataset_name="d", checks=True)
        assert {key.name for key in assets.check_keys} == CHECKS - VECTOR_CHECKS

    def test_each_says_what_it_checks_and_none_blocks(self):
        assets = build_qdrant_assets(dlt_source=films(), dataset_name="d", checks=True)
        assert all(spec.description and not spec.blocking for spec in assets.check_specs)

    def test_blocking_checks_keep_what_is_downstream_from_running(self, in_memory):
        assets = build_qdrant_assets(dlt_source=films(), dataset_name="d", checks="blocking")
        assert all(spec.blocking for spec in assets.check_specs)

        @dg.asset(deps=[assets])
        def downstream(): ...

        def made() -> set[str]:
            result = dg.materialize(
                [assets, downstream], resources={"qdrant": in_memory}, raise_on_error=False
            )
            return {e.asset_key.path[-1] for e in result.get_asset_materialization_events()}

        assert made() == {"films", "downstream"}
        with in_memory.get_client() as client:
            [point] = [p for p in client.scroll("d_films")[0] if p.payload["id"] == 1]
            client.delete_vectors("d_films", [VECTOR], [point.id])
        assert made() == {"films"}

    @pytest.mark.parametrize("checks", ["all", 7, None])
    def test_another_value_is_refused(self, checks):
        with pytest.raises(ValueError, match='it must be True, False or "blocking"'):
            build_qdrant_assets(dlt_source=films(), checks=checks)


class TestApartFromLoads:
    def test_they_pass_after_a_load_and_change_nothing(self, cinema):
        cinema.load()
        before = cinema.target.points(cinema.collection, vectors=True)
        assert cinema.failing() == {}
        assert cinema.target.points(cinema.collection, vectors=True) == before

    def test_a_lost_point_is_missed(self, cinema):
        cinema.load()
        cinema.change("delete", cinema.collection, [cinema.point(id=2)])
        failing = cinema.failing()
        assert set(failing) == {"all_rows_present"}
        assert "missing: 1 of table `films`" in failing["all_rows_present"]

    def test_a_lost_nested_point_is_missed(self, cinema):
        cinema.load()
        nested = f"{cinema.collection}__cast"
        cinema.change("delete", nested, [cinema.target.points(nested)[0].id])
        failing = cinema.failing()
        assert set(failing) == {"all_rows_present"}
        assert "missing: 1 of table `films__cast`" in failing["all_rows_present"]

    def test_a_lost_nested_collection_is_missed(self, cinema):
        cinema.load()
        cinema.change("delete_collection", f"{cinema.collection}__cast")
        assert "2 of table `films__cast`" in cinema.failing()["all_rows_present"]

    def test_a_lost_point_of_a_former_load_is_missed(self, cinema, resource, dataset):
        rows = [FILMS[1]]
        cinema.assets = build_qdrant_assets(
            dlt_source=films(rows, write_disposition="append"), dataset_name=dataset
        )
        cinema.load()
        first = cinema.point(id=2)
        cinema.load()
        cinema.change("delete", cinema.collection, [first])
        assert set(cinema.failing()) == {"all_rows_present"}

    def test_rows_that_a_later_load_took_over_are_not_missed(self, cinema, load):
        cinema.load()
        load(films([FILMS[0], {"id": 2, "year": 2014}]))
        assert cinema.failing() == {}
        load(films([FILMS[0]], write_disposition="replace"))
        assert cinema.failing() == {}

    def test_a_text_without_a_vector_is_missed(self, cinema):
        cinema.load()
        point = cinema.point(id=1)
        cinema.change("delete_vectors", cinema.collection, [VECTOR], [point])
        failing = cinema.failing()
        assert set(failing) == {"all_vectors_present"}
        assert point in failing["all_vectors_present"]

    def test_a_vector_of_zeros_is_found(self, cinema):
        cinema.load()
        self.give_vector(cinema, [0.0] * 384)
        failing = cinema.failing()
        assert set(failing) == {"vectors_valid", "search_finds_row"}
        assert "1 of 1 vectors are zero or not finite" in failing["vectors_valid"]

    def test_a_vector_that_is_not_finite_is_found(self, cinema):
        if cinema.target.kind != "grpc":
            pytest.skip("neither JSON nor local mode takes such numbers")
        cinema.load()
        self.give_vector(cinema, [float("nan")] * 384)
        assert "vectors_valid" in cinema.failing()

    def test_the_vector_of_another_text_is_found(self, cinema, embedder):
        cinema.load()
        self.give_vector(cinema, embedder.embed(["a recipe for bread"])[0].tolist())
        failing = cinema.failing()
        assert set(failing) == {"search_finds_row"}
        assert "its vector is that of another text" in failing["search_finds_row"]

    def test_a_search_that_finds_nothing_is_found(self, cinema, monkeypatch):
        from qdrant_client import QdrantClient

        cinema.load()
        nothing = [models.QueryResponse(points=[])]
        monkeypatch.setattr(QdrantClient, "query_batch_points", lambda *_, **__: nothing)
        failing = cinema.failing()
        assert "does not find it, though its vector is right" in failing["search_finds_row"]

    @staticmethod
    def give_vector(cinema, vector):
        point = models.PointVectors(id=cinema.point(id=1), vector={VECTOR: vector})
        cinema.change("update_vectors", cinema.collection, [point])

    def test_an_orphan_is_found(self, cinema):
        cinema.load()
        orphan = str(uuid.uuid4())
        point = models.PointStruct(id=orphan, vector={}, payload={"_dlt_parent_id": "nobody"})
        cinema.change("upsert", f"{cinema.collection}__cast", [point])
        failing = cinema.failing()
        assert set(failing) == {"no_orphans"}
        assert f"1 nested rows have no parent, say point {orphan}" in failing["no_orphans"]

    def test_a_missing_index_is_named_and_the_next_load_restores_it(self, cinema):
        if cinema.target.kind in ("memory", "path"):
            pytest.skip("local mode has no indexes")
        cinema.load()
        cinema.change("delete_payload_index", cinema.collection, "_dlt_load_id")
        failing = cinema.failing()
        assert set(failing) == {"collection_healthy"}
        assert "index on `_dlt_load_id`" in failing["collection_healthy"]
        cinema.load()
        assert cinema.failing() == {}

    def test_a_failure_that_qdrant_reports_is_shown(self, cinema, monkeypatch):
        from dagster_qdrant.qdrant.collections import Collections

        describe = Collections.describe

        def broken(collections, name):
            info = describe(collections, name)
            info.status = models.CollectionStatus.RED
            info.optimizer_status = models.OptimizersStatusOneOf1(error="disk on fire")
            return info

        cinema.load()
        monkeypatch.setattr(Collections, "describe", broken)
        said = cinema.failing()["collection_healthy"]
        assert "red" in said
        assert "disk on fire" in said

    def test_a_collection_of_another_model_is_told_apart(self, cinema, qdrant_target):
        cinema.load()
        cinema.resource = QdrantResource(**qdrant_target.options, model="BAAI/bge-small-en")
        failing = cinema.failing()
        assert set(failing) == VECTOR_CHECKS
        assert all(f"has `{VECTOR}` of size 384, but" in said for said in failing.values())

    def test_a_model_that_cannot_be_loaded_is_named(self, cinema, qdrant_target, model):
        cinema.load()
        unfindable = model | {"model_path": "no/such/folder"}
        cinema.resource = QdrantResource(**qdrant_target.options, **unfindable)
        failing = cinema.failing()
        assert set(failing) == {"no_text_cut", "search_finds_row"}
        assert all("no/such/folder" in said for said in failing.values())

    def test_a_text_that_is_too_long_for_the_model_warns_and_blocks_nothing(self, model, dataset):
        resource = QdrantResource(location=f":memory:{dataset}", **model)
        rows = [*FILMS, {"id": 3, "title": "word " * 600}]
        assets = build_qdrant_assets(
            dlt_source=films(rows), dataset_name=dataset, checks="blocking"
        )
        after = dg.AssetsDefinition.from_op(
            dg.op(name="after")(lambda: None), keys_by_output_name={"result": dg.AssetKey("after")}
        )
        after = dg.map_asset_specs(
            lambda spec: spec.replace_attributes(deps=[dg.AssetKey([dataset, "films"])]),
            [after],
        )[0]
        instance = dg.DagsterInstance.ephemeral()
        for cut in (1, 0):  # the second load embeds nothing
            result = dg.materialize(
                [assets, after], resources={"qdrant": resource}, instance=instance
            )
            assert result.success
            assert len(result.asset_materializations_for_node("after")) == 1
            [shown] = result.asset_materializations_for_node(assets.op.name)
            assert shown.metadata["texts_cut"].value == cut
            assert shown.metadata["tokens_cut"].value == 90 * cut
            [failed] = [c for c in result.get_asset_check_evaluations() if not c.passed]
            assert (failed.check_name, failed.severity) == (
                "no_text_cut",
                dg.AssetCheckSeverity.WARN,
            )
            assert "longer than the model's window of 512 tokens" in failed.description
            assert failed.metadata["tokens_cut_of_longest"].value == 90

    def test_what_was_deleted_or_never_loaded_fails_every_check(self, cinema):
        assert all("never materialized" in said for said in cinema.failing().values())
        cinema.load()
        cinema.change("delete_collection", cinema.collection)
        assert set(cinema.failing()) == CHECKS

    def test_they_read_a_bounded_part(self, cinema, dataset, monkeypatch):
        from dagster_qdrant.runs import checked_table, collection_checks

        monkeypatch.setattr(checked_table, "_SAMPLED_VECTORS", 3)
        monkeypatch.setattr(collection_checks, "_SAMPLED_NESTED_ROWS", 3)
        rows = [{"id": n, "title": f"film {n}", "cast": [{"n": 1}]} for n in range(9)]
        rows += [{"id": n} for n in range(10, 15)]
        cinema.assets = build_qdrant_assets(dlt_source=films(rows), dataset_name=dataset)
        cinema.load()
        result = cinema.check()
        assert set(passed(result).values()) == {True}
        assert numbers(result, "vectors_valid")["vectors_read"] == 3
        assert numbers(result, "no_orphans")["films__cast_rows_read"] == 3

    def test_a_qdrant_that_is_not_there_fails_the_step_in_words(self, cinema, model):
        cinema.resource = QdrantResource(
            location="http://127.0.0.1:9", upload_max_retries=0, **model
        )
        result = cinema.check(raise_on_error=False)
        [failure] = [event for event in result.all_events if event.is_step_failure]
        assert "No Qdrant could be reached" in failure.step_failure_data.error.message

    def test_assets_that_are_not_ours_are_refused(self):
        @dg.asset
        def other(): ...

        with pytest.raises(dg.DagsterInvalidDefinitionError, match="was not made by"):
            build_qdrant_checks([other])
        with pytest.raises(TypeError, match="it must be a list"):
            build_qdrant_checks(other)

    def test_assets_that_check_themselves_are_refused(self):
        assets = build_qdrant_assets(dlt_source=films(), dataset_name="d", checks=True)
        with pytest.raises(dg.DagsterInvalidDefinitionError, match="checks_for_assets"):
            build_qdrant_checks([assets])

    def test_they_can_block(self):
        assets = build_qdrant_assets(dlt_source=films(), dataset_name="d")
        [checks] = build_qdrant_checks([assets], blocking=True)
        assert all(spec.blocking for spec in checks.check_specs)
