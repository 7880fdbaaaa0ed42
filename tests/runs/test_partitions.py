"""Assets whose partitions load rows of their own."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dagster as dg
import dlt
import pytest

from dagster_qdrant import QdrantResource, qdrant_adapter, qdrant_assets
from tests.targets import Target

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
