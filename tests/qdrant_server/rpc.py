"""The gRPC interface: each call becomes the REST operation of the same meaning."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

import grpc
from google.protobuf.message_factory import GetMessageClass
from qdrant_client import grpc as pb
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc
from qdrant_client.grpc import collections_service_pb2, points_service_pb2, qdrant_pb2
from qdrant_client.http import models as m

from .engine import Storage
from .errors import ApiError, ConnectionCut
from .operations import OPERATIONS, Call
from .traffic import Keys, Traffic

_CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.ALREADY_EXISTS,
    413: grpc.StatusCode.OUT_OF_RANGE,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    502: grpc.StatusCode.UNAVAILABLE,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
    507: grpc.StatusCode.RESOURCE_EXHAUSTED,
}


def _code(status: int) -> grpc.StatusCode:
    other = grpc.StatusCode.INVALID_ARGUMENT if status < 500 else grpc.StatusCode.INTERNAL
    return _CODES.get(status, other)


# -- bodies: a message's fields as those of REST's model ----------------------------------------

# How to convert a field; what is not here is a plain value. The client's converters are by type.
_FIELDS: dict[str, Callable[[Any], Any]] = {
    "filter": GrpcToRest.convert_filter,
    "hnsw_config": GrpcToRest.convert_hnsw_config_diff,
    "offset": GrpcToRest.convert_point_id,
    "optimizers_config": GrpcToRest.convert_optimizers_config_diff,
    "order_by": GrpcToRest.convert_order_by,
    "points_selector": GrpcToRest.convert_points_selector,
    "quantization_config": GrpcToRest.convert_quantization_config,
    "sparse_vectors_config": GrpcToRest.convert_sparse_vector_config,
    "strict_mode_config": GrpcToRest.convert_strict_mode_config,
    "update_filter": GrpcToRest.convert_filter,
    "update_mode": GrpcToRest.convert_update_mode,
    "vectors_config": GrpcToRest.convert_vectors_config,
    "wal_config": GrpcToRest.convert_wal_config_diff,
    "with_payload": GrpcToRest.convert_with_payload_selector,
    "with_vectors": GrpcToRest.convert_with_vectors_selector,
}


def _ordering(request: Any) -> str | None:
    """A write's ordering; None if the client did not say."""
    if "ordering" not in request.DESCRIPTOR.fields_by_name or not request.HasField("ordering"):
        return None
    return GrpcToRest.convert_write_ordering(request.ordering).value


def _consistency(request: Any) -> str | None:
    """A read's consistency; None if the client did not say."""
    name = "read_consistency"
    if name not in request.DESCRIPTOR.fields_by_name or not request.HasField(name):
        return None
    asked = GrpcToRest.convert_read_consistency(request.read_consistency)
    return str(getattr(asked, "value", asked))


def _get(request: Any, *names: str) -> dict[str, Any]:
    """The fields of a message that are set, converted."""
    return {
        name: _FIELDS.get(name, lambda value: value)(getattr(request, name))
        for name in names
        if request.HasField(name)
    }


def _selection(request: Any) -> dict[str, Any]:
    return {k: v for s in _get(request, "points_selector").values() for k, v in dict(s).items()}


def _create_collection(r: Any) -> m.CreateCollection:
    fields = _get(r, "vectors_config", "sparse_vectors_config")
    return m.CreateCollection(
        vectors=fields.get("vectors_config"),
        sparse_vectors=fields.get("sparse_vectors_config"),
        metadata=GrpcToRest.convert_payload(r.metadata) or None,
        **_get(r, "hnsw_config", "optimizers_config", "strict_mode_config", "wal_config"),
        **_get(r, "shard_number", "replication_factor", "on_disk_payload", "quantization_config"),
        **_get(r, "write_consistency_factor"),
    )


def _update_collection(r: Any) -> m.UpdateCollection:
    params, vectors, quantization = (
        convert(getattr(r, name)) if r.HasField(name) else None
        for name, convert in (
            ("params", GrpcToRest.convert_collection_params_diff),
            ("vectors_config", GrpcToRest.convert_vectors_config_diff),
            ("quantization_config", GrpcToRest.convert_quantization_config_diff),
        )
    )
    return m.UpdateCollection(
        metadata=GrpcToRest.convert_payload(r.metadata) or None,
        params=params,
        vectors=vectors,
        quantization_config=quantization,
        **_get(r, "hnsw_config", "optimizers_config", "strict_mode_config"),
    )


def _upsert(r: Any) -> m.PointsList:
    points = [GrpcToRest.convert_point_struct(point) for point in r.points]
    return m.PointsList(points=points, **_get(r, "update_filter", "update_mode"))


def _set_payload(r: Any) -> m.SetPayload:
    payload = GrpcToRest.convert_payload(r.payload)
    return m.SetPayload(payload=payload, **_get(r, "key"), **_selection(r))


def _update_vectors(r: Any) -> m.UpdateVectors:
    points = [GrpcToRest.convert_point_vectors(point) for point in r.points]
    return m.UpdateVectors(points=points, **_get(r, "update_filter"))


def _create_index(r: Any) -> m.CreateFieldIndex:
    schema: Any = m.PayloadSchemaType(pb.FieldType.Name(r.field_type)[len("FieldType") :].lower())
    if r.HasField("field_index_params"):
        schema = GrpcToRest.convert_payload_schema_params(r.field_index_params)
    return m.CreateFieldIndex(field_name=r.field_name, field_schema=schema)


def _reading(r: Any, *names: str) -> dict[str, Any]:
    """The fields that most reads have; one of them is named otherwise in REST."""
    fields = _get(r, *names, "with_payload", "with_vectors")
    return {"with_vector": fields.pop("with_vectors", None), **fields}


def _retrieve(r: Any) -> m.PointRequest:
    ids = [GrpcToRest.convert_point_id(id_) for id_ in r.ids]
    return m.PointRequest(ids=ids, **_reading(r))


# -- answers: a result as the fields of a message -----------------------------------------------


def _result(convert: Callable[[Any], Any]) -> Callable[[Any], dict[str, Any]]:
    return lambda result: {"result": convert(result)}


def _each(
    convert: Callable[[Any], Any], items: str = "", field: str = "result"
) -> Callable[[Any], dict[str, Any]]:
    """A list: the result itself or what it has under a name."""
    find: Callable[[Any], Any] = attrgetter(items) if items else lambda result: result
    return lambda result: {field: [convert(item) for item in find(result)]}


def _record(point: m.Record) -> Any:
    point.payload = point.payload or {}  # a message cannot lack it
    return RestToGrpc.convert_record(point)


def _scored_point(point: m.ScoredPoint) -> Any:
    point.payload = point.payload or {}
    return RestToGrpc.convert_scored_point(point)


def _scrolled(result: m.ScrollResult) -> dict[str, Any]:
    fields = {"result": [_record(point) for point in result.points]}
    if result.next_page_offset is None:
        return fields
    following = RestToGrpc.convert_extended_point_id(result.next_page_offset)
    return {**fields, "next_page_offset": following}


_done = _result(bool)
_updated = _result(RestToGrpc.convert_update_result)
_aliases = _each(RestToGrpc.convert_alias_description, "aliases", "aliases")
_scored = _each(_scored_point, "points")


# -- the calls ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rpc:
    operation: str
    answer: Callable[[Any], dict[str, Any]]
    body: Callable[[Any], Any] = lambda request: None


_CALLS = {
    "Qdrant/HealthCheck": _Rpc("root", lambda r: {"title": r.title, "version": r.version}),
    "Collections/List": _Rpc(
        "list_collections",
        _each(lambda c: pb.CollectionDescription(name=c.name), "collections", "collections"),
    ),
    "Collections/Get": _Rpc("get_collection", _result(RestToGrpc.convert_collection_info)),
    "Collections/CollectionExists": _Rpc(
        "collection_exists", _result(lambda result: pb.CollectionExists(exists=result.exists))
    ),
    "Collections/Create": _Rpc("create_collection", _done, _create_collection),
    "Collections/Update": _Rpc("update_collection", _done, _update_collection),
    "Collections/Delete": _Rpc("delete_collection", _done),
    "Collections/UpdateAliases": _Rpc(
        "update_aliases",
        _done,
        lambda r: m.ChangeAliasesOperation(
            actions=[GrpcToRest.convert_alias_operations(action) for action in r.actions]
        ),
    ),
    "Collections/ListAliases": _Rpc("list_aliases", _aliases),
    "Collections/ListCollectionAliases": _Rpc("list_collection_aliases", _aliases),
    "Points/Upsert": _Rpc("upsert", _updated, _upsert),
    "Points/Delete": _Rpc(
        "delete", _updated, lambda r: GrpcToRest.convert_points_selector(r.points)
    ),
    "Points/SetPayload": _Rpc("set_payload", _updated, _set_payload),
    "Points/OverwritePayload": _Rpc("overwrite_payload", _updated, _set_payload),
    "Points/DeletePayload": _Rpc(
        "delete_payload",
        _updated,
        lambda r: m.DeletePayload(keys=list(r.keys), **_selection(r)),
    ),
    "Points/ClearPayload": _Rpc(
        "clear_payload", _updated, lambda r: GrpcToRest.convert_points_selector(r.points)
    ),
    "Points/UpdateVectors": _Rpc("update_vectors", _updated, _update_vectors),
    "Points/DeleteVectors": _Rpc(
        "delete_vectors",
        _updated,
        lambda r: m.DeleteVectors(vector=list(r.vectors.names), **_selection(r)),
    ),
    "Points/UpdateBatch": _Rpc(
        "batch_update",
        _each(RestToGrpc.convert_update_result),
        lambda r: m.UpdateOperations(
            operations=[GrpcToRest.convert_points_update_operation(o) for o in r.operations]
        ),
    ),
    "Points/CreateFieldIndex": _Rpc("create_index", _updated, _create_index),
    "Points/DeleteFieldIndex": _Rpc("delete_index", _updated),
    "Points/Get": _Rpc("retrieve", _each(_record), _retrieve),
    "Points/Scroll": _Rpc(
        "scroll",
        _scrolled,
        lambda r: m.ScrollRequest(**_reading(r, "offset", "limit", "filter", "order_by")),
    ),
    "Points/Count": _Rpc(
        "count",
        _result(RestToGrpc.convert_count_result),
        lambda r: m.CountRequest(**_get(r, "filter")),
    ),
    "Points/Facet": _Rpc(
        "facet",
        _each(RestToGrpc.convert_facet_value_hit, "hits", "hits"),
        lambda r: m.FacetRequest(key=r.key, **_get(r, "limit", "filter")),
    ),
    "Points/Query": _Rpc("query", _scored, GrpcToRest.convert_query_points),
    "Points/QueryBatch": _Rpc(
        "query_batch",
        _each(lambda response: pb.BatchResult(**_scored(response))),
        lambda r: m.QueryRequestBatch(
            searches=[GrpcToRest.convert_query_points(query) for query in r.query_points]
        ),
    ),
}

_METHODS = {
    f"{service.name}/{method.name}": method
    for file in (collections_service_pb2, points_service_pb2, qdrant_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


class RpcServer(grpc.GenericRpcHandler):
    """Listens on the loopback interface only."""

    def __init__(
        self, port: int, storage: Storage, traffic: Traffic, keys: Keys, max_message: int | None
    ) -> None:
        """Open the port; 0 takes a free one."""
        self._storage, self._traffic, self._keys = storage, traffic, keys
        self._max_message = max_message
        options = {"grpc.max_receive_message_length": -1, "grpc.so_reuseport": 0}
        self._server = grpc.server(ThreadPoolExecutor(32), [self], options=list(options.items()))
        self.port: int = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self._server.start()

    def close(self) -> None:
        """Stop listening and drop the calls under way."""
        self._server.stop(None).wait()

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """What handles a method; none where it is unknown."""
        name = details.method.removeprefix("/qdrant.")
        return name in _CALLS and grpc.unary_unary_rpc_method_handler(partial(self._handle, name))

    def _handle(self, name: str, content: bytes, context: grpc.ServicerContext) -> bytes | None:
        try:
            return self._serve(name, content, dict(context.invocation_metadata()))
        except ApiError as error:
            if error.retry_after is not None:
                context.set_trailing_metadata((("retry-after", str(error.retry_after)),))
            context.abort(_code(error.status), error.message)
        except ConnectionCut:
            context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        except Exception as error:
            traceback.print_exc()
            context.abort(grpc.StatusCode.INTERNAL, f"Service internal error: {error!r}")
        return None

    def _serve(self, name: str, content: bytes, metadata: dict[str, Any]) -> bytes:
        rpc, method = _CALLS[name], _METHODS[name]
        operation = OPERATIONS[rpc.operation]
        request: Any = GetMessageClass(method.input_type).FromString(content)
        call = Call(
            self._storage,
            operation.name,
            name=getattr(request, "collection_name", ""),
            key=getattr(request, "field_name", ""),
            wait=getattr(request, "wait", False),
            ordering=_ordering(request),
            consistency=_consistency(request),
        )
        with self._traffic.request(operation, "grpc", f"/qdrant.{name}", call) as faults:
            bearer = metadata.get("authorization", "").removeprefix("Bearer ")
            self._keys.check(metadata.get("api-key") or bearer or None, operation)
            self._traffic.perform(faults, "before")
            if self._max_message is not None and len(content) > self._max_message:
                limit = f"found {len(content)} bytes, the limit is: {self._max_message} bytes"
                raise ApiError(413, f"Error, decoded message length too large: {limit}")
            call.body = rpc.body(request)
            fields = rpc.answer(operation.run(call))
            if "time" in method.output_type.fields_by_name:
                fields["time"] = call.seconds
            self._traffic.perform(faults, "after")
        return bytes(GetMessageClass(method.output_type)(**fields).SerializeToString())
