"""A shop's tables, read with dlt's `sql_database`: one whole, one only what is new in it."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dlt
from dagster import AssetExecutionContext, AssetSpec, AutomationCondition, FreshnessPolicy
from dagster_dlt.translator import DltResourceTranslatorData
from dlt.sources.sql_database import sql_database

from dagster_qdrant import QdrantDltTranslator, QdrantResource, qdrant_adapter, qdrant_assets
from example_project.settings import data_dir
from example_project.shop_database import seed

DATASET = "shop"
DATABASE = data_dir() / "shop.sqlite"

# The tables are looked at when a run reads them. Loading the code location opens no database.
tables = sql_database(
    f"sqlite:///{DATABASE}", table_names=["products", "reviews"], defer_table_reflect=True
)
tables.products.apply_hints(primary_key="id", write_disposition="merge")
tables.reviews.apply_hints(
    primary_key="id",
    write_disposition="merge",
    # The newest `created_at` that was loaded is kept in Qdrant with the rows, so the next run
    # starts from there, on whichever machine it runs.
    incremental=dlt.sources.incremental("created_at"),
)

# The tables become searchable where they are in the source; nothing else has to change.
qdrant_adapter(tables.products, embed="description")
qdrant_adapter(tables.reviews, embed="text")


class HourlyTranslator(QdrantDltTranslator):
    """Loads a table each hour, and has it shown as stale when that has not worked for six."""

    def get_asset_spec(self, data: DltResourceTranslatorData) -> AssetSpec:
        """The spec of a table's asset."""
        spec = super().get_asset_spec(data)
        return spec.replace_attributes(
            description=f"The {data.resource.name} in the shop's database.",
            automation_condition=AutomationCondition.on_cron("@hourly"),
            freshness_policy=FreshnessPolicy.time_window(fail_window=timedelta(hours=6)),
        )


@qdrant_assets(
    dlt_source=tables,
    dataset_name=DATASET,
    name="shop",
    group_name="shop",
    dagster_dlt_translator=HourlyTranslator(),
)
def shop_assets(context: AssetExecutionContext, qdrant: QdrantResource) -> Iterator[Any]:
    """Load what is new. The database comes with the example, so it is made if need be."""
    seed(DATABASE)
    yield from qdrant.run(context)
