"""Assets whose partitions load rows of their own."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any

import dagster as dg
import dlt
import pytest
from qdrant_client import models

from dagster_qdrant import (
    QdrantResource,
    QdrantTerminalError,
    build_qdrant_checks,
    qdrant_adapter,
    qdrant_assets,
)
from tests.targets import Target

pytestmark = pytest.mark.in_memory

DAYS = ["2026-01-01", "2026-01-02", "2026-01-03"]
RANGE = {
    "dagster/asset_partition_range_start": DAYS[0],
    "dagster/asset_partition_range_end": DAYS[2],
}


class Shop:
    """A source whose rows change from run to run."""

    def __init__(self, disposition: str = "replace") -> None:
        self.disposition = disposition
        self.numbers = {day: [1, 2] for day in DAYS}

    def of(self, day: str) -> Any:
        rows = [
            {"id": number, "day": day, "title": f"sale {number}", "items": ["a", "b"]}
            for number in self.numbers[day]
        ]
        key = "id" if self.disposition == "merge" else None
        sales = dlt.resource(
            rows, name="sales", write_disposition=self.disposition, primary_key=key
        )
        return qdrant_adapter(sales, embed="title")


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def materialize(resource: QdrantResource, dataset: str, shop: Shop):
    def materialize(
        *, source: Any = shop.of, partitions_def: Any = None, **options: Any
    ) -> dg.ExecuteInProcessResult:
        @qdrant_assets(
            dlt_source=shop.of(DAYS[0]),
            dataset_name=dataset,
            partitions_def=partitions_def or dg.DailyPartitionsDefinition(DAYS[0]),
        )
        def sales(context: dg.AssetExecutionContext, qdrant: QdrantResource):
            yield from qdrant.run(context, dlt_source=source)

        return dg.materialize(
            [sales], resources={"qdrant": resource}, raise_on_error=False, **options
        )

    return materialize


@pytest.fixture
def by_day(qdrant_target: Target, dataset: str):
    def by_day() -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for row in qdrant_target.rows(f"{dataset}_sales"):
            found.setdefault(row["day"], []).append(row["id"])
        return {day: sorted(ids) for day, ids in sorted(found.items())}

    return by_day


def partition_rows(result: dg.ExecuteInProcessResult) -> list[Any]:
    materializations = result.asset_materializations_for_node("sales")
    return [each.metadata["dagster/partition_row_count"].value for each in materializations]


def test_a_partition_replaces_its_own_rows_only(materialize, by_day, shop, qdrant_target, dataset):
    for day in DAYS[:2]:
        assert partition_rows(materialize(partition_key=day)) == [2]
    shop.numbers[DAYS[0]] = [7]
    assert partition_rows(materialize(partition_key=DAYS[0])) == [1]
    assert by_day() == {DAYS[0]: [7], DAYS[1]: [1, 2]}
    assert len(qdrant_target.rows(f"{dataset}_sales__items")) == 6


def test_a_run_of_many_partitions_loads_each_of_them(materialize, by_day, shop):
    assert materialize(tags=RANGE).success
    assert by_day() == {day: [1, 2] for day in DAYS}
    shop.numbers[DAYS[1]] = [3, 4, 5]
    result = materialize(tags=RANGE)
    assert by_day() == {DAYS[0]: [1, 2], DAYS[1]: [3, 4, 5], DAYS[2]: [1, 2]}
    [metadata] = {
        each.metadata["rows_loaded"].value
        for each in result.asset_materializations_for_node("sales")
    }
    assert metadata == 7


def test_a_run_of_many_partitions_needs_to_know_which_row_is_whose_to_replace_them(
    materialize, by_day, shop
):
    materialize(partition_key=DAYS[0])
    result = materialize(source=shop.of(DAYS[1]), tags=RANGE)
    [event] = result.filter_events(lambda event: event.is_step_failure)
    error = str(event.event_specific_data.error)
    assert "loads 3 partitions at once and replaces `sales`" in error
    assert "Give `run` a function that makes the source of a partition" in error
    assert by_day() == {DAYS[0]: [1, 2]}


def test_a_run_of_many_partitions_merges_one_source(materialize, by_day, shop):
    shop.disposition = "merge"
    assert materialize(source=shop.of(DAYS[1]), tags=RANGE).success
    assert by_day() == {DAYS[1]: [1, 2]}


def test_many_runs_at_once_do_not_disturb_each_other(materialize, by_day):
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda day: materialize(partition_key=day), DAYS))
    assert all(result.success for result in results)
    assert by_day() == {day: [1, 2] for day in DAYS}


def test_dynamic_partitions_load_rows_of_their_own(materialize, by_day):
    partitions_def = dg.DynamicPartitionsDefinition(name="days")
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("days", DAYS[:2])
        for day in [*DAYS[:2], DAYS[0]]:
            materialize(partition_key=day, partitions_def=partitions_def, instance=instance)
    assert by_day() == {DAYS[0]: [1, 2], DAYS[1]: [1, 2]}


def test_the_function_gets_the_dimensions_of_the_key(materialize, qdrant_target, dataset, shop):
    shops = dg.StaticPartitionsDefinition(["north", "south"])
    days = dg.StaticPartitionsDefinition(DAYS)
    partitions_def = dg.MultiPartitionsDefinition({"day": days, "shop": shops})
    for name in ("north", "south", "north"):
        result = materialize(
            source=lambda key: shop.of(key.keys_by_dimension["day"]),
            partitions_def=partitions_def,
            partition_key=dg.MultiPartitionKey({"day": DAYS[0], "shop": name}),
        )
        assert result.success
    points = qdrant_target.points(f"{dataset}_sales")
    partitions = sorted(point.payload["_dlt_partition"] for point in points)
    assert partitions == [f"{DAYS[0]}|north"] * 2 + [f"{DAYS[0]}|south"] * 2


def test_a_function_of_the_partition_needs_partitions(resource, dataset, shop):
    @qdrant_assets(dlt_source=shop.of(DAYS[0]), dataset_name=dataset)
    def sales(context: dg.AssetExecutionContext, qdrant: QdrantResource):
        yield from qdrant.run(context, dlt_source=shop.of)

    with pytest.raises(dg.DagsterInvariantViolationError, match="this run has no partition"):
        dg.materialize([sales], resources={"qdrant": resource})


# -- what a partition stands for ------------------------------------------------------------------


@dlt.resource(name="sales", write_disposition="append")
def of_an_interval(
    since: Any = dlt.sources.incremental(
        "at",
        initial_value=datetime(2020, 1, 1, tzinfo=timezone.utc),
        allow_external_schedulers=True,
    ),
) -> Any:
    """Sales of four days, twelve hours from one to the next."""
    first = datetime(2026, 1, 1, tzinfo=timezone.utc)
    moments = [first + timedelta(hours=12 * number) for number in range(8)]
    yield [
        {"id": number, "day": f"{moment:%Y-%m-%d}", "title": f"sale {number}", "at": moment}
        for number, moment in enumerate(moments)
    ]


def test_an_incremental_resource_gets_the_times_of_its_partition(materialize, by_day):
    assert materialize(source=of_an_interval(), partition_key=DAYS[1]).success
    assert by_day() == {DAYS[1]: [2, 3]}


def test_an_incremental_resource_gets_the_times_of_all_partitions_of_its_run(materialize, by_day):
    assert materialize(source=of_an_interval(), tags=RANGE).success
    assert by_day() == {DAYS[0]: [0, 1], DAYS[1]: [2, 3], DAYS[2]: [4, 5]}


def test_each_partition_of_a_run_has_its_own_times(materialize, by_day):
    assert materialize(source=lambda _: of_an_interval(), tags=RANGE).success
    assert by_day() == {DAYS[0]: [0, 1], DAYS[1]: [2, 3], DAYS[2]: [4, 5]}


def test_the_times_of_a_key_of_two_dimensions_are_found(materialize, by_day):
    shops = dg.StaticPartitionsDefinition(["north", "south"])
    days = dg.DailyPartitionsDefinition(DAYS[0])
    key = dg.MultiPartitionKey({"day": DAYS[2], "shop": "north"})
    definition = dg.MultiPartitionsDefinition({"day": days, "shop": shops})
    assert materialize(
        source=of_an_interval(), partitions_def=definition, partition_key=key
    ).success
    assert by_day() == {DAYS[2]: [4, 5]}


def test_each_partition_of_a_run_shows_its_own_rows(materialize, shop):
    shop.numbers[DAYS[1]] = [3, 4, 5]
    result = materialize(tags=RANGE)
    materializations = result.asset_materializations_for_node("sales")
    found = {each.partition: each.metadata for each in materializations}
    counts = {day: shown["dagster/partition_row_count"].value for day, shown in found.items()}
    assert counts == {DAYS[0]: 2, DAYS[1]: 3, DAYS[2]: 2}


def test_a_run_of_many_partitions_says_which_one_it_is_at(materialize, resource, dataset):
    with dg.DagsterInstance.ephemeral() as instance:
        result = materialize(tags=RANGE, instance=instance)
        entries = instance.all_logs(result.run_id)
    lines = [entry.user_message for entry in entries if entry.dagster_event is None]
    loaded = [line for line in lines if "Loaded in" in line]
    assert [line.split(" ")[:2] for line in loaded] == [["Partition", f"`{day}`:"] for day in DAYS]


def test_a_run_of_many_partitions_says_which_one_failed(materialize, shop, by_day):
    def source(day: str) -> Any:
        def fail(row: Any) -> Any:
            if row["day"] == DAYS[1]:
                raise ConnectionError("the shop is closed")
            return row

        return shop.of(day).add_map(fail)

    [event] = materialize(source=source, tags=RANGE).filter_events(lambda e: e.is_step_failure)
    said = event.event_specific_data.user_failure_data.description
    assert said == f"Partition `{DAYS[1]}`: Resource `sales`: ConnectionError: the shop is closed"
    assert by_day() == {DAYS[0]: [1, 2]}


# -- a partition that is no more ------------------------------------------------------------------


def test_the_rows_of_a_partition_can_be_dropped_with_those_nested_in_them(
    materialize, by_day, resource, qdrant_target, dataset
):
    materialize(tags=RANGE)
    dropped = resource.drop_partition(dataset, "Sales", DAYS[1])
    assert dropped == {"sales": 2, "sales__items": 4}
    assert by_day() == {DAYS[0]: [1, 2], DAYS[2]: [1, 2]}
    assert len(qdrant_target.rows(f"{dataset}_sales__items")) == 8
    assert resource.drop_partition(dataset, "sales", DAYS[1]) == {}
    assert materialize(partition_key=DAYS[1]).success
    assert by_day() == {day: [1, 2] for day in DAYS}


def test_rows_that_were_dropped_or_deleted_are_no_loss_to_the_checks(resource, dataset, shop):
    @qdrant_assets(
        dlt_source=shop.of(DAYS[0]),
        dataset_name=dataset,
        partitions_def=dg.StaticPartitionsDefinition(DAYS),
    )
    def sales(context: dg.AssetExecutionContext, qdrant: QdrantResource):
        yield from qdrant.run(context, dlt_source=shop.of)

    def rows_present() -> bool:
        checks = build_qdrant_checks([sales])
        results = dg.materialize(
            [sales, *checks],
            selection=dg.AssetSelection.checks(*checks),
            resources={"qdrant": resource},
            instance=instance,
        )
        found = results.get_asset_check_evaluations()
        [present] = [each for each in found if each.check_name == "all_rows_present"]
        return bool(present.passed)

    with dg.DagsterInstance.ephemeral() as instance:
        for day in DAYS:
            dg.materialize(
                [sales], resources={"qdrant": resource}, instance=instance, partition_key=day
            )
        resource.drop_partition(dataset, "sales", DAYS[2])
        assert rows_present()
        of_day = models.FieldCondition(key="day", match=models.MatchValue(value=DAYS[1]))
        assert resource.delete_rows(dataset, "sales", models.Filter(must=[of_day]))["sales"] == 2
        assert rows_present()
        with resource.get_client() as client:  # behind our back
            [point, _] = client.scroll(f"{dataset}_sales")[0]
            client.delete(f"{dataset}_sales", [point.id])
        assert not rows_present()


@pytest.mark.parametrize(
    ("disposition", "table", "words"),
    [
        ("merge", "sales", "has the write disposition 'merge'. Rows carry their partition in"),
        ("replace", "sales__items", "is nested in `sales`. Drop the partition of that one"),
        ("replace", "sold", "has no collection"),
    ],
)
def test_what_bears_no_partition_is_not_dropped(
    materialize, by_day, shop, resource, dataset, disposition, table, words
):
    shop.disposition = disposition
    materialize(partition_key=DAYS[0])
    with pytest.raises(QdrantTerminalError, match=re.escape(words)):
        resource.drop_partition(dataset, table, DAYS[0])
    assert by_day() == {DAYS[0]: [1, 2]}
