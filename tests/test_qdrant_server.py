"""The test server answers as Qdrant does, keeps its data, and misbehaves when told to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import grpc
import httpx
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from tests.qdrant_server import ServerProcess

COSINE = models.Distance.COSINE
ANY_ERROR = (UnexpectedResponse, ResponseHandlingException, grpc.RpcError)
UUID_ID = "5c56c793-69f3-4fbf-87e6-c4bf54c28c26"

pytestmark = [
    pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection"),
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect"),
]

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A server for all tests that leave it whole."""
    with ServerProcess() as process:
        yield process


@pytest.fixture(scope="module")
def guarded() -> Iterator[ServerProcess]:
    """A server with keys, in strict mode and with low limits."""
    with ServerProcess(
        api_key="full",
        read_only_api_key="read",
        strict=True,
        max_body=100_000,
        max_message=50_000,
    ) as server:
        yield server


@pytest.fixture(params=["rest", "grpc"])
def protocol(request: pytest.FixtureRequest) -> str:
    """Either protocol."""
    return str(request.param)


@pytest.fixture
def connect(protocol: str) -> Iterator[Callable[..., QdrantClient]]:
    """Opens clients of a server by the protocol, and closes them."""
    clients: list[QdrantClient] = []

    def open_client(server: ServerProcess, **options: Any) -> QdrantClient:
        client = QdrantClient(
            server.url,
            grpc_port=server.grpc_port,
            prefer_grpc=protocol == "grpc",
            check_compatibility=False,
            **options,
        )
        clients.append(client)
        return client

    yield open_client
    for client in clients:
        client.close()


@pytest.fixture
def client(server: ServerProcess, connect: Callable[..., QdrantClient]) -> QdrantClient:
    """A client of the shared server."""
    return connect(server)


@pytest.fixture
def films(client: QdrantClient, server: ServerProcess) -> Iterator[str]:
    """A collection of ten points, every other a comedy."""
    name = f"films_{uuid4().hex}"
    create_films(client, name)
    yield name
    server.clear_faults()
    client.delete_collection(name)


def create_films(client: QdrantClient, name: str) -> None:
    """Create and fill a collection."""
    client.create_collection(
        name,
        vectors_config={"text": models.VectorParams(size=4, distance=COSINE)},
        sparse_vectors_config={"words": models.SparseVectorParams()},
        metadata={"model": "small"},
    )
    client.upsert(name, [film(number) for number in range(10)])


def film(number: int) -> models.PointStruct:
    """A point of which everything follows from its number."""
    vector: Any = {"text": [1.0, number / 10, 0.5, 0.1]}
    genre = "drama" if number % 2 else "comedy"
    payload = {"year": 2000 + number, "genre": genre, "tags": ["a", number], "cast": {"n": number}}
    return models.PointStruct(id=number, vector=vector, payload=payload)


def matches(key: str, value: str | int | bool) -> models.Filter:
    """A filter for one value."""
    condition = models.FieldCondition(key=key, match=models.MatchValue(value=value))
    return models.Filter(must=[condition])


@contextmanager
def refused(status: int, code: str, text: str) -> Iterator[None]:
    """The call is refused: with a status by REST, with a code by gRPC, with the text by both."""
    with pytest.raises((UnexpectedResponse, grpc.RpcError)) as caught:
        yield
    error: Any = caught.value
    if isinstance(error, UnexpectedResponse):
        content = error.content.decode()
        said = json.loads(content)["status"]["error"] if content[:1] == "{" else content
        assert (error.status_code, said) == (status, text)
    else:
        assert (error.code().name, error.details()) == (code, text)


def eventually(call: Callable[[], Any]) -> Any:
    """The result as soon as there is one: gRPC takes its time to connect anew."""
    for _ in range(100):
        try:
            return call()
        except ANY_ERROR:
            time.sleep(0.1)
    return call()


class TestCollections:
    """Collections and aliases."""

    def test_a_collection_tells_its_configuration(self, client: QdrantClient, films: str) -> None:
        client.create_payload_index(films, "year", models.PayloadSchemaType.INTEGER)
        client.update_collection(films, metadata={"loaded": "today"})
        info = client.get_collection(films)
        assert info.points_count == 10
        assert info.config.metadata == {"model": "small", "loaded": "today"}
        assert info.config.params.vectors["text"].size == 4  # type: ignore[index]
        assert "words" in (info.config.params.sparse_vectors or {})
        assert info.payload_schema["year"].data_type == models.PayloadSchemaType.INTEGER
        assert info.payload_schema["year"].points == 10
        client.delete_payload_index(films, "year")
        assert not client.get_collection(films).payload_schema

    def test_a_collection_needs_no_vectors(self, client: QdrantClient) -> None:
        client.create_collection("state", vectors_config={})
        client.upsert("state", [models.PointStruct(id=UUID_ID, vector={}, payload={"done": True})])
        assert client.scroll("state")[0][0].payload == {"done": True}
        assert client.retrieve("state", [UUID_ID])[0].id == UUID_ID
        assert client.delete_collection("state")
        assert not client.delete_collection("state")
        assert not client.collection_exists("state")

    def test_one_name_is_one_collection(self, client: QdrantClient, films: str) -> None:
        text = f"Wrong input: Collection `{films}` already exists!"
        with refused(409, "ALREADY_EXISTS", text):
            client.create_collection(films, vectors_config={})
        with refused(404, "NOT_FOUND", "Not found: Collection `none` doesn't exist!"):
            client.count("none")
        assert films in [c.name for c in client.get_collections().collections]

    def test_an_alias_stands_for_its_collection(self, client: QdrantClient, films: str) -> None:
        alias, other = f"{films}_alias", f"{films}_other"
        client.update_collection_aliases([create_alias(films, alias)])
        assert client.collection_exists(alias)
        assert client.count(alias).count == 10
        client.create_collection(other, vectors_config={})
        client.update_collection_aliases(
            [
                models.RenameAliasOperation(
                    rename_alias=models.RenameAlias(old_alias_name=alias, new_alias_name="now")
                ),
                create_alias(other, "now"),
            ]
        )
        assert client.count("now").count == 0
        assert client.get_collection_aliases(films).aliases == []
        assert [a.alias_name for a in client.get_collection_aliases(other).aliases] == ["now"]
        client.delete_collection(other)
        assert client.get_aliases().aliases == []

    def test_an_alias_and_a_collection_never_share_a_name(
        self, client: QdrantClient, films: str
    ) -> None:
        text = f"Wrong input: Collection `{films}` already exists!"
        with refused(409, "ALREADY_EXISTS", text):
            client.update_collection_aliases([create_alias(films, films)])
        client.update_collection_aliases([create_alias(films, "taken")])
        text = "Can't create collection with name taken. Alias with the same name already exists"
        with refused(400, "INVALID_ARGUMENT", f"Wrong input: {text}"):
            client.create_collection("taken", vectors_config={})


def create_alias(collection: str, alias: str) -> models.CreateAliasOperation:
    """The action that creates an alias."""
    return models.CreateAliasOperation(
        create_alias=models.CreateAlias(collection_name=collection, alias_name=alias)
    )


class TestPoints:
    """Reading and writing points."""

    def test_everything_is_as_in_the_clients_local_mode(
        self, client: QdrantClient, films: str
    ) -> None:
        local = QdrantClient(":memory:")
        create_films(local, films)
        comedies = matches("genre", "comedy")
        late = models.FieldCondition(key="year", range=models.Range(gte=2005, lt=2009))
        seen = matches("seen", True)
        either = models.Filter(should=[late, models.HasIdCondition(has_id=[1])])
        nested = models.FieldCondition(key="cast.n", match=models.MatchAny(any=[3, 4, 8]))
        neither = models.Filter(must_not=[nested, late])
        batch = models.Batch(
            ids=[20, UUID_ID],
            vectors={"text": [[0.1, 0.2, 0.3, 0.4], [1.0, 0.0, 0.0, 0.0]]},
            payloads=[{"year": 1}, {"year": 2, "none": None}],
        )
        words = models.SparseVector(indices=[1, 7], values=[0.5, 2.0])
        writes: list[Callable[[QdrantClient], Any]] = [
            lambda c: c.set_payload(films, {"seen": True}, points=comedies),
            lambda c: c.set_payload(films, {"m": 1}, points=[1, 2], key="cast"),
            lambda c: c.overwrite_payload(films, {"only": "this"}, points=[3]),
            lambda c: c.delete_payload(films, ["tags"], points=either),
            lambda c: c.clear_payload(films, points_selector=[9]),
            lambda c: c.delete(films, [0]),
            lambda c: c.delete(films, matches("year", 2006)),
            lambda c: c.upsert(films, batch),
            lambda c: c.update_vectors(
                films,
                [models.PointVectors(id=1, vector={"text": [0.0, 1.0, 0.0, 0.0], "words": words})],
            ),
            lambda c: c.delete_vectors(films, ["text"], points=[2]),
            lambda c: c.batch_update_points(
                films,
                [
                    models.UpsertOperation(upsert=models.PointsList(points=[film(30), film(31)])),
                    models.DeleteOperation(delete=models.PointIdsList(points=[31])),
                ],
            ),
        ]
        near = [0.2, 0.9, 0.1, 0.0]
        fused = [
            models.Prefetch(query=near, using="text", limit=5),
            models.Prefetch(query=words, using="words", limit=5),
        ]
        reads: list[Callable[[QdrantClient], Any]] = [
            lambda c: c.scroll(films, limit=100, with_vectors=True)[0],
            lambda c: c.scroll(films, limit=3, offset=4, with_payload=["year"]),
            lambda c: c.scroll(films, scroll_filter=neither, with_payload=False)[0],
            lambda c: [c.count(films, f).count for f in (None, comedies, seen, either, neither)],
            lambda c: c.retrieve(films, [20, 404, UUID_ID], with_vectors=["text"]),
            lambda c: c.query_points(films, query=near, using="text", with_payload=True).points,
            lambda c: c.query_points(films, query=1, using="text", limit=4).points,
            lambda c: c.query_points(films, query=near, using="text", query_filter=either).points,
            lambda c: c.query_points(films, query=words, using="words").points,
            lambda c: (
                c.query_points(
                    films,
                    prefetch=fused,
                    query=models.FusionQuery(fusion=models.Fusion.RRF),
                    limit=1,
                ).points
            ),
        ]
        for write in [lambda c: None, *writes]:
            for target in (client, local):
                write(target)
            for read in reads:
                assert plain(read(client)) == plain(read(local))

    def test_an_order_and_a_facet_need_an_index(self, client: QdrantClient, films: str) -> None:
        order = models.OrderBy(key="year", direction=models.Direction.DESC)
        where = "https://qdrant.tech/documentation/concepts/indexing/#payload-index"
        text = (
            "Wrong input: No range index for `order_by` key: `year`. Please create one to use "
            f"`order_by`. Check {where} to see which payload schemas support Range conditions"
        )
        with refused(400, "INVALID_ARGUMENT", text):
            client.scroll(films, order_by=order)
        with pytest.raises(ANY_ERROR, match="No appropriate index for faceting: `genre`"):
            client.facet(films, "genre")
        client.create_payload_index(films, "year", models.PayloadSchemaType.INTEGER)
        index = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
        client.create_payload_index(films, "genre", index)
        records, _ = client.scroll(films, order_by=order, limit=2)
        assert [record.id for record in records] == [9, 8]
        counts = {hit.value: hit.count for hit in client.facet(films, "genre").hits}
        assert counts == {"comedy": 5, "drama": 5}

    def test_what_does_not_fit_is_refused(self, client: QdrantClient, films: str) -> None:
        text = "Wrong input: Vector dimension error: expected dim: 4, got 3"
        with refused(400, "INVALID_ARGUMENT", text):
            client.upsert(films, [models.PointStruct(id=1, vector={"text": [1.0, 2.0, 3.0]})])
        with refused(400, "INVALID_ARGUMENT", "Wrong input: Not existing vector name error: nope"):
            client.upsert(films, [models.PointStruct(id=1, vector={"nope": [1.0]})])
        with refused(404, "NOT_FOUND", "Not found: No point with id 404 found"):
            client.set_payload(films, {"a": 1}, points=[404])

    def test_who_does_not_wait_hears_of_no_failure(
        self, client: QdrantClient, films: str, server: ServerProcess
    ) -> None:
        server.reset_counts()
        point = models.PointStruct(id=99, vector={"text": [1.0]})
        result = client.upsert(films, [point], wait=False)
        assert result.status == models.UpdateStatus.ACKNOWLEDGED
        assert client.retrieve(films, [99]) == []
        assert server.counts()["writes_without_wait"] == 1

    def test_bm25_is_computed_by_the_server(self, client: QdrantClient, films: str) -> None:
        for number, text in enumerate(["a quiet film of the sea", "a loud film of the road"]):
            document = models.Document(text=text, model="Qdrant/bm25")
            point = models.PointStruct(id=number, vector={"words": document})
            client._client.upsert(films, [point])  # the client itself would want fastembed
        document = models.Document(text="sea", model="Qdrant/bm25")
        query = models.NearestQuery(nearest=document)
        found = client._client.query_points(films, query=query, using="words")
        assert [point.id for point in found.points] == [0]


def plain(result: Any) -> Any:
    """A result as plain values: floats to five digits, nothing and no entries alike."""
    if isinstance(result, (list, tuple)):
        return [plain(item) for item in result]
    if isinstance(result, dict):
        return {key: plain(value) for key, value in result.items()} or None
    if isinstance(result, UUID):
        return str(result)
    if hasattr(result, "model_dump"):
        return plain(result.model_dump(exclude={"version", "shard_key", "order_value"}))
    return round(result, 5) if isinstance(result, float) else result


def test_rest_answers_in_qdrants_form(server: ServerProcess) -> None:
    with httpx.Client(base_url=server.url) as http:
        assert http.get("/").json()["title"] == "qdrant - vector search engine"
        assert http.get("/readyz").status_code == 200
        answer = http.get("/collections").json()
        assert answer["status"] == "ok"
        assert isinstance(answer["time"], float)
        http.put("/collections/raw", json={}).raise_for_status()
        url = "/collections/raw/points"
        assert http.get(f"{url}/1").json()["status"] == {
            "error": "Not found: Point with id 1 does not exists!"
        }
        answer = http.put(url, content=b'{"points": [')
        assert answer.status_code == 400
        assert answer.json()["status"]["error"].startswith("Format error in JSON body: ")
        answer = http.put(url, json={"points": [{"id": "x", "vector": {}}]})
        assert answer.status_code == 400
        assert "value x is not a valid point ID" in answer.json()["status"]["error"]
        answer = http.post(f"{url}/scroll", json={"limit": 0})
        assert answer.status_code == 422
        assert answer.json()["status"]["error"].startswith("Validation error in JSON body: [limit")


class TestOptions:
    """Keys, strict mode and limits."""

    @pytest.fixture
    def strict(self, guarded: ServerProcess, connect: Callable[..., QdrantClient]) -> QdrantClient:
        """A client that may do everything, and a collection "films"."""
        client = connect(guarded, api_key="full")
        client.delete_collection("films")
        create_films(client, "films")
        return client

    def test_keys_are_asked_for(
        self, strict: QdrantClient, guarded: ServerProcess, connect: Callable[..., QdrantClient]
    ) -> None:
        missing = "Must provide an API key or an Authorization bearer token"
        with refused(401, "UNAUTHENTICATED", missing):
            connect(guarded).get_collections()
        with refused(401, "UNAUTHENTICATED", "Invalid API key or JWT"):
            connect(guarded, api_key="wrong").get_collections()
        reader = connect(guarded, api_key="read")
        assert reader.count("films").count == 10
        with refused(403, "PERMISSION_DENIED", "Forbidden: Global manage access is required"):
            reader.delete_collection("films")

    def test_strict_mode_wants_an_index(self, strict: QdrantClient) -> None:
        dramas = matches("genre", "drama")
        text = (
            'Bad request: Index required but not found for "genre" of one of the following '
            "types: [keyword]. Help: Create an index for this key or use a different filter."
        )
        for unindexed in (
            lambda: strict.scroll("films", scroll_filter=dramas),
            lambda: strict.count("films", count_filter=dramas),
            lambda: strict.delete("films", dramas),
            lambda: strict.set_payload("films", {"a": 1}, points=dramas),
        ):
            with refused(400, "INVALID_ARGUMENT", text):
                unindexed()
        strict.create_payload_index("films", "genre", models.PayloadSchemaType.KEYWORD)
        assert strict.count("films", count_filter=dramas).count == 5

    def test_a_request_may_be_too_large(self, strict: QdrantClient, protocol: str) -> None:
        with pytest.raises(ANY_ERROR) as caught:
            strict.upsert("films", [film(number) for number in range(2000)])
        error: Any = caught.value
        if protocol == "rest":
            assert error.status_code == 400
            assert b"is larger than allowed (limit: 100000 bytes)." in error.content
        else:
            assert error.code().name == "OUT_OF_RANGE"
            assert "the limit is: 50000 bytes" in error.details()


class TestProcess:
    """Starting, stopping and dying."""

    def test_data_and_ports_survive_a_stop_and_a_kill(self, tmp_path: Path) -> None:
        with ServerProcess(tmp_path) as server:
            client = QdrantClient(server.url, check_compatibility=False)
            create_films(client, "films")
            client.create_payload_index("films", "year", models.PayloadSchemaType.INTEGER)
            client.update_collection_aliases([create_alias("films", "alias")])
            ports = server.port, server.grpc_port
            server.restart()
            client.upsert("alias", [film(10)])
            with pytest.raises(ANY_ERROR):
                client.upsert("alias", [models.PointStruct(id=3, vector={"text": [1.0]})])
            server.kill()
            with pytest.raises(ANY_ERROR):
                client.count("films")
            server.start()
            assert (server.port, server.grpc_port) == ports
            assert client.count("alias").count == 11
            assert (
                client.scroll("films", order_by="year", limit=20)[0][3].payload == film(3).payload
            )

    def test_it_ends_with_the_process_that_started_it(self, tmp_path: Path) -> None:
        code = (
            "from tests.qdrant_server import ServerProcess\n"
            f"server = ServerProcess({str(tmp_path)!r})\n"
            "server.start()\n"
            "print(server._process.pid, flush=True)\n"
            "import os; os._exit(0)"
        )
        run = [sys.executable, "-c", code]
        pid = int(subprocess.run(run, capture_output=True, check=True, timeout=30, cwd=ROOT).stdout)
        for _ in range(100):
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.05)
        pytest.fail("the server outlived its parent")


class TestFaults:
    """Misbehaving on demand."""

    def test_a_limit_of_the_rate_says_when_to_come_again(
        self, client: QdrantClient, films: str, server: ServerProcess
    ) -> None:
        server.fault("answer", status=429, retry_after=7, operation="upsert", times=1)
        with pytest.raises(ResourceExhaustedResponse) as caught:
            client.upsert(films, [film(1)])
        assert caught.value.retry_after_s == 7
        client.upsert(films, [film(1)])
        server.fault("answer", status=429, message="slow down")
        with refused(429, "RESOURCE_EXHAUSTED", "slow down"):
            client.count(films)

    @pytest.mark.parametrize(
        ("status", "code"),
        [(500, "INTERNAL"), (503, "UNAVAILABLE"), (504, "DEADLINE_EXCEEDED")],
    )
    def test_a_failure_of_the_server_has_its_status(
        self, client: QdrantClient, films: str, server: ServerProcess, status: int, code: str
    ) -> None:
        server.fault("answer", status=status, message="sorry")
        with refused(status, code, "sorry"):
            client.count(films)

    def test_a_full_disk_refuses_writes_only(
        self, client: QdrantClient, films: str, server: ServerProcess
    ) -> None:
        server.fault("answer", status=507, access="write")
        text = "Insufficient storage: No space left on device"
        with refused(507, "RESOURCE_EXHAUSTED", text):
            client.upsert(films, [film(11)])
        assert client.count(films).count == 10
        server.clear_faults()

    def test_it_counts_which_requests_to_strike(
        self, client: QdrantClient, films: str, server: ServerProcess
    ) -> None:
        server.fault("answer", status=500, operation="count|scroll", after=2, every=3, times=2)
        outcomes = ""
        for _ in range(12):
            try:
                client.count(films)
                outcomes += "."
            except ANY_ERROR:
                outcomes += "x"
        assert outcomes == "....x..x...."
        assert [(fault["seen"], fault["struck"]) for fault in server.faults()] == [(12, 2)]

    def test_a_slow_answer_runs_into_the_clients_timeout(
        self,
        server: ServerProcess,
        client: QdrantClient,
        films: str,
        connect: Callable[..., QdrantClient],
    ) -> None:
        server.fault("delay", seconds=1.5, collection=films, times=1)
        with pytest.raises(ANY_ERROR):
            connect(server, timeout=1).count(films)
        server.fault("delay", seconds=0.3, times=1)
        began = time.monotonic()
        client.count(films)
        assert time.monotonic() - began > 0.3

    def test_a_cut_connection_leaves_open_whether_the_write_was_applied(
        self, client: QdrantClient, films: str, server: ServerProcess
    ) -> None:
        server.fault("cut", operation="upsert", times=1)
        with pytest.raises(ANY_ERROR):
            client.upsert(films, [film(20)])
        assert client.retrieve(films, [20]) == []
        server.fault("cut", when="after", operation="upsert", times=1)
        with pytest.raises(ANY_ERROR):
            client.upsert(films, [film(20)])
        assert len(client.retrieve(films, [20])) == 1

    def test_it_can_go_away_or_die(self, connect: Callable[..., QdrantClient]) -> None:
        with ServerProcess() as server:
            client = connect(server)
            create_films(client, "films")
            server.fault("refuse", seconds=0.5, times=1)
            with pytest.raises(ANY_ERROR):
                client.count("films")
            with pytest.raises(OSError, match="refused|reset"):
                server.counts()
            assert eventually(lambda: client.count("films")).count == 10
            server.fault("die", when="after", operation="upsert")
            with pytest.raises(ANY_ERROR):
                client.upsert("films", [film(10)])
            server.restart()
            assert eventually(lambda: client.count("films")).count == 11


def test_it_counts_requests(
    client: QdrantClient, films: str, server: ServerProcess, protocol: str
) -> None:
    server.reset_counts()
    server.fault("delay", seconds=0.3, operation="upsert")
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda number: client.upsert(films, [film(number)]), range(3)))
    server.clear_faults()
    client.delete(films, [0], wait=False)
    counts = server.counts()
    assert counts["operations"]["upsert"] == {"rest": 0, "grpc": 0} | {protocol: 3}
    assert counts["points_upserted"] == 3
    assert counts["max_upserts_in_flight"] == 3
    assert counts["writes_without_wait"] == 1
