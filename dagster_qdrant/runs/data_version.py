"""Data versions that stay when a load changed nothing, so that nothing downstream runs for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dagster import AssetExecutionContext, AssetKey, AssetRecordsFilter, DataVersion
from dlt.common.schema.typing import C_DLT_LOAD_ID

from dagster_qdrant.destination.job_client import QdrantJobClient
from dagster_qdrant.destination.tables.resource_tables import ResourceTables
from dagster_qdrant.destination.writing.load_counts import LoadCounts
from dagster_qdrant.errors import QdrantError, QdrantNotFoundError
from dagster_qdrant.pages.metadata import LOAD_ID, ResourceLoad
from dagster_qdrant.runs.last_load import LastLoad

# Where Dagster keeps the version of a materialization.
_VERSION_TAG = "dagster/data_version"

_MOST_LATER = 1000


@dataclass(frozen=True)
class FormerVersion:
    """The data version that an asset has before a load.

    Args:
        version: The version.
        rows: The points that its collections then had, by table; None if that says nothing.
    """

    version: str
    rows: Mapping[str, int] | None

    @classmethod
    def of(
        cls,
        context: AssetExecutionContext,
        key: AssetKey,
        client: QdrantJobClient,
        tables: ResourceTables,
    ) -> FormerVersion | None:
        """Look it up, right before the load.

        A load that failed, or that Dagster knows nothing of, may have changed rows, which the next
        one then finds as they should be. So a version does not stand for what is in the collection
        if any row was written since by a load that no materialization stands for, or removed.

        Args:
            context: The context of the asset.
            key: The asset.
            client: The job client, entered.
            tables: The asset's tables.

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
        last = LastLoad.of(event.metadata, tables.named)
        names = {*tables.all, *(last.tables if last else ())}
        if version is None or _is_written_since(client, names, latest[0].timestamp, known):
            return None
        if partitions is None and last is not None:
            return cls(version, last.rows)
        since = last.load_id if last else None
        if _is_thinned_since(client, names, since or str(latest[0].timestamp), partitions):
            return None
        return cls(version, None)


def _is_thinned_since(
    client: QdrantJobClient, tables: set[str], load_id: str, partitions: list[str] | None
) -> bool:
    """Whether rows were removed on purpose after a load began, of some partitions if there are."""
    try:
        removals = client.dlt_tables.loads.removals()
        return any(
            float(removal.load_id) > float(load_id) and any(removal.removed or {})
            for removal in removals
            for claim in removal.claims
            if claim.name in tables and (not partitions or claim.part in (None, *partitions))
        )
    except QdrantNotFoundError:  # no books, so nothing was loaded
        return False
    except (QdrantError, ValueError):  # no index yet, or load ids that are not dlt's
        return True


def data_version(
    former: FormerVersion | None,
    load: ResourceLoad,
    *,
    counts: Mapping[str, LoadCounts],
    metadata: Mapping[str, Any],
    otherwise: str,
) -> DataVersion:
    """The data version that an asset has after a load.

    Args:
        former: The one before the load.
        load: What came of the asset's resource.
        counts: What the load did, by table, whoever gave the rows.
        metadata: What the materialization shows.
        otherwise: The version if anything changed, in any of the asset's tables.
    """
    tables = load.tables
    if former is None or any(counts[name].changed for name in tables.all if name in counts):
        return DataVersion(otherwise)
    if former.rows is not None:  # a refresh that loaded nothing, or somebody deleted points
        now = LastLoad.of(metadata, tables.named)
        if now is None or any(now.rows.get(name, 0) != n for name, n in former.rows.items()):
            return DataVersion(otherwise)
    return DataVersion(former.version)


def _is_written_since(
    client: QdrantJobClient, tables: Iterable[str], time: float, known: set[str]
) -> bool:
    """Whether a load that began after a time, and is not among the known ones, wrote any row."""
    field_name = client.schema.naming.normalize_identifier(C_DLT_LOAD_ID)
    collections = client.collections
    for collection in map(collections.name, tables):
        try:
            load_ids = set(collections.values(collection, field_name)) - known
            if any(float(load_id) > time for load_id in load_ids):
                return True
        except QdrantNotFoundError:  # a table that never had a row
            continue
        except (QdrantError, ValueError):  # no index yet, or load ids that are not dlt's
            return True
    return False
