"""Which resource gives how many rows to which table, counted while a source is read.

dlt counts the rows of a table, and its schema names one resource for each. Where several resources
fill a table, only the rows on their way tell whose they are.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, ClassVar

import dlt
from dlt.common.data_writers.writers import count_rows_in_items
from dlt.extract.hints import HintsMeta
from dlt.extract.items import TableNameMeta
from dlt.extract.items_transform import MetricsItem

from dagster_qdrant.destination.tables.names import table_identifier

if TYPE_CHECKING:
    from dlt.common.schema import Schema
    from dlt.extract import DltResource


class RowsGiven:
    """Rows by resource and table."""

    def __init__(self) -> None:
        self._rows: dict[str, Counter[str]] = defaultdict(Counter)

    def count(self, resource: DltResource) -> None:
        """Count the rows of a resource from now on, in each extraction of it.

        Args:
            resource: A resource that is read once; changed in place.
        """
        resource.add_step(_LastStep(self._count))

    def of(self, resource_name: str, schema: Schema) -> Counter[str]:
        """The rows of a resource by table, as dlt writes the tables' names into a schema."""
        rows: Counter[str] = Counter()
        for name, count in self._rows[resource_name].items():
            rows[table_identifier(schema, name)] += count
        return rows

    def _count(self, items: Any, meta: Any, _metrics: Any) -> None:
        resource = dlt.current.resource()
        rows, named = self._rows[resource.name], resource.table_name
        if isinstance(meta, HintsMeta) and not (meta.create_table_variant and callable(named)):
            named = meta.hints.get("table_name") or named
        elif isinstance(meta, TableNameMeta) and not callable(named):
            named = meta.table_name
        if not callable(named):
            rows[named] += count_rows_in_items(items)
            return
        for item in items if isinstance(items, list) else [items]:
            rows[str(named(item))] += count_rows_in_items(item)


class _LastStep(MetricsItem):
    """Sees the items that a resource gives, after all that filters or changes them."""

    placement_affinity: ClassVar[float] = 1.5
