"""Data versions that stay when a load changed nothing, so that nothing downstream runs for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dagster import AssetExecutionContext, AssetKey, AssetRecordsFilter, DataVersion
from dlt.common.schema.typing import C_DLT_LOAD_ID
from dlt.common.schema.utils import get_nested_tables

from dagster_qdrant.destination.job_client import QdrantJobClient
from dagster_qdrant.destination.writing.load_counts import LoadCounts
from dagster_qdrant.errors import QdrantError, QdrantNotFoundError
from dagster_qdrant.pages.metadata import LOAD_ID

# Where Dagster keeps the version of a materialization.
_VERSION_TAG = "dagster/data_version"

_MOST_LATER = 1000


@dataclass(frozen=True)
class FormerVersion:
    """The data version that an asset has before a load.

    Args:
        version: The version.
        row_count: The points that its collection then had; None if that says nothing.
    """

    version: str
    row_count: int | None

    @classmethod
    def of(
        cls,
        context: AssetExecutionContext,
        key: AssetKey,
        client: QdrantJobClient,
        table_name: str,
    ) -> FormerVersion | None:
        """Look it up, right before the load.

        A load that failed, or that Dagster knows nothing of, may have changed rows, which the next
        one then finds as they should be. So a version does not stand for what is in the collection
        if any row was written since by a load that no materialization stands for.

        Args:
            context: The context of the asset.
            key: The asset.
            client: The job client, entered.
            table_name: The asset's table.

        Returns:
            None if there is none, if it cannot be told, or if the run is for several partitions,
            which have versions of their own.
        """
        partitions = list(context.partition_keys) if context.has_partition_key_range else None
        if context.has_partition_key:
            partitions = [context.partition_key]
        if partitions is not None and len(partitions) != 1:
            return None
        fetch = context.instance.fetch_materializations
        latest = fetch(AssetRecordsFilter(key, asset_partitions=partitions), limit=1).records
        if not latest or not (event := latest[0].asset_materialization):
            return None
        version = (event.tags or {}).get(_VERSION_TAG)
        later = fetch(
            AssetRecordsFilter(key, after_storage_id=latest[0].storage_id), limit=_MOST_LATER
        ).records  # of other partitions
        known = {
            str(record.asset_materialization.metadata[LOAD_ID].value)
            for record in later
            if record.asset_materialization and LOAD_ID in record.asset_materialization.metadata
        }
        if version is None or _is_written_since(client, table_name, latest[0].timestamp, known):
            return None
        counted = None if partitions else event.metadata.get("dagster/row_count")
        return cls(version, None if counted is None else int(str(counted.value)))


def data_version(
    former: FormerVersion | None,
    client: QdrantJobClient,
    table_name: str,
    *,
    counts: Mapping[str, LoadCounts],
    metadata: Mapping[str, Any],
    otherwise: str,
) -> DataVersion:
    """The data version that an asset has after a load.

    Args:
        former: The one before the load.
        client: The job client, entered.
        table_name: The asset's table.
        counts: What the load did, by table.
        metadata: What the materialization shows.
        otherwise: The version if anything changed, in the table or in those nested in it.
    """
    changed = any(counts[name].changed for name in _tables(client, table_name) if name in counts)
    if former is None or changed:
        return DataVersion(otherwise)
    counted = metadata.get("dagster/row_count")
    if former.row_count is not None and (counted is None or counted.value != former.row_count):
        return DataVersion(otherwise)  # a refresh that loaded nothing, or somebody deleted points
    return DataVersion(former.version)


def _is_written_since(
    client: QdrantJobClient, table_name: str, time: float, known: set[str]
) -> bool:
    """Whether a load that began after a time, and is not among the known ones, wrote any row."""
    field_name = client.schema.naming.normalize_identifier(C_DLT_LOAD_ID)
    collections = client.collections
    for collection in map(collections.name, _tables(client, table_name)):
        try:
            load_ids = set(collections.values(collection, field_name)) - known
            if any(float(load_id) > time for load_id in load_ids):
                return True
        except QdrantNotFoundError:  # a table that never had a row
            continue
        except (QdrantError, ValueError):  # no index yet, or load ids that are not dlt's
            return True
    return False


def _tables(client: QdrantJobClient, table_name: str) -> list[str]:
    tables = client.schema.tables
    if table_name not in tables:
        return [table_name]
    return [str(table["name"]) for table in get_nested_tables(tables, table_name)]
