"""Which collections a load writes to: those that readers know, or others that take their places."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from dlt.common.storages.exceptions import CurrentLoadPackageStateNotAvailable
from dlt.common.storages.load_package import commit_load_package_state, destination_state

from dagster_qdrant.destination.configuration import QdrantDestinationConfiguration
from dagster_qdrant.destination.generations.generations import Generations
from dagster_qdrant.destination.generations.rebuild import embed_again, is_outdated, refuse_change
from dagster_qdrant.destination.refusals import refuse_rows_without_partition
from dagster_qdrant.destination.tables.table_plan import TablePlan
from dagster_qdrant.destination.writing.table_collection import ensure_collection
from dagster_qdrant.qdrant.collections import Collections

if TYPE_CHECKING:
    from qdrant_client import models

# Under this key the state of a load package says which collections the load builds.
_TARGETS = "qdrant_targets"
# And here how many rows of each load those had that are embedded again.
_REBUILT = "qdrant_rebuilt"


def load_targets() -> dict[str, str]:
    """The collections that the load under way builds, by the names that they are going to have."""
    try:
        state = destination_state()
    except CurrentLoadPackageStateNotAvailable:  # nothing is loaded at the moment
        return {}
    targets: dict[str, str] = state.get(_TARGETS, {})
    return targets


class LoadTargets:
    """Chooses and builds the collections of a load.

    Args:
        collections: The dataset's collections.
        config: The destination's options.
    """

    def __init__(self, collections: Collections, config: QdrantDestinationConfiguration) -> None:
        self._collections = collections
        self._config = config
        self._generations = Generations(collections)

    def is_made_anew(self, plan: TablePlan) -> bool:
        """Whether a table gets another collection.

        That is when it is swapped, when it was embedded with another model or other columns, or
        when a load died that was about to exchange it.
        """
        info = self._collections.describe(plan.collection)
        if info is None and self._generations.is_to_be_recovered(plan.collection):
            return True
        return self._is_rebuilt(plan, info)

    def _is_rebuilt(self, plan: TablePlan, info: models.CollectionInfo | None) -> bool:
        if plan.write_disposition == "replace" and self._config.swaps:
            return True
        return info is not None and is_outdated(plan, info, self._config.embedding)

    def choose(self, plans: Iterable[TablePlan]) -> list[TablePlan]:
        """Decide which tables get another collection, and write it down in the load package.

        Args:
            plans: The tables of the load, with all that are nested in them.

        Returns:
            The plans of those that do, with the collection as their target.
        """
        rebuilt: list[TablePlan] = []
        for plan in plans:
            info = self._collections.describe(plan.collection)
            if info is None and self._generations.recover(plan.collection):
                info = self._collections.describe(plan.collection)
            if self._is_rebuilt(plan, info):
                rebuilt.append(replace(plan, target=self._generations.next(plan.collection)))
        for plan in rebuilt:  # what an attempt left that was made for yet another model goes
            begun = self._collections.describe(plan.target)
            if begun is not None and is_outdated(plan, begun, self._config.embedding):
                self._collections.drop(plan.target)
        if rebuilt:
            destination_state()[_TARGETS] = {plan.collection: plan.target for plan in rebuilt}
            commit_load_package_state()
        return rebuilt

    def ensure(self, plans: Iterable[TablePlan]) -> None:
        """See that the collections which tables are loaded into are there.

        Raises:
            QdrantTerminalError: If a partition of a table is loaded that was loaded as a whole.
        """
        for plan in plans:
            ensure_collection(self._collections, plan, self._config.embedding)
            refuse_rows_without_partition(plan, self._collections)

    def build(self, rebuilt: Iterable[TablePlan], load_id: str) -> None:
        """Fill collections that are there already with the rows of those whose place they take."""
        for plan in rebuilt:
            # A replace brings all rows that there shall be, unless it is one of a partition.
            if plan.write_disposition != "replace" or plan.partition is not None:
                rows_by_load = embed_again(self._collections, plan, self._config, load_id)
                destination_state().setdefault(_REBUILT, {})[plan.collection] = rows_by_load
                commit_load_package_state()

    def switch(self, load_id_field: str) -> None:
        """Let the names lead to the collections that the load built. May be done again.

        Args:
            load_id_field: The payload field with the id of a row's load.

        Raises:
            QdrantTransientError: If a collection changed while it was embedded again.
        """
        targets = load_targets()
        for collection, rows_by_load in destination_state().get(_REBUILT, {}).items():
            if not self._generations.leads_to(collection, targets[collection]):
                refuse_change(self._collections, collection, load_id_field, rows_by_load)
        if targets:
            self._generations.switch(targets, self._config.keep_former)
