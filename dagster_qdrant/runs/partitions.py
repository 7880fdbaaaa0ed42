"""The partitions of a run: their keys, and the times that they stand for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dagster import (
    AssetExecutionContext,
    MultiPartitionsDefinition,
    TimeWindow,
    TimeWindowPartitionsDefinition,
)

if TYPE_CHECKING:
    from dagster_qdrant.runs.run_log import Context


def partitions_of(context: Context) -> list[str]:
    """The keys of the run's partitions; none if it has none."""
    if context.has_partition_key:
        return [context.partition_key]
    return list(context.partition_keys) if context.has_partition_key_range else []


def interval_of(context: Context, partitions: Sequence[str]) -> tuple[datetime, datetime] | None:
    """From when to when some partitions go, which is what dlt calls the interval of a scheduler.

    Args:
        context: The context of the run.
        partitions: Keys of its partitions.

    Returns:
        The interval, or None if the partitions do not stand for times.
    """
    if isinstance(context, AssetExecutionContext):
        definition: Any = context.assets_def.partitions_def
    else:
        definition = context.job_def.partitions_def
    windows = list(_windows(definition, partitions))
    if not windows:
        return None
    return min(window.start for window in windows), max(window.end for window in windows)


def _windows(definition: Any, partitions: Sequence[str]) -> Iterator[TimeWindow]:
    if isinstance(definition, TimeWindowPartitionsDefinition):
        for key in partitions:
            yield definition.time_window_for_partition_key(key)
    elif isinstance(definition, MultiPartitionsDefinition):
        for dimension in definition.partitions_defs:
            keys = [
                definition.get_partition_key_from_str(key).keys_by_dimension[dimension.name]
                for key in partitions
            ]
            yield from _windows(dimension.partitions_def, keys)
