"""What the last load of a table is known to have left: the measure of the checks after it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dagster import AssetKey, DagsterInstance

from dagster_qdrant.destination.writing.load_counts import LoadCounts
from dagster_qdrant.pages.metadata import LOAD_ID, POINTS_OF_LOAD, ROWS_BY_TABLE, TEXTS_CUT


@dataclass(frozen=True)
class LastLoad:
    """What the last load is known to have left.

    Args:
        load_id: dlt's id of the load; None if it is not known.
        points: Points that bear its id, by table.
        rows: All points of a table's collection after it, by table.
        gave_rows: Whether the source gave any row, or any row was there.
        texts_cut: Texts that it embedded without their end.
    """

    load_id: str | None
    points: Mapping[str, int]
    rows: Mapping[str, int]
    gave_rows: bool
    texts_cut: int

    @classmethod
    def of(cls, metadata: Mapping[str, Any], named: str | None) -> LastLoad | None:
        """Read off what the materialization of an asset shows; None if it shows no rows.

        Args:
            metadata: The metadata.
            named: The table that the resource names, of which materializations told alone once.
        """
        shown = {name: getattr(entry, "value", entry) for name, entry in metadata.items()}
        row_count = shown.get("dagster/row_count")
        if row_count is None:
            return None
        rows = shown.get(ROWS_BY_TABLE)
        if rows is None:
            rows = {named: row_count} if named and row_count else {}
        return cls(
            load_id=shown.get(LOAD_ID),
            points=shown.get(POINTS_OF_LOAD) or {},
            rows=rows,
            gave_rows=bool(row_count or shown.get("rows_loaded")),
            texts_cut=int(shown.get(TEXTS_CUT) or 0),
        )

    @classmethod
    def latest(
        cls, instance: DagsterInstance, asset_key: AssetKey, named: str | None
    ) -> LastLoad | None:
        """Read off the latest materialization of an asset; None if there is none, or no rows.

        Args:
            instance: Where Dagster keeps materializations.
            asset_key: The asset.
            named: See `of`.
        """
        event = instance.get_latest_materialization_event(asset_key)
        materialization = event.asset_materialization if event else None
        return cls.of(materialization.metadata, named) if materialization else None

    @property
    def tables(self) -> set[str]:
        """The tables that had a collection after it."""
        return {*self.rows, *(name for name, points in self.points.items() if points)}


def points_of_load(tables: Iterable[str], counts: Mapping[str, LoadCounts]) -> dict[str, Any]:
    """What a materialization shows of its load, beside its id, for checks to compare with.

    Args:
        tables: The tables of the asset.
        counts: What the load did, by table.
    """
    return {POINTS_OF_LOAD: {name: counts[name].points for name in tables if name in counts}}
