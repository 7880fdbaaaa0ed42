"""Runs of one pipeline at the same time do not take back each other's state."""

import threading
from typing import Any

import dagster as dg
import dlt
from hypothesis import given
from hypothesis import strategies as st

from dagster_qdrant import build_qdrant_assets
from dagster_qdrant.destination.loads.state_merge import merge_states


def state(**resources: Any) -> dict[str, Any]:
    return {"sources": {"shop": {"resources": resources}}}


def test_each_load_keeps_what_it_changed():
    base = state(orders={"last": 1}, products={"last": 1})
    mine = state(orders={"last": 5}, products={"last": 1})
    theirs = state(orders={"last": 1}, products={"last": 7}, people={"last": 3})
    assert merge_states(base, mine, theirs) == state(
        orders={"last": 5}, products={"last": 7}, people={"last": 3}
    )


def test_of_a_resource_that_both_changed_the_later_load_counts():
    base, mine, theirs = (state(orders={"last": number}) for number in (1, 5, 7))
    assert merge_states(base, mine, theirs) == mine


def test_a_state_that_was_reset_stays_reset():
    base = state(orders={"last": 1}, products={"last": 1})
    assert merge_states(base, state(products={"last": 1}), base) == state(products={"last": 1})
    assert merge_states(base, base, state(products={"last": 1})) == state(products={"last": 1})


states = st.fixed_dictionaries(
    {"pipeline_name": st.just("shop")},
    optional={
        "sources": st.dictionaries(
            st.sampled_from("ab"),
            st.fixed_dictionaries(
                {},
                optional={
                    "resources": st.dictionaries(
                        st.sampled_from("xy"),
                        st.dictionaries(st.sampled_from("pq"), st.integers(0, 2)),
                    ),
                    "own": st.integers(0, 2),
                },
            ),
        )
    },
)


@given(base=states, mine=states)
def test_a_load_alone_keeps_its_state_whatever_it_did(base, mine):
    assert merge_states(base, mine, base) == mine
    assert merge_states(base, base, mine) == mine


def test_runs_at_the_same_time_go_on_where_each_of_them_stopped(resource, qdrant_target, dataset):
    last = 3
    meanwhile: list[str] = []

    @dlt.source(name="shop")
    def shop() -> Any:
        @dlt.resource(write_disposition="append")
        def orders(since: Any = dlt.sources.incremental("id", initial_value=0)):
            yield [{"id": number} for number in range(1, last + 1)]
            while meanwhile:
                other = threading.Thread(target=run, args=[meanwhile.pop()])
                other.start()
                other.join()

        @dlt.resource(write_disposition="append")
        def products(since: Any = dlt.sources.incremental("id", initial_value=0)):
            yield [{"id": number} for number in range(1, last + 1)]

        return orders, products

    assets = build_qdrant_assets(dlt_source=shop(), dataset_name=dataset)

    def run(table: str) -> None:
        selection = dg.AssetSelection.assets([dataset, table])
        dg.materialize([assets], resources={"qdrant": resource}, selection=selection)

    run("orders")
    run("products")
    last = 5
    meanwhile.append("products")
    run("orders")  # begins before the other, and ends after it
    run("orders")
    run("products")
    for table in ("orders", "products"):
        ids = sorted(row["id"] for row in qdrant_target.rows(f"{dataset}_{table}"))
        assert ids == [1, 2, 3, 4, 5]
