"""Assets of resources that are not one table each: what they show, their versions, their checks."""

import dagster as dg
import dlt
import pytest

from dagster_qdrant import (
    QdrantDltTranslator,
    QdrantResource,
    build_qdrant_assets,
    build_qdrant_checks,
    qdrant_adapter,
    qdrant_assets,
)
from tests.targets import Target

EVENTS = [
    {"kind": "login", "id": 1, "text": "Ann logs in", "tags": ["web"]},
    {"kind": "order", "id": 2, "text": "Bob orders tea", "tags": []},
    {"kind": "order", "id": 3, "text": "Ann orders milk", "tags": ["shop", "new"]},
]


def by_kind(rows=EVENTS, name="events", **hints):
    hints = {"write_disposition": "merge", "primary_key": "id"} | hints
    resource = dlt.resource(rows, name=name, table_name=lambda row: row["kind"], **hints)
    return qdrant_adapter(resource, embed="text")


def plain(rows, name, **hints):
    return qdrant_adapter(dlt.resource(rows, name=name, **hints), embed="text")


class Store:
    """Definitions that are materialized one after the other, over one Qdrant and one instance."""

    def __init__(self, resource: QdrantResource, dataset: str) -> None:
        self.resource = resource
        self.dataset = dataset
        self.instance = dg.DagsterInstance.ephemeral()

    def assets(self, *resources, **options):
        return build_qdrant_assets(
            dlt_source=list(resources), dataset_name=self.dataset, checks=True, **options
        )

    def run(self, *assets, raise_on_error=True, **options):
        return dg.materialize(
            assets,
            resources={"qdrant": self.resource},
            instance=self.instance,
            raise_on_error=raise_on_error,
            **options,
        )

    def shown(self, *resources, **options):
        """Load them; what the materialization of each asset shows, by the last part of its key."""
        result = self.run(self.assets(*resources), **options)
        assert all(check.passed for check in result.get_asset_check_evaluations())
        return {
            event.asset_key.path[-1]: {
                name: entry.value for name, entry in event.materialization.metadata.items()
            }
            | {"version": event.materialization.tags["dagster/data_version"]}
            for event in result.get_asset_materialization_events()
        }

    def failing(self, *resources) -> set[str]:
        """The checks that fail, of all that there are; `told` has what they say."""
        assets = self.assets(*resources)
        selection = dg.AssetSelection.checks_for_assets(assets)
        evaluations = self.run(assets, selection=selection).get_asset_check_evaluations()
        self.told = {each.check_name: each.description for each in evaluations if not each.passed}
        return set(self.told)

    def delete(self, *tables: str) -> None:
        with self.resource.get_client() as client:
            for table in tables or self.all_tables(client):
                assert client.delete_collection(f"{self.dataset}_{table}")

    def all_tables(self, client) -> list[str]:
        names = [entry.name for entry in client.get_collections().collections]
        return [
            name.removeprefix(f"{self.dataset}_") for name in names if name.startswith(self.dataset)
        ]


CHECKS = {
    "all_rows_present",
    "all_vectors_present",
    "collection_healthy",
    "no_orphans",
    "no_text_cut",
    "search_finds_row",
    "vectors_valid",
}


@pytest.fixture
def store(model, dataset) -> Store:
    """For what does not depend on the kind of Qdrant."""
    return Store(QdrantResource(location=f":memory:{dataset}", **model), dataset)


class TestTablesNamedByRows:
    def test_the_asset_shows_all_of_them(self, resource, qdrant_target: Target, dataset):
        shown = Store(resource, dataset).shown(by_kind())["events"]
        assert shown["dagster/row_count"] == shown["rows_loaded"] == shown["rows_embedded"] == 3
        assert shown["rows_by_table"] == {
            "login": 1,
            "login__tags": 1,
            "order": 2,
            "order__tags": 2,
        }
        assert shown["dagster/table_name"] == f"{dataset}_order"
        assert "| write disposition | merge |" in shown["details"]
        assert "kind" in [column.name for column in shown["dagster/column_schema"].columns]
        assert "orders milk" in shown["preview"]
        assert f"{dataset}_login__tags" in shown["tables"].replace("\\", "")
        assert f"{dataset}_events" not in qdrant_target.collections()

    def test_before_a_run_the_asset_names_no_collection(self, store):
        [spec] = store.assets(by_kind()).specs
        assert spec.key == dg.AssetKey([store.dataset, "events"])
        assert "dagster/table_name" not in spec.metadata

    def test_a_run_that_fills_one_of_them_still_counts_all(self, store):
        store.shown(by_kind())
        rows = [{"kind": "login", "id": 4, "text": "Eve logs in"}]
        shown = store.shown(by_kind(rows))["events"]
        assert (shown["dagster/row_count"], shown["rows_loaded"]) == (4, 1)
        assert shown["rows_by_table"]["order"] == 2

    def test_the_data_version_changes_with_any_of_them(self, store):
        rows = list(EVENTS)
        versions = [store.shown(by_kind())["events"]["version"]]
        assert store.shown(by_kind())["events"]["version"] == versions[0]
        for number, kind in enumerate(["login", "order", "refund"], 4):
            rows.append({"kind": kind, "id": number, "text": "something else"})
            versions.append(store.shown(by_kind(rows))["events"]["version"])
        assert len(set(versions)) == 4
        assert store.shown(by_kind(rows))["events"]["version"] == versions[-1]

    def test_all_checks_fail_when_everything_was_deleted(self, store):
        store.shown(by_kind())
        assert store.failing(by_kind()) == set()
        store.delete()
        assert store.failing(by_kind()) == CHECKS
        assert all(text.startswith("There is no collection") for text in store.told.values())

    def test_checks_fail_when_one_of_them_was_deleted(self, store):
        store.shown(by_kind())
        store.delete("login")
        assert store.failing(by_kind()) == CHECKS
        assert f"There is no collection `{store.dataset}_login`" in store.told["no_orphans"]

    def test_rows_that_are_gone_from_any_of_them_are_missed(self, store):
        store.shown(by_kind())
        with store.resource.get_client() as client:
            [point] = client.scroll(f"{store.dataset}_login")[0]
            client.delete(f"{store.dataset}_login", [point.id])
        assert "all_rows_present" in store.failing(by_kind())

    def test_a_vector_that_is_gone_from_any_of_them_is_missed(self, store):
        store.shown(by_kind())
        with store.resource.get_client() as client:
            [point] = client.scroll(f"{store.dataset}_login", with_vectors=True)[0]
            client.delete_vectors(f"{store.dataset}_login", list(point.vector), [point.id])
        assert store.failing(by_kind()) == {"all_vectors_present"}

    def test_checks_apart_from_the_load_look_at_all_of_them(self, store):
        assets = build_qdrant_assets(dlt_source=by_kind(), dataset_name=store.dataset)
        store.run(assets)
        checks = build_qdrant_checks([assets])
        selection = dg.AssetSelection.checks(*checks)
        store.delete("order")
        result = store.run(assets, *checks, selection=selection)
        failed = [check for check in result.get_asset_check_evaluations() if not check.passed]
        assert {check.check_name for check in failed} == CHECKS
        assert all(f"`{store.dataset}_order`" in check.description for check in failed)

    def test_partitions_count_the_rows_of_all_of_them(self, store):
        @qdrant_assets(
            dlt_source=by_kind(),
            dataset_name=store.dataset,
            partitions_def=dg.StaticPartitionsDefinition(["a", "b"]),
        )
        def events(context: dg.AssetExecutionContext, qdrant: QdrantResource):
            def source(key):
                rows = [row | {"part": key} for row in EVENTS]
                return by_kind(rows, write_disposition="replace")

            yield from qdrant.run(context, dlt_source=source)

        for key in ("a", "b"):
            [event] = store.run(events, partition_key=key).get_asset_materialization_events()
        metadata = event.materialization.metadata
        assert metadata["dagster/partition_row_count"].value == 3
        assert metadata["dagster/row_count"].value == 6


class TestTablesNamedOtherwise:
    def test_rows_that_are_marked_with_a_table_count(self, store):
        @dlt.resource
        def notes():
            yield {"id": 1, "text": "a note"}
            yield dlt.mark.with_table_name({"id": 2, "text": "a task"}, "tasks")
            hints = dlt.mark.make_hints(table_name="drafts", write_disposition="append")
            yield dlt.mark.with_hints(
                {"id": 3, "text": "a draft"}, hints, create_table_variant=True
            )

        shown = store.shown(qdrant_adapter(notes, embed="text"))["notes"]
        assert shown["rows_by_table"] == {"notes": 1, "drafts": 1, "tasks": 1}
        assert (shown["dagster/row_count"], shown["rows_loaded"]) == (3, 3)
        assert shown["dagster/table_name"] == f"{store.dataset}_notes"

    def test_a_resource_whose_rows_all_go_elsewhere_shows_where(self, store):
        @dlt.resource
        def notes():
            yield dlt.mark.with_table_name({"id": 2, "text": "a task"}, "tasks")

        notes = qdrant_adapter(notes, embed="text")
        shown = store.shown(notes)["notes"]
        assert shown["dagster/table_name"] == f"{store.dataset}_tasks"
        assert shown["dagster/row_count"] == 1
        store.delete("tasks")
        assert store.failing(notes) == CHECKS

    def test_tables_that_rows_were_marked_with_once_stay_the_resources(self, store):
        @dlt.resource(write_disposition="merge", primary_key="id")
        def notes(marked=True):
            yield {"id": 1, "text": "a note"}
            if marked:
                yield dlt.mark.with_table_name({"id": 2, "text": "a task"}, "tasks")

        store.shown(qdrant_adapter(notes(), embed="text"))
        shown = store.shown(qdrant_adapter(notes(marked=False), embed="text"))["notes"]
        assert shown["rows_by_table"] == {"notes": 1, "tasks": 1}

    def test_a_table_that_a_resource_named_before_is_not_counted(self, store):
        rows = [{"id": 1, "text": "tea"}]
        store.shown(plain(rows, "orders", table_name="old"))
        shown = store.shown(plain(rows, "orders", table_name="new"))["new"]
        assert (shown["dagster/row_count"], shown["rows_by_table"]) == (1, {"new": 1})
        store.delete("old")
        assert store.failing(plain(rows, "orders", table_name="new")) == set()

    @pytest.mark.parametrize("name", ["shop__orders", "Shop__Orders", "shop___orders"])
    def test_a_name_with_two_underscores_is_the_tables(self, store, name):
        orders = plain([{"id": 1, "text": "tea"}], name)
        assets = store.assets(orders)
        [spec] = assets.specs
        result = store.run(assets)
        assert all(check.passed for check in result.get_asset_check_evaluations())
        [event] = result.get_asset_materialization_events()
        metadata = event.materialization.metadata
        assert metadata["dagster/row_count"].value == 1
        assert metadata["dagster/table_name"].value == spec.metadata["dagster/table_name"]
        store.delete(spec.key.path[-1])
        assert store.failing(orders) == CHECKS


class TestSharedTables:
    def pair(self, **hints):
        """Two resources that fill one table."""
        hints = {"table_name": "people", "write_disposition": "merge", "primary_key": "id"} | hints
        staff = plain([{"id": 1, "text": "Ann"}], "staff", **hints)
        guests = plain([{"id": 2, "text": "Bob"}, {"id": 3, "text": "Eve"}], "guests", **hints)
        return staff, guests

    def test_both_assets_are_right(self, store):
        for _ in range(2):
            shown = store.shown(*self.pair())
            assert {name: each["rows_loaded"] for name, each in shown.items()} == {
                "staff": 1,
                "guests": 2,
            }
            for metadata in shown.values():
                assert metadata["dagster/row_count"] == 3
                assert metadata["dagster/table_name"] == f"{store.dataset}_people"
                assert "`people` is filled by `staff` and `guests`" in metadata["shared_tables"]
                assert "rows_embedded" not in metadata  # known for both together only

    def test_a_run_of_one_of_them_counts_what_it_did(self, store):
        staff, guests = self.pair()
        selection = dg.AssetSelection.assets(dg.AssetKey([store.dataset, "guests"]))
        shown = store.shown(staff, guests, selection=selection)
        assert shown.keys() == {"guests"}
        assert (shown["guests"]["rows_loaded"], shown["guests"]["rows_embedded"]) == (2, 2)
        shown = store.shown(staff, guests, selection=selection.upstream())["guests"]
        assert (shown["rows_embedded"], shown["points_unchanged"]) == (0, 2)

    def test_one_that_gives_no_row_did_nothing(self, store):
        _, guests = self.pair()
        staff = plain([], "staff", table_name="people", write_disposition="merge", primary_key="id")
        shown = store.shown(staff, guests)
        assert (shown["staff"]["rows_loaded"], shown["staff"]["rows_embedded"]) == (0, 0)
        assert (shown["guests"]["rows_loaded"], shown["guests"]["rows_embedded"]) == (2, 2)
        assert shown["staff"]["dagster/row_count"] == 2

    def test_versions_change_with_what_another_resource_did(self, store):
        first = store.shown(*self.pair())
        assert store.shown(*self.pair())["staff"]["version"] == first["staff"]["version"]
        staff, _ = self.pair()
        guests = plain(
            [{"id": 9, "text": "Zoe"}],
            "guests",
            table_name="people",
            write_disposition="merge",
            primary_key="id",
        )
        changed = store.shown(staff, guests)
        assert changed["staff"]["version"] != first["staff"]["version"]

    def test_tables_named_by_the_rows_of_several_resources_are_each_ones_own(self, store):
        new = [{"kind": "order", "id": 7, "text": "Eve orders rice"}]
        shown = store.shown(by_kind(), by_kind(new, name="imports"))
        assert shown["imports"]["dagster/row_count"] == 3  # all orders
        assert shown["imports"]["rows_loaded"] == 1
        assert shown["events"]["dagster/row_count"] == 4
        assert shown["events"]["rows_loaded"] == 3
        store.delete("order")
        assert store.failing(by_kind(), by_kind(new, name="imports")) == CHECKS

    def test_a_table_and_a_resource_that_fills_it_too_are_two_assets(self, store):
        orders = plain([{"id": 1, "text": "tea"}], "orders")
        imports = plain([{"id": 2, "text": "milk"}], "imports", table_name="orders")
        assert store.shown(orders, imports).keys() == {"orders", "imports"}

    def test_two_resources_under_one_key_are_refused(self, store):
        class OneKey(QdrantDltTranslator):
            def get_asset_spec(self, data):
                return super().get_asset_spec(data).replace_attributes(key=dg.AssetKey("people"))

        with pytest.raises(
            dg.DagsterInvalidDefinitionError, match="`staff` and `guests` would both be the asset"
        ):
            store.assets(*self.pair(), dagster_dlt_translator=OneKey())


def test_counts_of_nested_tables_are_those_of_the_asset(store):
    rows = [{"id": 1, "text": "tea", "parts": [{"name": "leaf"}, {"name": "water"}]}]
    hints = {"write_disposition": "merge", "primary_key": "id"}
    shown = store.shown(plain(rows, "drinks", **hints))["drinks"]
    assert shown["rows_by_table"] == {"drinks": 1, "drinks__parts": 2}
    assert (shown["dagster/row_count"], shown["rows_loaded"]) == (1, 1)
    assert shown["points_written"] == 3
    store.delete("drinks__parts")
    assert "all_rows_present" in store.failing(plain(rows, "drinks", **hints))


def test_rows_are_counted_once_however_often_a_source_is_read(store):
    assets = store.assets(plain([{"id": 1, "text": "tea"}], "drinks"))
    for _ in range(3):
        [event] = store.run(assets).get_asset_materialization_events()
        assert event.materialization.metadata["rows_loaded"].value == 1
