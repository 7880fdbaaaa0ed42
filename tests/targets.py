"""The kinds of Qdrant that tests run against."""

import atexit
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient

from dagster_qdrant import QdrantResource
from tests.qdrant_server import ServerProcess

API_KEY = "key-of-the-test-server"


@dataclass(frozen=True)
class Target:
    """One Qdrant.

    Args:
        kind: "memory", "path", ...
        options: Fields of a `QdrantResource` that lead to it.
        client: A client to look at it with; by default each look opens one.
    """

    kind: str
    options: dict[str, Any]
    client: Any = None

    def _look(self) -> AbstractContextManager[Any]:
        if self.client is not None:
            return nullcontext(self.client)
        return QdrantResource(**self.options).get_client()

    def points(self, collection: str, *, vectors: bool = False) -> list[Any]:
        """All points of a collection."""
        with self._look() as client:
            points, offset = client.scroll(collection, limit=1000, with_vectors=vectors)
            while offset is not None:
                more, offset = client.scroll(
                    collection, limit=1000, with_vectors=vectors, offset=offset
                )
                points += more
        return points

    def rows(self, collection: str) -> list[dict[str, Any]]:
        """The payloads of a collection, without what dlt and this package add."""
        return [
            {name: value for name, value in point.payload.items() if not name.startswith("_dlt")}
            for point in self.points(collection)
        ]

    def collections(self) -> set[str]:
        with self._look() as client:
            return {entry.name for entry in client.get_collections().collections}

    def need_root(self) -> None:
        """Skip a test that loads without a dataset name where that would touch others' tables."""
        if self.kind == "external":
            pytest.skip("without a dataset name, dlt's tables may be somebody else's")

    def clean_up(self, prefix: str) -> None:
        """Remove the collections of a test, where others are too."""
        if self.kind in ("rest", "grpc"):
            shared_server().remove_collections(prefix)
        elif self.kind in ("memory", "external"):
            with self._look() as client:
                for entry in client.get_collections().collections:
                    if self.kind == "memory" or entry.name.startswith(prefix):
                        client.delete_collection(entry.name)


@contextmanager
def memory(_folder: Path) -> Iterator[Target]:
    yield Target("memory", {"location": f":memory:{uuid.uuid4().hex}"})


@contextmanager
def path(folder: Path) -> Iterator[Target]:
    yield Target("path", {"path": str(folder / "qdrant")})


@cache
def shared_server() -> ServerProcess:
    """One server for all tests of this process; it ends with it."""
    server = ServerProcess(api_key=API_KEY)
    server.start()
    atexit.register(server.stop)
    return server


@cache
def _shared_client() -> QdrantClient:
    return QdrantClient(shared_server().url, api_key=API_KEY, check_compatibility=False)


@contextmanager
def rest(_folder: Path) -> Iterator[Target]:
    options = {"location": shared_server().url, "api_key": API_KEY}
    yield Target("rest", options, _shared_client())


@contextmanager
def grpc(_folder: Path) -> Iterator[Target]:
    server = shared_server()
    options: dict[str, Any] = {"prefer_grpc": True, "grpc_port": server.grpc_port}
    options |= {"location": server.url, "api_key": API_KEY}
    yield Target("grpc", options, _shared_client())


@contextmanager
def external(_folder: Path) -> Iterator[Target]:
    key = os.environ.get("QDRANT_TEST_API_KEY")
    yield Target("external", {"location": os.environ["QDRANT_TEST_URL"], "api_key": key})


_KINDS: dict[str, Callable[[Path], AbstractContextManager[Target]]] = {
    "memory": memory,
    "path": path,
    "rest": rest,
    "grpc": grpc,
}


def targets(*, every: bool, memory: bool = False) -> list[Any]:
    """The kinds of Qdrant that a test runs against; also the environment's server.

    The real engine alone, unless the kind can make the difference. `make test-lowest` runs
    most of them on a path. (Memory is what a path is, without a folder:
    `tests/destination/test_congruence.py` has it too.)

    Args:
        every: Whether the test is marked `every_qdrant`: on a path and over gRPC too.
        memory: Whether it is marked `in_memory`: what it tests is not at Qdrant, whose engine
            takes longer for new collections than the rest of a load.
    """
    if chosen := os.environ.get("TEST_TARGETS"):
        names = chosen.split(",")
    else:
        names = ["path", "rest", "grpc"] if every else ["memory"] if memory else ["rest"]
    found = [pytest.param(_KINDS[name], id=name) for name in names]
    if "QDRANT_TEST_URL" in os.environ:
        found.append(pytest.param(external, id="external"))
    return found
