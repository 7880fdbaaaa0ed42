"""What is checked of a table's collection, by reading a bounded part of it. Nothing is changed."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dlt.common.schema.typing import TTableSchema
from dlt.common.schema.utils import get_first_column_name_with_prop, get_nested_tables

from dagster_qdrant.data_version import LOAD_ID
from dagster_qdrant.destination.collections import matches, vector_params
from dagster_qdrant.destination.job_client import QdrantJobClient
from dagster_qdrant.destination.load_counts import LoadCounts
from dagster_qdrant.destination.rows import Row
from dagster_qdrant.destination.table_plan import EMBEDDING_HASH, TablePlan
from dagster_qdrant.embedding import EmbeddingError, load_embedder
from dagster_qdrant.errors import QdrantNotFoundError

if TYPE_CHECKING:
    from qdrant_client import models

# The checks that a table without embedded columns does not have.
VECTOR_CHECKS = {"all_vectors_present", "vectors_valid", "search_finds_row"}

# The most points that one check of a collection reads.
_SAMPLED_VECTORS = 256
_SAMPLED_NESTED_ROWS = 1_000

# Cosine similarity from which on two vectors count as those of one text.
_SAME = 0.95


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Args:
        passed: Whether all is well.
        description: What was found, in a sentence or two.
        numbers: What it was counted from.
    """

    passed: bool
    description: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LastLoad:
    """What the last load is known to have left.

    Args:
        load_id: dlt's id of the load; None if it is not known.
        points: Points that bear its id, by table.
        row_count: All points of the table's collection after it.
    """

    load_id: str | None
    points: Mapping[str, int]
    row_count: int

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> LastLoad | None:
        """Read off what the materialization of an asset shows; None if it shows no rows."""
        row_count = metadata.get("dagster/row_count")
        if row_count is None:
            return None
        return cls(
            load_id=metadata.get(LOAD_ID),
            points=metadata.get("points_of_load") or {},
            row_count=getattr(row_count, "value", row_count),
        )


def points_of_load(
    client: QdrantJobClient, table_name: str, counts: Mapping[str, LoadCounts]
) -> dict[str, Any]:
    """What a materialization shows of its load, beside its id, for checks to compare with.

    Args:
        client: The job client, entered.
        table_name: The table.
        counts: What the load did, by table.
    """
    if table_name not in client.schema.tables:
        return {}
    tables = [str(table["name"]) for table in get_nested_tables(client.schema.tables, table_name)]
    return {"points_of_load": {name: counts[name].points for name in tables if name in counts}}


class CollectionChecks:
    """The checks of one table. A method whose name a check has makes its finding.

    Args:
        client: The job client, entered, with a schema that has the table.
        table_name: The table, as dlt named it.
        last_load: What the last load left; None if nothing is known of one.
    """

    def __init__(
        self, client: QdrantJobClient, table_name: str, last_load: LastLoad | None
    ) -> None:
        self._client = client
        self._collections = client.collections
        self._connection = client.connection
        self._embedding = client.config.embedding
        self._table_name = table_name
        self._collection = self._collections.name(table_name)
        self._last_load = last_load

    def find(self, check_name: str) -> Finding:
        """Make a check.

        Raises:
            QdrantError: If Qdrant cannot be asked.
        """
        if self._info is None or self._table_name not in self._client.schema.tables:
            return self._nothing_there()
        if check_name in VECTOR_CHECKS:
            if not self._plan.embed:
                return Finding(True, "No column of the table is embedded.")
            if unfit := self._unfit_vectors(self._info):
                return unfit
        finding: Finding = getattr(self, check_name)(self._info)
        return finding

    def _unfit_vectors(self, info: models.CollectionInfo) -> Finding | None:
        vectors, model = vector_params(info), self._embedding
        params = vectors.get(model.vector_name)
        if params and params.size == model.vector_size:
            return None
        holds = [f"`{name}` of size {params.size}" for name, params in vectors.items()]
        return Finding(
            False,
            f"Collection `{self._collection}` has {' and '.join(holds) or 'no vectors'}, but the "
            f"model '{model.model}' makes `{model.vector_name}` of size {model.vector_size}. Set "
            "`model` to the one it was loaded with, or materialize the asset, which embeds all "
            "rows anew.",
            {"model_size": model.vector_size},
        )

    def _nothing_there(self) -> Finding:
        if self._last_load and not self._last_load.row_count:
            return Finding(True, "The resource has given no row so far.")
        return Finding(
            False,
            f"There is no collection `{self._collection}` that a load of this table made. Was the "
            "asset never materialized, or was the collection deleted? Materialize the asset.",
        )

    @cached_property
    def _info(self) -> models.CollectionInfo | None:
        return self._collections.describe(self._collection)

    @cached_property
    def _plan(self) -> TablePlan:
        return self._client.plan(self._table_name)

    @cached_property
    def _nested(self) -> list[TTableSchema]:
        """The nested tables that have a collection."""
        tables = get_nested_tables(self._client.schema.tables, self._table_name, include_self=False)
        return [
            table
            for table in tables
            if self._collections.exists(self._collections.name(str(table["name"])))
        ]

    def all_rows_present(self, _info: models.CollectionInfo) -> Finding:
        """The rows of the last load are there, and none has gone since."""
        count = self._collections.count(self._collection)
        numbers: dict[str, Any] = {"points": count}
        last = self._last_load
        if last is None:
            return Finding(True, "Nothing is known of a load to compare with.", numbers)
        numbers["points_after_last_load"] = last.row_count
        missing = {}
        if count < last.row_count:
            missing[self._table_name] = last.row_count - count
        if last.load_id:
            for table_name, expected in last.points.items():
                found = self._count_of_load(table_name, last.load_id)
                numbers |= {f"{table_name}_loaded": expected, f"{table_name}_found": found}
                if found < expected:
                    missing[table_name] = max(missing.get(table_name, 0), expected - found)
        if not missing:
            return Finding(True, "All rows of the last load are in the collection.", numbers)
        if self._has_later_load(last.load_id):
            return Finding(True, "A later load may have taken rows over.", numbers)
        gone = " and ".join(f"{n} of table `{name}`" for name, n in missing.items())
        return Finding(
            False,
            f"Rows that the last load left are missing: {gone}. Were points deleted? Materialize "
            "the asset to load them again; an incremental resource needs "
            "`refresh='drop_resources'` for that.",
            numbers,
        )

    def _count_of_load(self, table_name: str, load_id: str) -> int:
        plan = self._client.plan(table_name)
        try:
            return self._collections.count(plan.collection, matches({plan.load_id: load_id}))
        except QdrantNotFoundError:
            return 0

    def _has_later_load(self, load_id: str | None) -> bool:
        values = self._collections.values(self._collection, self._plan.load_id)
        return load_id is not None and any(_is_later(other, load_id) for other in values)

    def all_vectors_present(self, _info: models.CollectionInfo) -> Finding:
        """A point that was loaded with a text has a vector."""
        without = self._points_have_vector(False)
        missing = self._points_have_vector(False, with_text=True)
        numbers = {
            "points_without_vector": self._collections.count(self._collection, without),
            "vectors_missing": self._collections.count(self._collection, missing),
        }
        if not numbers["vectors_missing"]:
            return Finding(True, "Every row with text has its vector.", numbers)
        [example] = self._scroll(self._collection, 1, missing, payload=[])
        return Finding(
            False,
            f"{numbers['vectors_missing']} rows were loaded with a text and have no vector, say "
            f"point {example.id}. Delete such points and materialize the asset.",
            numbers,
        )

    def vectors_valid(self, _info: models.CollectionInfo) -> Finding:
        """Vectors have the model's size; those of a sample are finite and not zero."""
        import numpy as np

        unfit = [
            point_id
            for point_id, (_, vector) in self._sample.items()
            if not np.isfinite(vector).all() or not vector.any()
        ]
        numbers = {
            "vector_size": self._embedding.vector_size,
            "vectors_read": len(self._sample),
            "vectors_unfit": len(unfit),
        }
        if not unfit:
            return Finding(True, "Vectors have the model's size and are finite.", numbers)
        return Finding(
            False,
            f"{len(unfit)} of {len(self._sample)} vectors are zero or not finite, so no search "
            f"finds them, say that of point {unfit[0]}. Delete such points and materialize the "
            "asset.",
            numbers,
        )

    def no_orphans(self, _info: models.CollectionInfo) -> Finding:
        """The parents of a sample of nested rows are there."""
        numbers: dict[str, int] = {}
        orphans: list[str] = []
        for table in self._nested:
            name = str(table["name"])
            records, found = self._orphans(table)
            numbers |= {f"{name}_rows_read": len(records), f"{name}_orphans": len(found)}
            orphans += found
        if not orphans:
            return Finding(True, "The nested rows that were read have their parents.", numbers)
        return Finding(
            False,
            f"{len(orphans)} nested rows have no parent, say point {orphans[0]}. Delete such "
            "points.",
            numbers,
        )

    def _orphans(self, table: TTableSchema) -> tuple[list[Any], list[str]]:
        """Some rows of a nested table, and the points among them without a parent."""
        link = str(get_first_column_name_with_prop(table, "parent_key"))
        parent = self._client.plan(str(table["parent"]))
        collection = self._collections.name(str(table["name"]))
        records = self._scroll(collection, _SAMPLED_NESTED_ROWS, None, payload=[link])
        wanted = sorted({str(record.payload.get(link)) for record in records})
        if not wanted:  # a condition on no ids at all has no type, which a strict server refuses
            return [], []
        parents = self._scroll(
            parent.collection,
            len(wanted),
            matches({parent.row_id: wanted}),
            payload=[parent.row_id],
        )
        there = {str(record.payload[parent.row_id]) for record in parents}
        lost = [str(r.id) for r in records if str(r.payload.get(link)) not in there]
        return records, lost

    def collection_healthy(self, info: models.CollectionInfo) -> Finding:
        """Qdrant reports no failure, and what our queries filter by is indexed."""
        from qdrant_client import models

        problems = []
        if info.status == models.CollectionStatus.RED:
            problems.append("its status is red: an operation on it failed in Qdrant")
        if isinstance(info.optimizer_status, models.OptimizersStatusOneOf1):
            problems.append(f"its optimizer failed: {info.optimizer_status.error}")
        missing = []
        if not self._connection.is_local:  # local mode has no indexes
            missing = sorted(set(self._client.indexes(self._plan)) - set(info.payload_schema))
        if missing:
            names = ", ".join(f"`{name}`" for name in missing)
            problems.append(f"it lacks the payload index on {names}, which the next load restores")
        numbers = {
            "status": info.status.value,
            "points": info.points_count or 0,
            "segments": info.segments_count,
            "indexes_missing": len(missing),
        }
        if not problems:
            return Finding(True, "Qdrant reports no failure and the indexes are there.", numbers)
        return Finding(False, f"Collection `{self._collection}`: {'; '.join(problems)}.", numbers)

    def search_finds_row(self, _info: models.CollectionInfo) -> Finding:
        """A search for the text of a row finds the row, or one that is just as near."""
        import numpy as np

        row = self._row_to_search_for()
        if row is None:
            return Finding(True, "No row has a vector of the columns that are embedded now.")
        point_id, text, stored = row
        try:
            vector = load_embedder(self._embedding).embed([text])[0]
        except EmbeddingError as error:
            return Finding(False, f"The model could not be loaded: {error}")
        hits = self._connection.request(
            self._connection.client.query_points,
            self._collection,
            query=vector.tolist(),
            using=self._embedding.vector_name,
            limit=1,
            with_payload=False,
        ).points
        lengths = float(np.linalg.norm(vector) * np.linalg.norm(stored))
        own = float(vector @ stored) / lengths if lengths else 0.0
        best = hits[0].score if hits else 0.0
        numbers = {"similarity_of_row": round(own, 4), "similarity_of_best_hit": round(best, 4)}
        if own < _SAME:
            return Finding(
                False,
                f"Point {point_id} is not found by its text, since its vector is that of another "
                "text or was made by another model. Delete such points and materialize the asset.",
                numbers,
            )
        if best < _SAME:
            return Finding(
                False,
                f"A search for the text of point {point_id} does not find it, though its vector "
                "is right. Is the collection's vector index damaged?",
                numbers,
            )
        return Finding(True, "A search for the text of a row finds it.", numbers)

    def _row_to_search_for(self) -> tuple[str, str, Any] | None:
        """The id, text and vector of a row."""
        for point_id, (payload, vector) in self._sample.items():
            row = Row.of(
                dict(payload), self._plan, self._embedding.model, size=0, point_id=point_id
            )
            # Rows that came when other columns were embedded have the vector of another text.
            if row.text and row.embedding_hash == payload.get(EMBEDDING_HASH):
                return point_id, row.text, vector
        return None

    @cached_property
    def _sample(self) -> dict[str, tuple[dict[str, Any], Any]]:
        """Payloads and vectors of some points that have one."""
        import numpy as np

        name = self._embedding.vector_name
        records = self._scroll(
            self._collection,
            _SAMPLED_VECTORS,
            self._points_have_vector(True),
            payload=[EMBEDDING_HASH, *self._plan.embed],
            vectors=[name],
        )
        return {
            str(record.id): (record.payload, np.asarray(record.vector[name], dtype=np.float32))
            for record in records
        }

    def _points_have_vector(self, have: bool, *, with_text: bool = False) -> models.Filter:
        from qdrant_client import models

        vector = models.HasVectorCondition(has_vector=self._embedding.vector_name)
        if have:
            return models.Filter(must=[vector])
        no_text = models.IsEmptyCondition(is_empty=models.PayloadField(key=EMBEDDING_HASH))
        return models.Filter(must_not=[vector, no_text] if with_text else [vector])

    def _scroll(
        self,
        collection: str,
        limit: int,
        condition: models.Filter | None,
        *,
        payload: list[str],
        vectors: list[str] | None = None,
    ) -> list[Any]:
        """Points from a random place on, in the order of their ids, which are random themselves."""
        records: dict[Any, Any] = {}
        for offset in (str(uuid.uuid4()), None):
            if len(records) < limit:
                page, _ = self._connection.request(
                    self._connection.client.scroll,
                    collection,
                    scroll_filter=condition,
                    limit=limit,
                    offset=offset,
                    with_payload=payload,
                    with_vectors=vectors or False,
                )
                records |= {record.id: record for record in page}
        return list(records.values())[:limit]


def _is_later(load_id: str, than: str) -> bool:
    """Whether a load began after another; dlt's load ids are the times at which they began."""
    try:
        return float(load_id) > float(than)
    except ValueError:
        return False
