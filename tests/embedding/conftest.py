"""An embedding service for the tests of a module."""

from collections.abc import Iterator

import pytest

from example_project.model import MODEL_NAME
from tests.embedding.service import EmbeddingService


@pytest.fixture(scope="module")
def the_service(embedder) -> Iterator[EmbeddingService]:
    with EmbeddingService(embedder, MODEL_NAME, max_tokens=80) as service:
        yield service


@pytest.fixture
def service(the_service, monkeypatch) -> EmbeddingService:
    """A service that behaves until it is told otherwise, and that nobody has asked so far."""
    the_service.reset()
    monkeypatch.setattr("dagster_qdrant.embedding.embedder._embedders", {})
    return the_service
