"""Requests are prepared ahead, and made as many at a time as was asked for."""

import threading
from types import SimpleNamespace

import pytest

from dagster_qdrant.destination.writing.point_writer import PointWriter, Window
from dagster_qdrant.errors import QdrantTransientError

_PATIENCE = 10.0  # seconds; a test that fails waits for so long


class Vector(list):
    """A vector that tells when it is made into a part of a request."""

    def __init__(self) -> None:
        super().__init__([1.0])
        self.is_prepared = threading.Event()

    def tolist(self) -> list[float]:
        self.is_prepared.set()
        return list(self)


class Connection:
    """Takes upserts, one after the other, and does with each what a test says."""

    is_local = True
    client = SimpleNamespace(upsert="upsert", retrieve="retrieve")

    def __init__(self, take) -> None:
        self.made: list[list[str]] = []
        self._take = take

    def request(self, operation, _collection, *, points=(), ids=(), **_):
        if operation == "retrieve":
            return list(ids)
        self.made.append([point.id for point in points])
        return self._take(len(self.made))


def window(count: int) -> tuple[Window, list[Vector]]:
    vectors = [Vector() for _ in range(count)]
    rows = [
        SimpleNamespace(point_id=str(number), payload={}, size=1, vector={"v": vector})
        for number, vector in enumerate(vectors)
    ]
    return Window(rows={row.point_id: row for row in rows}, upsert=rows), vectors


PLAN = SimpleNamespace(target="films", table_name="films")


def test_the_next_request_is_prepared_while_one_is_under_way_but_not_made():
    written, vectors = window(3)
    at_once = []

    def take(number: int) -> None:
        if number == 1:
            assert vectors[1].is_prepared.wait(_PATIENCE)
            at_once.append(len(connection.made))

    connection = Connection(take)
    with PointWriter(connection, PLAN, 1, 1) as writer:
        writer.start(written)
        writer.finish()
    assert at_once == [1]
    assert sorted(connection.made) == [["0"], ["1"], ["2"]]


def test_what_is_prepared_is_not_sent_after_a_request_that_failed():
    written, vectors = window(3)

    def take(_: int) -> None:
        assert vectors[1].is_prepared.wait(_PATIENCE)
        raise QdrantTransientError("It is gone.")

    connection = Connection(take)
    with (
        pytest.raises(QdrantTransientError, match="It is gone"),
        PointWriter(connection, PLAN, 1, 1) as writer,
    ):
        writer.start(written)
        writer.finish()
    assert len(connection.made) == 1
