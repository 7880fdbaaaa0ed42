"""Delete the rows that a filter selects, as a load that brings none."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dlt.common.schema.typing import C_DLT_ID
from dlt.common.schema.utils import get_first_column_name_with_prop

from dagster_qdrant.destination.configuration import QdrantDestinationConfiguration
from dagster_qdrant.destination.found_table import FoundTable, found_table
from dagster_qdrant.destination.generations.generations import Generations
from dagster_qdrant.destination.loads.load_record import ROW_DELETION
from dagster_qdrant.destination.missing_index import missing_index
from dagster_qdrant.destination.tables.table_plan import SUPERSEDED
from dagster_qdrant.errors import QdrantConfigurationError, QdrantTerminalError
from dagster_qdrant.qdrant.points import joined

if TYPE_CHECKING:
    from qdrant_client import models

logger = logging.getLogger(__name__)

_PAGE = 1000
# How many rows' nested rows are looked for together, where each look goes over all points.
_MANY = 50_000


def delete_rows(
    config: QdrantDestinationConfiguration,
    dataset_name: str | None,
    table: str,
    row_filter: models.Filter,
) -> dict[str, int]:
    """Delete rows of a table and those nested in them.

    Nested rows go first. Where it dies half-way, the filter still selects the rows that they belong
    to, and it can be done again.

    Args:
        config: The destination's options.
        dataset_name: The dataset as somebody names it, or None.
        table: The table as somebody names it.
        row_filter: Which rows, by their columns.

    Returns:
        How many rows went, by table.

    Raises:
        QdrantTerminalError: If there is no such table, it is a nested one or one of dlt's own, or
            Qdrant refuses the filter.
    """
    _refuse_unfit(row_filter)
    with found_table(config, dataset_name, table) as found:
        found.refuse_nested("Delete the rows")
        names = [found.name, *(str(nested["name"]) for nested in found.nested)]
        with found.removing(ROW_DELETION) as gone:
            _Deletion(found, gone).delete(row_filter)
        collections = map(found.collections.name, names)
        if gone and (kept := Generations(found.collections).kept(collections)):
            logger.warning(
                "%s kept the rows as they were before a swap. Delete what must not stay.",
                ", ".join(f"`{name}`" for name in kept),
            )
    return {name: gone[name] for name in names if gone[name]}


def _refuse_unfit(row_filter: Any) -> None:
    """Refuse what is no filter, and one that selects every row."""
    from qdrant_client import models

    if not isinstance(row_filter, models.Filter):
        raise QdrantConfigurationError(
            f"The filter is a {type(row_filter).__name__}; it must be a "
            "`qdrant_client.models.Filter`."
        )
    if not (row_filter.must or row_filter.should or row_filter.must_not or row_filter.min_should):
        raise QdrantConfigurationError(
            "The filter has no condition, so it would delete every row. Name a condition. To empty "
            "a table, load it with `refresh='drop_resources'`."
        )


class _Deletion:
    """A deletion under way.

    Args:
        table: The table, which no load is at work on.
        gone: To be counted in: how many rows went, by table.
    """

    def __init__(self, table: FoundTable, gone: Counter[str]) -> None:
        self._table = table
        self._collections = table.collections
        self._row_id = table.schema.naming.normalize_identifier(C_DLT_ID)
        self._gone = gone

    def delete(self, row_filter: models.Filter) -> None:
        """Delete the rows that a filter selects."""
        collection = self._collections.name(self._table.name)
        pages = self._collections.pages(
            collection, row_filter, page=_PAGE, payload=[self._row_id, SUPERSEDED]
        )
        try:
            for records in joined(pages, _MANY):
                self._delete(self._table.name, records)
        except QdrantTerminalError as error:
            if advice := missing_index(str(error), "the filter", collection):
                raise QdrantTerminalError(f"{error} {advice}") from error
            raise

    def _delete(self, table_name: str, records: list[models.Record]) -> None:
        """Delete rows of a table, after those nested in them."""
        rows = [record.payload or {} for record in records]
        # A merge that died may have left the nested rows of a row's former versions.
        ids = {id_ for row in rows for id_ in (row.get(self._row_id), *row.get(SUPERSEDED, ()))}
        for nested in self._table.nested:
            if nested["parent"] == table_name:
                link = str(get_first_column_name_with_prop(nested, "parent_key"))
                name = str(nested["name"])
                for found in joined(self._of_parents(name, link, ids - {None}), _MANY):
                    self._delete(name, found)
        self._collections.delete(
            self._collections.name(table_name), [record.id for record in records]
        )
        self._gone[table_name] += len(records)

    def _of_parents(self, name: str, link: str, ids: set[Any]) -> Iterator[list[models.Record]]:
        """The rows of a nested table that belong to some rows."""
        collection = self._collections.name(name)
        info = self._collections.describe(collection)
        if info is None:  # it never had a row
            return
        fields = [link, self._row_id]
        if self._collections.connection.is_local or link in info.payload_schema:
            yield from self._collections.pages_with(collection, link, sorted(ids), payload=fields)
            return
        # Where Qdrant is strict, it does not filter without an index.
        for records in self._collections.pages(collection, page=_PAGE, payload=fields):
            if found := [each for each in records if (each.payload or {}).get(link) in ids]:
                yield found
