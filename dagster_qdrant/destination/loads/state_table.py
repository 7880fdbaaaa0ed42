"""dlt's table of pipeline states: where incremental loads go on."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from dlt.common.destination.client import StateInfo
from dlt.common.schema import Schema
from dlt.common.schema.typing import C_DLT_LOAD_ID

from dagster_qdrant.destination.loads.dlt_table import DltTable, now
from dagster_qdrant.destination.loads.load_table import LoadTable
from dagster_qdrant.destination.loads.state_merge import merge_states
from dagster_qdrant.errors import QdrantNotFoundError
from dagster_qdrant.qdrant.collections import Collections
from dagster_qdrant.qdrant.points import matches


class StateTable(DltTable):
    """The states of the pipelines that load into a dataset.

    Args:
        collections: The dataset's collections.
        schema: The schema whose naming convention the fields follow.
        loads: The loads of the dataset; a state counts once its load is complete.
    """

    def __init__(self, collections: Collections, schema: Schema, loads: LoadTable) -> None:
        super().__init__(collections, schema, schema.state_table_name)
        self._loads = loads

    def newest(self, pipeline_name: str) -> StateInfo | None:
        """The latest state of a pipeline whose load completed.

        Raises:
            QdrantNotFoundError: If the dataset has no states or no loads.
        """
        condition = matches({self._field("pipeline_name"): pipeline_name})
        order_by, load_id = self._field("created_at"), self._field(C_DLT_LOAD_ID)
        # The newest one will do, unless its load failed.
        pages = self._newest_first(condition, order_by, page=1)
        newest = [record.payload or {} for record in next(pages, [])]
        for payload in newest:
            if payload.get(load_id) and self._loads.completed({payload[load_id]}):
                return StateInfo.from_normalized_mapping(payload, self._schema.naming)
        if not newest:
            return None
        # Any number of loads may have failed since the last that completed, and states are large.
        for page in self._newest_first(condition, order_by, fields=[load_id]):
            loads = {record.id: (record.payload or {}).get(load_id) for record in page}
            completed = self._loads.completed({load for load in loads.values() if load})
            for point_id, load in loads.items():
                if load in completed:
                    payload = self._collections.payload(self._collection, point_id)
                    return StateInfo.from_normalized_mapping(payload, self._schema.naming)
        return None

    def pipeline_names(self) -> set[str]:
        """The pipelines that have a state in the dataset, of loads that completed or not."""
        field_name = self._field("pipeline_name")
        names: set[str] = set()
        with suppress(QdrantNotFoundError):  # nothing was loaded yet
            for page in self._collections.pages(self._collection, page=1000, payload=[field_name]):
                names |= {(record.payload or {})[field_name] for record in page}
        return names

    def merge(self, pipeline_name: str, load_id: str, base: Mapping[str, Any]) -> None:
        """Bring the state of a load together with what others have stored since it began.

        Args:
            pipeline_name: The pipeline.
            load_id: The load, which is not complete yet.
            base: The state from which it began.
        """
        from dlt.common.versioned_state import (
            bump_state_version_if_modified,
            compress_state,
            decompress_state,
        )

        field, connection = self._field, self._collections.connection
        own = matches({field(C_DLT_LOAD_ID): load_id, field("pipeline_name"): pipeline_name})
        try:
            newest = self.newest(pipeline_name)
        except QdrantNotFoundError:  # nothing was stored before
            return
        if newest is None or newest.version_hash == base.get("_version_hash"):
            return
        for [record] in self._collections.pages(self._collection, own, payload=True, page=1):
            mine = decompress_state((record.payload or {})[field("state")])
            state: Any = merge_states(base, mine, decompress_state(newest.state))
            state["_state_version"] = max(state["_state_version"], newest.version)
            version, version_hash, _ = bump_state_version_if_modified(state)
            changes = {
                "version": version,
                "version_hash": version_hash,
                "state": compress_state(state),
                "created_at": now(),
            }
            connection.request(
                connection.client.set_payload,
                self._collection,
                payload={field(name): value for name, value in changes.items()},
                points=[record.id],
                wait=True,
            )
