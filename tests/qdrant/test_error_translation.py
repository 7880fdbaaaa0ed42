"""Errors of Qdrant are errors of this package."""

import pickle

import pytest

from dagster_qdrant.errors import (
    QdrantConflictError,
    QdrantError,
    QdrantNotFoundError,
    QdrantTerminalError,
    QdrantTransientError,
)
from dagster_qdrant.qdrant.connection import connect
from dagster_qdrant.qdrant.connection_options import ConnectionOptions


@pytest.mark.parametrize(
    "error",
    [QdrantTerminalError("what"), QdrantTransientError("what", 3.0), QdrantNotFoundError("what")],
)
def test_errors_survive_pickling(error: QdrantError):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == "what"
    assert getattr(copy, "retry_after", None) == getattr(error, "retry_after", None)


def test_local_modes_errors_are_ours():
    with connect(ConnectionOptions(location=":memory:errors")) as connection:
        client = connection.client
        with pytest.raises(QdrantNotFoundError, match="films"):
            connection.request(client.get_collection, "films")
        connection.request(client.create_collection, "films", vectors_config={})
        with pytest.raises(QdrantConflictError, match="films"):
            connection.request(client.create_collection, "films", vectors_config={})
