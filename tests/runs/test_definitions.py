"""Dagster copies definitions: what is loaded goes with the copies, under their keys."""

from types import ModuleType

import dagster as dg
import dlt
import pytest

from dagster_qdrant import (
    QdrantResource,
    build_qdrant_assets,
    build_qdrant_checks,
    qdrant_adapter,
    qdrant_assets,
)
from tests.targets import Target

pytestmark = pytest.mark.in_memory


def table(name, rows=({"id": 1, "title": "Moon"}, {"id": 2, "title": "Her"})):
    data = dlt.resource(list(rows), name=name, write_disposition="merge", primary_key="id")
    return qdrant_adapter(data, embed="title")


def cinema(dataset, **options):
    return build_qdrant_assets(
        dlt_source=[table("films"), table("actors")], dataset_name=dataset, **options
    )


@dg.asset
def upstream() -> None: ...


def depends(spec):
    return spec.replace_attributes(deps=["upstream"])


def with_deps(assets):
    [copied] = dg.map_asset_specs(depends, [assets])
    return copied


def with_group_and_owners(assets):
    return assets.map_asset_specs(
        lambda spec: spec.replace_attributes(group_name="search", owners=["team:search"])
    )


def with_resolved_specs(assets):
    defs = dg.Definitions(assets=[upstream, assets], resources={"qdrant": QdrantResource()})
    mapped = defs.map_resolved_asset_specs(func=depends, selection=dg.AssetSelection.assets(assets))
    [copied] = [copy for copy in mapped.assets if copy.op.name == assets.op.name]
    return copied


def with_prefix(assets):
    module = ModuleType("a_module_of_assets")
    module.assets = assets
    [copied] = dg.load_assets_from_modules([module], key_prefix="live", group_name="search")
    return copied


def with_other_keys(assets):
    replaced = {key: dg.AssetKey(["mine", key.path[-1]]) for key in assets.keys}
    return with_deps(assets.with_attributes(asset_key_replacements=replaced))


def with_hooks(assets):
    @dg.success_hook
    def tell(context): ...

    return assets.with_hooks({tell})


copies = pytest.mark.parametrize(
    "copy",
    [
        with_deps,
        with_group_and_owners,
        with_resolved_specs,
        with_prefix,
        with_other_keys,
        with_hooks,
    ],
)


def run(assets, resource, **options):
    return dg.materialize([upstream, *assets], resources={"qdrant": resource}, **options)


def materialized(result):
    keys = {event.asset_key for event in result.get_asset_materialization_events()}
    return keys - {upstream.key}


@copies
def test_a_subset_of_a_copy_loads_what_is_selected(resource, qdrant_target: Target, dataset, copy):
    copied = copy(cinema(dataset))
    [key] = [key for key in copied.keys if key.path[-1] == "actors"]
    result = run([copied], resource, selection=dg.AssetSelection.keys(key))
    assert materialized(result) == {key}
    assert f"{dataset}_films" not in qdrant_target.collections()


@copies
def test_the_checks_of_a_copy_are_of_its_keys(resource, dataset, copy):
    copied = copy(cinema(dataset, checks=True))
    for selection in (None, dg.AssetSelection.checks_for_assets(copied)):
        evaluations = run([copied], resource, selection=selection).get_asset_check_evaluations()
        assert {evaluation.asset_key for evaluation in evaluations} == copied.keys
        assert {evaluation.asset_check_key for evaluation in evaluations} == copied.check_keys
        assert all(evaluation.passed for evaluation in evaluations)


@copies
def test_a_copy_loads_under_its_own_keys_and_checks_apart_are_of_them(
    resource, qdrant_target: Target, dataset, copy
):
    copied = copy(cinema(dataset))
    [checks] = build_qdrant_checks([copied])
    assert {key.asset_key for key in checks.check_keys} == copied.keys
    result = run([copied, checks], resource)
    assert materialized(result) == copied.keys
    for name in ("films", "actors"):
        assert len(qdrant_target.rows(f"{dataset}_{name}")) == 2
    evaluations = result.get_asset_check_evaluations()
    assert {evaluation.asset_check_key for evaluation in evaluations} == checks.check_keys
    assert all(evaluation.passed for evaluation in evaluations)


def test_checks_apart_may_be_copied_with_their_assets(resource, dataset):
    assets = cinema(dataset)
    module = ModuleType("a_module_of_assets_and_checks")
    module.assets, module.checks = assets, build_qdrant_checks([assets])
    loaded = dg.load_assets_from_modules([module], key_prefix="live")
    checks = dg.load_asset_checks_from_modules([module], asset_key_prefix="live")
    result = run([*loaded, *checks], resource)
    evaluations = result.get_asset_check_evaluations()
    assert {evaluation.asset_key.path[0] for evaluation in evaluations} == {"live"}
    assert len(evaluations) == len({key for each in checks for key in each.check_keys})
    assert all(evaluation.passed for evaluation in evaluations)


def test_copies_of_copies_load(resource, qdrant_target: Target, dataset):
    copied = cinema(dataset)
    for copy in (with_prefix, with_deps, with_hooks):
        copied = copy(copied)
    assert materialized(run([copied], resource)) == {
        dg.AssetKey(["live", dataset, name]) for name in ("films", "actors")
    }
    assert len(qdrant_target.rows(f"{dataset}_films")) == 2


def test_one_function_may_be_the_body_of_several_definitions(
    resource, qdrant_target: Target, dataset
):
    def load(context: dg.AssetExecutionContext, qdrant: QdrantResource):
        yield from qdrant.run(context)

    films = qdrant_assets(dlt_source=table("films"), dataset_name=dataset, name="films")(load)
    actors = qdrant_assets(dlt_source=table("actors"), dataset_name=dataset, name="actors")(load)
    assert materialized(run([films, actors], resource)) == films.keys | actors.keys
    assert {f"{dataset}_films", f"{dataset}_actors"} <= qdrant_target.collections()


def test_a_copy_of_one_definition_leaves_the_other_as_it_was(resource, dataset):
    assets = cinema(dataset)
    with_prefix(assets)
    assert materialized(run([assets], resource)) == assets.keys


def test_a_copy_loads_a_source_that_its_body_makes(resource, qdrant_target: Target, dataset):
    """Also one whose resource has another name, and fills the same table."""

    @qdrant_assets(dlt_source=table("films"), dataset_name=dataset)
    def assets(context: dg.AssetExecutionContext, qdrant: QdrantResource):
        renamed = table("films_of_today")
        renamed.apply_hints(table_name="films")
        yield from qdrant.run(context, dlt_source=renamed)

    copied = with_prefix(assets)
    assert materialized(run([copied], resource)) == copied.keys
    assert len(qdrant_target.rows(f"{dataset}_films")) == 2


def test_partitions_of_a_copy_load(resource, qdrant_target: Target, dataset):
    partitions = dg.StaticPartitionsDefinition(["1", "2"])

    @qdrant_assets(dlt_source=table("films"), dataset_name=dataset, partitions_def=partitions)
    def assets(context: dg.AssetExecutionContext, qdrant: QdrantResource):
        yield from qdrant.run(
            context, dlt_source=lambda key: table("films", [{"id": int(key), "title": "a film"}])
        )

    copied = with_prefix(assets)
    for key in ("1", "2"):
        result = dg.materialize([copied], resources={"qdrant": resource}, partition_key=key)
        assert materialized(result) == copied.keys
    assert len(qdrant_target.rows(f"{dataset}_films")) == 2


def test_where_the_function_is_can_still_be_told():
    def load(context: dg.AssetExecutionContext, qdrant: QdrantResource):
        """What it says of itself."""
        yield from qdrant.run(context)

    assets = qdrant_assets(dlt_source=table("films"), dataset_name="d")(load)
    assert (assets.op.name, assets.op.description) == ("load", "What it says of itself.")
    [assets] = dg.with_source_code_references([assets])
    [reference] = assets.metadata_by_key[dg.AssetKey(["d", "films"])][
        "dagster/code_references"
    ].code_references
    assert (reference.file_path, reference.line_number) == (
        __file__,
        load.__code__.co_firstlineno,
    )


def test_copies_load_in_processes_of_their_own(tmp_path, model):
    options = {"path": str(tmp_path / "qdrant"), **model}
    job = dg.build_reconstructable_job(
        "tests.copied_assets", "job", reconstructable_args=(options,)
    )
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        result = dg.execute_job(job, instance=instance)
        assert result.success
        keys = {event.asset_key for event in result.get_asset_materialization_events()}
        assert dg.AssetKey(["live", "copied", "films"]) in keys
        evaluations = result.get_asset_check_evaluations()
    assert "all_rows_present" in {evaluation.check_name for evaluation in evaluations}
    assert all(evaluation.passed for evaluation in evaluations)
