"""Which collections a load writes to: those that readers know, or others that take their places."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dlt.common.storages.exceptions import CurrentLoadPackageStateNotAvailable
from dlt.common.storages.load_package import commit_load_package_state, destination_state
from dlt.common.typing import DictStrAny

from dagster_qdrant.destination.configuration import QdrantDestinationConfiguration
from dagster_qdrant.destination.generations.generations import Generations
from dagster_qdrant.destination.generations.rebuild import (
    embed_again,
    has_vectors_for,
    is_outdated,
    refuse_change,
)
from dagster_qdrant.destination.generations.recut import cut_again, is_cut_otherwise
from dagster_qdrant.destination.refusals import refuse_rows_without_partition
from dagster_qdrant.destination.tables.hints import TableHint
from dagster_qdrant.destination.tables.keywords import Keywords
from dagster_qdrant.destination.tables.rows import embedding_text
from dagster_qdrant.destination.tables.table_plan import TablePlan
from dagster_qdrant.destination.writing.table_collection import (
    TEXTS_MISSING,
    ensure_collection,
    ensure_collections,
    fixed_differences_of,
)
from dagster_qdrant.qdrant.collections import CHUNKS_IN, Collections, about

if TYPE_CHECKING:
    from qdrant_client import models

# Under this key the state of a load package says which collections the load builds.
_TARGETS = "qdrant_targets"
# Here what was said of a table, where its hints alone do not tell it.
_SAID = "qdrant_said"
# Here the collections whose last load had no text, where there were texts before.
_WITHOUT_TEXTS = "qdrant_without_texts"
# And here how many rows of each load those had that are embedded again.
_REBUILT = "qdrant_rebuilt"

# How many texts are measured, where nobody said how long they are.
_SAMPLE = 1_000


def load_targets() -> dict[str, str]:
    """The collections that the load under way builds, by the names that they are going to have."""
    targets: dict[str, str] = (_state_of_load() or {}).get(_TARGETS, {})
    return targets


def settled_hints() -> dict[str, TableHint] | None:
    """What was said of a table by collection, where `LoadTargets.choose` had to settle it.

    Returns:
        None if nothing is loaded at the moment.
    """
    state = _state_of_load()
    if state is None:
        return None
    return {name: TableHint.read(said) for name, said in state.get(_SAID, {}).items()}


def without_texts() -> list[str]:
    """The collections whose load before this one had no text, where there were texts before."""
    collections: list[str] = (_state_of_load() or {}).get(_WITHOUT_TEXTS, [])
    return collections


def _state_of_load() -> DictStrAny | None:
    try:
        return destination_state()
    except CurrentLoadPackageStateNotAvailable:  # nothing is loaded at the moment
        return None


class LoadTargets:
    """Chooses and builds the collections of a load.

    Args:
        collections: The dataset's collections.
        config: The destination's options.
        brings_rows: Whether the load has rows of a table, or of the one that it is nested in.
        some_rows: Some of the rows that the load brings of a table.
    """

    def __init__(
        self,
        collections: Collections,
        config: QdrantDestinationConfiguration,
        brings_rows: Callable[[str], bool] = lambda _: True,
        some_rows: Callable[[str], list[dict[str, Any]]] = lambda _: [],
    ) -> None:
        self._collections = collections
        self._config = config
        self._brings_rows = brings_rows
        self._some_rows = some_rows
        self._generations = Generations(collections)
        self._of_rows: dict[str, TablePlan] = {}  # the plans of rows whose chunks are cut anew

    def is_made_anew(self, plan: TablePlan) -> bool:
        """Whether a table gets another collection.

        That is when it is swapped, when it was embedded with another model or other columns, or
        when a load died that was about to exchange it.
        """
        info = self._collections.describe(plan.collection)
        if info is None and self._generations.is_to_be_recovered(plan.collection):
            return True
        return self._is_rebuilt(self._settled(plan, info), info)

    def _settled(self, plan: TablePlan, info: models.CollectionInfo | None) -> TablePlan:
        """The plan with what was said of the table, where the hints alone do not tell it.

        dlt takes no hints of a table that gets no row, so nothing was said of it: it stays as it
        is. dlt's adapter knows no order, so the one there is will do. And the mean length of texts
        stays as it was measured.
        """
        there = TableHint.read(about(info)) if info else TableHint()
        if there.embed and plan.embed:
            if plan.in_any_order and set(plan.embed) == set(there.embed):
                plan = replace(plan, embed=there.embed)
        elif (there.embed or there.keywords) and not self._brings_rows(plan.table_name):
            plan = replace(plan, embed=there.embed, keywords=there.keywords)
        if there.chunk and not plan.chunk and not self._brings_rows(plan.table_name):
            chunks = about(info).get(CHUNKS_IN) if info else None
            plan = replace(plan, chunk=there.chunk, chunked=there.chunked, chunks=chunks)
        if there.vectors and not plan.vectors and not self._brings_rows(plan.table_name):
            plan = replace(plan, vectors=there.vectors)
        if there.index and not plan.index and not self._brings_rows(plan.table_name):
            plan = replace(plan, index=there.index, numbers=there.numbers)
        if there.collection and not plan.settings and not self._brings_rows(plan.table_name):
            plan = replace(plan, settings=there.collection)
        if plan.keywords and plan.keywords.avg_len is None and plan.keywords.fits(there.keywords):
            plan = replace(plan, keywords=there.keywords)
        return plan

    def _measured(self, plan: TablePlan, info: models.CollectionInfo | None) -> TablePlan:
        """The plan with the mean length of the texts whose keywords count."""
        if plan.keywords is None or plan.keywords.model or plan.keywords.avg_len is not None:
            return plan
        rows: list[Mapping[str, Any]] = []
        if info and info.points_count:  # what the load brings need not be like what is there
            points = next(self._collections.pages(plan.collection, payload=True, page=_SAMPLE), [])
            rows = [point.payload or {} for point in points]
        mean = _mean_length(plan.keywords, rows, plan) or _mean_length(
            plan.keywords, self._some_rows(plan.table_name), plan
        )
        return replace(plan, keywords=replace(plan.keywords, avg_len=mean and round(mean, 1)))

    def _is_rebuilt(self, plan: TablePlan, info: models.CollectionInfo | None) -> bool:
        if plan.write_disposition == "replace" and self._config.swaps:
            return True
        if is_cut_otherwise(plan, info, self._collections, self._config.embedding):
            return True
        return info is not None and is_outdated(plan, info, self._config.embedding)

    def _is_made_in_its_place(self, plan: TablePlan, info: models.CollectionInfo | None) -> bool:
        """Whether a collection can be made anew under its own name, since it has no points.

        Say one that a load left which found no model. What was set on it stays, and `ensure` writes
        down what it holds from now on.
        """
        name = plan.collection
        swapped = plan.write_disposition == "replace" and self._config.swaps
        if info is None or swapped or self._generations.is_alias(name):
            return False
        cut = is_cut_otherwise(plan, info, self._collections, self._config.embedding)
        if cut and not plan.brings_all:
            return False
        if self._collections.count(name):
            return False
        fits = has_vectors_for(plan, info, self._config.embedding)
        if not fits or fixed_differences_of(plan, info, self._config.embedding, self._collections):
            self._collections.drop(name)
            ensure_collection(self._collections, plan, self._config.embedding, former=info)
        return True

    def choose(self, plans: Iterable[TablePlan]) -> list[TablePlan]:
        """Decide which tables get another collection, and write it down in the load package.

        Args:
            plans: The tables of the load, with all that are nested in them.

        Returns:
            The plans of those that do, with the collection as their target.
        """
        rebuilt: list[TablePlan] = []
        said: dict[str, dict[str, Any]] = {}
        textless: list[str] = []
        plans = list(plans)
        by_table = {plan.table_name: plan for plan in plans}
        self._of_rows = {}
        for plan in plans:
            info = self._collections.describe(plan.collection)
            if info is None and self._generations.recover(plan.collection):
                info = self._collections.describe(plan.collection)
            if info is not None and TEXTS_MISSING in about(info):
                textless.append(plan.collection)
            settled = self._measured(self._settled(plan, info), info)
            if settled.said != plan.said:
                said[plan.collection] = settled.said.to_hint()
            if self._is_rebuilt(settled, info) and not self._is_made_in_its_place(settled, info):
                rebuilt.append(replace(settled, target=self._generations.next(plan.collection)))
                if is_cut_otherwise(settled, info, self._collections, self._config.embedding):
                    self._of_rows[plan.table_name] = by_table[str(plan.parent)]
        for plan in rebuilt:  # what an attempt left that was made for yet another model goes
            begun = self._collections.describe(plan.target)
            if begun is not None and (
                is_outdated(plan, begun, self._config.embedding)
                or is_cut_otherwise(plan, begun, self._collections, self._config.embedding)
            ):
                self._collections.drop(plan.target)
        targets = {plan.collection: plan.target for plan in rebuilt}
        state = destination_state()
        settled_now = {_TARGETS: targets, _SAID: said, _WITHOUT_TEXTS: textless}
        if any(value != (state.get(key) or type(value)()) for key, value in settled_now.items()):
            state |= {**settled_now, _REBUILT: {}}
            commit_load_package_state()
        return rebuilt

    def ensure(self, plans: Iterable[TablePlan]) -> None:
        """See that the collections which tables are loaded into are there.

        Raises:
            QdrantTerminalError: If a partition of a table is loaded that was loaded as a whole.
        """
        plans = list(plans)
        ensure_collections(self._collections, plans, self._config.embedding)
        for plan in plans:
            refuse_rows_without_partition(plan, self._collections)

    def build(self, rebuilt: Iterable[TablePlan], load_id: str, emptied: Set[str]) -> None:
        """Fill collections that are there already with the rows of those whose place they take.

        Args:
            rebuilt: Their plans.
            load_id: The load.
            emptied: The tables whose former rows dlt was told to drop.
        """
        for plan in rebuilt:
            if plan.brings_all or plan.table_name in emptied:
                continue
            if (of_rows := self._of_rows.get(plan.table_name)) is not None:
                cut_again(self._collections, plan, of_rows, self._config, load_id)
            else:
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


def _mean_length(
    keywords: Keywords, rows: Iterable[Mapping[str, Any]], plan: TablePlan
) -> float | None:
    """The mean number of keywords in the texts of rows; None if no row has one."""
    texts = (embedding_text(row, keywords.columns, plan.variants) for row in rows)
    return keywords.bm25.mean_length([text for text in texts if text])
