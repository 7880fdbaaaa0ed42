"""The operations that the server knows, each once for both protocols, in terms of REST's models."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import zip_longest
from typing import Any

import qdrant_edge as edge
from pydantic import TypeAdapter
from qdrant_client.http import models as m

from . import convert
from .engine import Collection, Storage
from .errors import ApiError, UpdateError

# The client's own version, so that the client finds nothing to warn of.
_VERSION = m.VersionInfo(
    title="qdrant - vector search engine",
    version=".".join(version("qdrant-client").split(".")[:2]) + ".0",
)


@dataclass
class Call:
    """One request, whichever protocol brought it."""

    storage: Storage
    operation: str
    name: str = ""
    """The name of a collection or alias."""
    key: str = ""
    """What else REST has in the path: a point or a payload field."""
    body: Any = None
    wait: bool = False
    ordering: str | None = None
    """A write's; None if the client did not say."""
    consistency: str | None = None
    """A read's, likewise."""
    points: int = 0
    """How many points it has upserted."""
    started: float = field(default_factory=time.perf_counter)

    @property
    def collection(self) -> Collection:
        """The collection that the name stands for."""
        return self.storage[self.name]

    @property
    def seconds(self) -> float:
        """The time since the request came."""
        return time.perf_counter() - self.started


@dataclass(frozen=True)
class Operation:
    """A request that the server answers."""

    name: str
    route: str
    """REST's method and path."""
    body: TypeAdapter[Any]
    answer: Callable[[Call], Any]

    @property
    def open(self) -> bool:
        """Whether it needs no key."""
        return self.name in ("root", "health")

    @property
    def writes(self) -> bool:
        """Whether it changes something."""
        return not self.route.startswith("GET") and self.name not in _READS

    @property
    def waits(self) -> bool:
        """Whether the client can say `wait`."""
        return self.writes and "{name}/" in self.route

    def run(self, call: Call) -> Any:
        """Answer the request; the engine is used by one thread at a time."""
        with call.storage.lock:
            return self.answer(call)


# -- collections and aliases ------------------------------------------------------------------


def _list_collections(call: Call) -> m.CollectionsResponse:
    names = [m.CollectionDescription(name=name) for name in call.storage.collections]
    return m.CollectionsResponse(collections=names)


def _create_collection(call: Call) -> bool:
    call.storage.create(call.name, call.body)
    return True


def _update_collection(call: Call) -> bool:
    call.collection.update(call.body)
    return True


def _update_aliases(call: Call) -> bool:
    call.storage.change_aliases(call.body.actions)
    return True


def _list_aliases(call: Call) -> m.CollectionsAliasesResponse:
    """All aliases, or those of one collection."""
    own = call.collection.name if call.name else None
    aliases = [
        m.AliasDescription(alias_name=alias, collection_name=name)
        for alias, name in call.storage.aliases.items()
        if own in (None, name)
    ]
    return m.CollectionsAliasesResponse(aliases=aliases)


# -- updates ----------------------------------------------------------------------------------


def _updated(call: Call, number: int | None) -> m.UpdateResult:
    status = m.UpdateStatus.COMPLETED if call.wait else m.UpdateStatus.ACKNOWLEDGED
    return m.UpdateResult(operation_id=number, status=status)


def _upsert(collection: Collection, body: m.PointsList | m.PointsBatch) -> edge.UpdateOperation:
    if isinstance(body, m.PointsList):
        points = [(point.id, point.vector, point.payload) for point in body.points]
    else:
        points = _rows(body.batch)
    mode: Any = body.update_mode and body.update_mode.value.title().replace("_", "")
    return edge.UpdateOperation.upsert_points(
        [
            edge.Point(convert.point_id(id_), collection.vector(vector), payload)
            for id_, vector, payload in points
        ],
        collection.filter(body.update_filter, update=True),
        mode and getattr(edge.UpdateMode, mode),
    )


def _rows(batch: m.Batch) -> list[Any]:
    """A batch's columns as points."""
    vectors: Any = batch.vectors
    if isinstance(vectors, dict):
        vectors = [
            dict(zip(vectors, row, strict=True)) for row in zip(*vectors.values(), strict=False)
        ]
    if {len(vectors), len(batch.payloads or vectors)} != {len(batch.ids)}:
        text = "number of ids, vectors and payloads must be equal"
        raise ApiError(422, f"Validation error in JSON body: [batch: {text}]")
    return list(zip_longest(batch.ids, vectors, batch.payloads or []))


def _update_vectors(collection: Collection, body: m.UpdateVectors) -> edge.UpdateOperation:
    points = [
        edge.PointVectors(convert.point_id(point.id), collection.vector(point.vector))
        for point in body.points
    ]
    selected = collection.filter(body.update_filter, update=True)
    return edge.UpdateOperation.update_vectors(points, selected)


def _selected(name: str, *fields: str) -> Callable[[Collection, Any], edge.UpdateOperation]:
    """An update of the points that the body lists, or else of those that its filter matches."""

    def make(collection: Collection, body: Any) -> Any:
        values = [getattr(body, field) for field in fields]
        if (points := getattr(body, "points", None)) is not None:
            ids = [convert.point_id(id_) for id_ in points]
            return getattr(edge.UpdateOperation, name)(ids, *values)
        if (condition := getattr(body, "filter", None)) is None:
            raise ApiError(400, "Bad request: No filter or points specified")
        selected = collection.filter(condition, update=True)
        return getattr(edge.UpdateOperation, f"{name}_by_filter")(selected, *values)

    return make


_UPDATES: dict[str, Callable[[Collection, Any], edge.UpdateOperation]] = {
    "upsert": _upsert,
    "delete": _selected("delete_points"),
    "update_vectors": _update_vectors,
    "delete_vectors": _selected("delete_vectors", "vector"),
    "set_payload": _selected("set_payload", "payload", "key"),
    "overwrite_payload": _selected("overwrite_payload", "payload", "key"),
    "delete_payload": _selected("delete_payload", "keys"),
    "clear_payload": _selected("clear_payload"),
}


def _update(call: Call) -> m.UpdateResult:
    return _apply(call, call.operation, call.body)


def _apply(call: Call, kind: str, body: Any) -> m.UpdateResult:
    collection = call.collection
    try:
        number = collection.apply(_UPDATES[kind](collection, body))
    except UpdateError:
        if call.wait:
            raise
        return _updated(call, None)  # as in Qdrant: who does not wait never hears of it
    if kind == "upsert":
        call.points += len(body.points if isinstance(body, m.PointsList) else body.batch.ids)
    return _updated(call, number)


def _batch_update(call: Call) -> list[m.UpdateResult]:
    """Several updates in order; the first that fails ends the request."""
    updates = [next(iter(vars(operation).items())) for operation in call.body.operations]
    return [_apply(call, kind, body) for kind, body in updates]


def _create_index(call: Call) -> m.UpdateResult:
    return _updated(call, call.collection.add_index(call.body.field_name, call.body.field_schema))


def _delete_index(call: Call) -> m.UpdateResult:
    return _updated(call, call.collection.remove_index(call.key))


# -- reads ------------------------------------------------------------------------------------


def _limit(body: Any) -> int:
    if body.limit is not None and body.limit < 1:
        text = f"limit: value {body.limit} invalid, must be 1 or larger"
        raise ApiError(422, f"Validation error in JSON body: [{text}]")
    return body.limit or 10


def _retrieve(call: Call) -> list[m.Record]:
    """Points by their ids; unknown ids are left out."""
    ids = [convert.point_id(id_) for id_ in call.body.ids]
    payload = convert.with_payload(call.body.with_payload, default=True)
    points = call.collection.ask("retrieve", ids, payload, call.body.with_vector or False)
    return [convert.record(point) for point in points]


def _get_point(call: Call) -> m.Record:
    id_ = convert.point_id(int(call.key) if call.key.isdecimal() else call.key)
    for point in call.collection.ask("retrieve", [id_], True, True):
        return convert.record(point)
    raise ApiError(404, f"Not found: Point with id {id_} does not exists!")


def _scroll(call: Call) -> m.ScrollResult:
    """A page of points, in the order of their ids or of an indexed payload field."""
    body = call.body
    request = edge.ScrollRequest(
        offset=None if body.offset is None else convert.point_id(body.offset),
        limit=_limit(body),
        filter=call.collection.filter(body.filter),
        with_payload=convert.with_payload(body.with_payload, default=True),
        with_vector=body.with_vector or False,
        order_by=convert.order_by(body.order_by),
    )
    points, following = call.collection.ask("scroll", request)
    return m.ScrollResult.model_construct(
        points=[convert.record(point) for point in points],
        next_page_offset=None if following is None else convert.point_id(following),
    )


def _count(call: Call) -> m.CountResult:
    request = edge.CountRequest(exact=True, filter=call.collection.filter(call.body.filter))
    return m.CountResult(count=call.collection.ask("count", request))


def _facet(call: Call) -> m.FacetResponse:
    """The values of an indexed field with their numbers of points."""
    selected = call.collection.filter(call.body.filter)
    request = edge.FacetRequest(call.body.key, _limit(call.body), True, selected)
    hits = call.collection.ask("facet", request)
    return m.FacetResponse(hits=[m.FacetValueHit(value=h.value, count=h.count) for h in hits])


def _query(collection: Collection, body: m.QueryRequest) -> m.QueryResponse:
    request = edge.QueryRequest(
        offset=body.offset,
        with_payload=convert.with_payload(body.with_payload, default=False),
        with_vector=body.with_vector or False,
        **_search(collection, body),
    )
    points = [convert.scored_point(point) for point in collection.ask("query", request)]
    return m.QueryResponse.model_construct(points=points)


def _search(collection: Collection, body: m.QueryRequest | m.Prefetch) -> dict[str, Any]:
    selected = collection.filter(body.filter)
    wanted: Any = body.query
    if isinstance(wanted, m.NearestQuery) and wanted.mmr is None:
        wanted = wanted.nearest
    if isinstance(wanted, (int, str)):  # a point stands for its vector, and is not found itself
        own: Any = [edge.HasIdCondition({convert.point_id(wanted)})]
        selected = edge.Filter(must=[selected] if selected else None, must_not=own)
        wanted = _vector_of(collection, wanted, body.using)
    return {
        "limit": _limit(body),
        "query": _scoring(wanted, body.using),
        "prefetches": [
            edge.Prefetch(**_search(collection, inner)) for inner in convert.listed(body.prefetch)
        ],
        "filter": selected,
        "score_threshold": body.score_threshold,
    }


def _vector_of(collection: Collection, id_: int | str, using: str | None) -> Any:
    for point in collection.ask("retrieve", [convert.point_id(id_)], False, True):
        vector = convert.record(point).vector
        return vector.get(using or "") if isinstance(vector, dict) else vector
    raise ApiError(404, f"Not found: No point with id {id_} found")


def _scoring(wanted: Any, using: str | None) -> Any:
    match wanted:
        case None:
            return None
        case m.OrderByQuery(order_by=order):
            return convert.order_by(order)
        case m.FusionQuery(fusion=fusion):
            return edge.Fusion.Dbsf() if fusion == m.Fusion.DBSF else edge.Fusion.Rrf(2)
        case m.RrfQuery(rrf=rrf):
            return edge.Fusion.Rrf(rrf.k or 2, rrf.weights)
        case m.Document() if wanted.model.lower() == "qdrant/bm25":
            return edge.Query.Nearest(edge.Bm25().embed_query(wanted.text), using)
        case list() | m.SparseVector():
            return edge.Query.Nearest(convert.vector(wanted), using)
    raise ApiError(501, f"The test server has no {type(wanted).__name__}")


# -- all of them ------------------------------------------------------------------------------

_READS = ("retrieve", "scroll", "count", "facet", "query", "query_batch")
_C, _P = "/collections/{name}", "/collections/{name}/points"
_ALL: list[tuple[str, str, Any, Callable[[Call], Any]]] = [
    ("root", "GET /", None, lambda call: _VERSION),
    ("health", "GET /(?:healthz|readyz|livez)", None, lambda call: "healthz check passed"),
    ("list_collections", "GET /collections", None, _list_collections),
    ("get_collection", f"GET {_C}", None, lambda call: call.collection.info()),
    (
        "collection_exists",
        f"GET {_C}/exists",
        None,
        lambda call: m.CollectionExistence(exists=call.name in call.storage),
    ),
    ("create_collection", f"PUT {_C}", m.CreateCollection, _create_collection),
    ("update_collection", f"PATCH {_C}", m.UpdateCollection, _update_collection),
    ("delete_collection", f"DELETE {_C}", None, lambda call: call.storage.delete(call.name)),
    ("update_aliases", "POST /collections/aliases", m.ChangeAliasesOperation, _update_aliases),
    ("list_aliases", "GET /aliases", None, _list_aliases),
    ("list_collection_aliases", f"GET {_C}/aliases", None, _list_aliases),
    ("upsert", f"PUT {_P}", m.PointInsertOperations, _update),
    ("delete", f"POST {_P}/delete", m.PointsSelector, _update),
    ("update_vectors", f"PUT {_P}/vectors", m.UpdateVectors, _update),
    ("delete_vectors", f"POST {_P}/vectors/delete", m.DeleteVectors, _update),
    ("set_payload", f"POST {_P}/payload", m.SetPayload, _update),
    ("overwrite_payload", f"PUT {_P}/payload", m.SetPayload, _update),
    ("delete_payload", f"POST {_P}/payload/delete", m.DeletePayload, _update),
    ("clear_payload", f"POST {_P}/payload/clear", m.PointsSelector, _update),
    ("batch_update", f"POST {_P}/batch", m.UpdateOperations, _batch_update),
    ("create_index", f"PUT {_C}/index", m.CreateFieldIndex, _create_index),
    ("delete_index", f"DELETE {_C}/index/{{key}}", None, _delete_index),
    ("retrieve", f"POST {_P}", m.PointRequest, _retrieve),
    ("get_point", f"GET {_P}/{{key}}", None, _get_point),
    ("scroll", f"POST {_P}/scroll", m.ScrollRequest, _scroll),
    ("count", f"POST {_P}/count", m.CountRequest, _count),
    ("facet", f"POST {_C}/facet", m.FacetRequest, _facet),
    ("query", f"POST {_P}/query", m.QueryRequest, lambda call: _query(call.collection, call.body)),
    (
        "query_batch",
        f"POST {_P}/query/batch",
        m.QueryRequestBatch,
        lambda call: [_query(call.collection, body) for body in call.body.searches],
    ),
]
OPERATIONS = {
    name: Operation(name, route, TypeAdapter(body), answer) for name, route, body, answer in _ALL
}
