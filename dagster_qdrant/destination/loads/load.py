"""One load of a schema: its turn among others, its collections, its end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from dlt.common.schema import Schema
from dlt.common.schema.utils import get_root_table

from dagster_qdrant.destination.configuration import QdrantDestinationConfiguration
from dagster_qdrant.destination.generations.load_targets import LoadTargets
from dagster_qdrant.destination.loads.dead_loads import give_up, remove_stragglers
from dagster_qdrant.destination.loads.dlt_tables import DltTables
from dagster_qdrant.destination.loads.keyword_lengths import warn_of_other_lengths
from dagster_qdrant.destination.loads.load_claims import Claim
from dagster_qdrant.destination.loads.load_completion import remove_what_the_load_outdates
from dagster_qdrant.destination.loads.load_leases import (
    LoadLease,
    LoadTakenBackError,
    end_lease,
    keep_lease,
    lease_of,
)
from dagster_qdrant.destination.loads.load_package import (
    emptied_tables,
    failed_tables,
    has_rows,
    is_untouched,
    loaded_tables,
    some_rows,
)
from dagster_qdrant.destination.loads.load_record import LoadRecord, LoadStatus
from dagster_qdrant.destination.loads.loaded_rows import LoadedRows, forget
from dagster_qdrant.destination.loads.missing_texts import missing_texts, write_down
from dagster_qdrant.destination.loads.shared_load import (
    PartRows,
    Share,
    part_rows,
    share_of_load,
)
from dagster_qdrant.destination.loads.state_merge import base_states
from dagster_qdrant.destination.tables.table_chain import table_chain
from dagster_qdrant.destination.tables.table_plan import chunks_table
from dagster_qdrant.destination.writing.load_counts import load_reports
from dagster_qdrant.qdrant.collections import ARE_CHUNKS, Collections, about
from dagster_qdrant.qdrant.connection import connect
from dagster_qdrant.qdrant.known_collections import KnownCollections
from dagster_qdrant.stopping import last_words, refuse_if_stopping

if TYPE_CHECKING:
    from dagster_qdrant.destination.tables.table_plan import TablePlan

logger = logging.getLogger(__name__)


class Load:
    """A load under way.

    Args:
        load_id: dlt's id of it.
        schema: The schema whose tables are loaded.
        config: The destination's options.
        collections: The dataset's collections.
        plan_of: The plan of a table.
    """

    def __init__(
        self,
        load_id: str,
        schema: Schema,
        config: QdrantDestinationConfiguration,
        collections: Collections,
        plan_of: Callable[[str], TablePlan],
    ) -> None:
        self._load_id = load_id
        self._schema = schema
        self._config = config
        self._collections = collections
        self._plan_of = plan_of
        self._pipeline_name = config.pipeline_name or schema.name
        self._dlt_tables = DltTables(collections, schema)
        self._known = KnownCollections(collections)
        self._targets = LoadTargets(
            self._known, config, self._brings_rows, partial(some_rows, load_id)
        )

    @property
    def lease(self) -> LoadLease:
        """The load's lease; made once a process, from what the load is going to do."""
        return lease_of(self._load_id) or keep_lease(self._load_id, self._make_lease())

    def _make_lease(self) -> LoadLease:
        options, share = self._config.connection, share_of_load()
        return LoadLease(
            self._record(share),
            self._config.abandoned_after,
            lambda: connect(options),
            is_new=is_untouched(self._load_id),
            share=share,
        )

    def _record(self, share: Share | None) -> LoadRecord:
        """The load as it is to be written down."""
        owner = share.owner if share else ""
        if share and share.begun:  # what it claims is written down already
            return LoadRecord(self._load_id, self._pipeline_name, LoadStatus.RUNNING, owner=owner)
        data_tables = loaded_tables(self._load_id) - set(self._schema.dlt_table_names())
        plans = [self._plan_of(name) for name in sorted(data_tables)]
        return LoadRecord(
            self._load_id,
            self._pipeline_name,
            LoadStatus.RUNNING,
            tables=tuple(p.table_name for p in plans if p.write_disposition == "append"),
            claims=tuple(self._claims(plans)),
            owner=owner,
        )

    def _claims(self, plans: list[TablePlan]) -> Iterator[Claim]:
        emptied = emptied_tables()
        chains = self._chains({plan.table_name for plan in plans})
        for root, chain in chains.items():
            is_made_anew = root in emptied or any(map(self._targets.is_made_anew, chain))
            yield Claim.of(chain, is_made_anew=is_made_anew)
        yield from map(Claim, sorted(emptied - set(chains)))

    def _chains(self, loaded: set[str]) -> dict[str, list[TablePlan]]:
        """The tables that a load of some tables concerns, by their root."""
        chains = [table_chain(name, self._schema, self._plan_of, loaded) for name in sorted(loaded)]
        return {chain[0].table_name: chain for chain in chains}

    def _brings_rows(self, table_name: str) -> bool:
        """Whether the load brings rows of a table, or of the one that it is nested in."""
        return has_rows(self._load_id, self._root_of(table_name))

    def _root_of(self, table_name: str) -> str:
        return str(get_root_table(self._schema.tables, table_name)["name"])

    def prepare(self, tables: set[str]) -> None:
        """Make the collections that the load writes to, and fill those that are made anew.

        Args:
            tables: The tables that the load has, without dlt's own.
        """
        chains = self._chains(tables)
        plans = {plan.table_name: plan for chain in chains.values() for plan in chain}
        with self.lease.alive(self._dlt_tables):
            self._known.look_up(plan.collection for plan in plans.values())
            chosen = self._targets.choose(plans.values())
            # Also those that get no row: what the load outdates is looked for in them.
            others = plans.keys() - tables
            there = {name for name in others if self._known.exists(plans[name].collection)}
            rebuilt = {plan.table_name for plan in chosen}
            self._targets.ensure(self._plan_of(name) for name in sorted(tables | there | rebuilt))
            self._targets.build(chosen, self._load_id, emptied_tables())

    def complete(self) -> None:
        """Remove what the load outdates, then write down that it is complete.

        Of a part of the load, keep what has to be known of its rows when the load ends.

        Raises:
            LoadTakenBackError: If another run of the pipeline took the load for dead.
            QdrantTransientError: If a collection changed while it was embedded again.
        """
        lease, share = self.lease, share_of_load()
        with lease.alive(self._dlt_tables):
            if share and share.part is not None:
                part_rows.add(self._load_id, self._rows_of_part())
            elif not lease.is_complete:
                self._complete(lease)
        end_lease(self._load_id)
        forget(self._load_id)

    def _rows_of_part(self) -> PartRows:
        failed = failed_tables(self._load_id)
        rows = LoadedRows(self._load_id, self._config)
        plans = [self._plan_of(name) for name in sorted(loaded_tables(self._load_id) - failed)]
        return PartRows(
            ids={plan.table_name: rows.ids(plan) for plan in plans if plan.is_exclusive},
            row_ids={p.table_name: list(rows.row_ids(p)) for p in plans if p.merges_nested},
            failed=frozenset(failed),
        )

    def _complete(self, lease: LoadLease) -> None:
        load_id, dlt_tables, collections = self._load_id, self._dlt_tables, self._collections
        loaded = loaded_tables(load_id)
        failed = failed_tables(load_id).union(*(part.failed for part in part_rows.of(load_id)))
        if failed:
            logger.warning(
                "Rows of %s could not be loaded, so the rows that were there before stay.",
                ", ".join(f"`{table}`" for table in sorted(failed)),
            )
        else:
            data_tables = sorted(loaded - set(self._schema.dlt_table_names()))
            texts = missing_texts(load_id, map(self._plan_of, data_tables), collections)
            self._remove_chunks_of_none(loaded)
            rows = LoadedRows(load_id, self._config)
            remove_what_the_load_outdates(rows, loaded, self._schema, collections, self._plan_of)
            refuse_if_stopping()
            with last_words():  # half of a switch leaves readers without a collection
                self._targets.switch(dlt_tables.load_id_field)
                write_down(texts, collections)
            warn_of_other_lengths(load_id, map(self._plan_of, data_tables), collections)
        _say_what_was_cut(load_id)
        lease.take_back_dead_loads(dlt_tables, collections)
        base, state_table = base_states.pop(load_id, None), self._schema.state_table_name
        if base is not None and state_table in loaded:  # dlt stores a state that has changed
            # Read and written by one load of the pipeline at a time.
            lease.claim(Claim(state_table, self._pipeline_name), dlt_tables)
            dlt_tables.states.merge(self._pipeline_name, load_id, base)
        try:
            lease.complete(dlt_tables)
        except LoadTakenBackError:
            remove_stragglers(load_id, dlt_tables, collections)
            raise

    def _remove_chunks_of_none(self, loaded: set[str]) -> None:
        """Empty the collections of chunks that nobody asks for any more."""
        from qdrant_client import models

        for name in sorted(chunks_table(table, self._schema.naming) for table in loaded):
            plan = self._plan_of(name) if name in self._schema.tables else None
            info = self._collections.describe(plan.target) if plan and not plan.chunk else None
            if plan and info and (made := about(info)).pop(ARE_CHUNKS, None):
                self._collections.delete_where(plan.target, models.Filter())
                self._collections.set_about(plan.target, made)

    def give_up(self) -> None:
        """Write down that the load will never be resumed, so that others need not wait for it.

        Unless it was left with a write under way: then others have to wait.
        """
        end_lease(self._load_id)
        forget(self._load_id)
        if self._dlt_tables.has_left_writes:
            return
        if (record := self._dlt_tables.loads.record(self._load_id)) is not None:
            give_up(record, self._dlt_tables)
        remove_stragglers(self._load_id, self._dlt_tables, self._collections)


def _say_what_was_cut(load_id: str) -> None:
    for table_name, counts in load_reports.cut(load_id).items():
        logger.warning(
            "Table `%s`: %d of %d texts were cut, and %d tokens left out of their vectors, so "
            "searches do not find what was cut off: %s. Set `chunk=True` in `qdrant_adapter`, "
            "embed fewer columns, or take a model with a larger window.",
            table_name,
            counts.texts_cut,
            counts.texts,
            counts.tokens_cut,
            counts.longest_cut,
        )
