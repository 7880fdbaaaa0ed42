"""What is known of a model before it is loaded."""

import pytest

from dagster_qdrant.embedding.options import EmbeddingOptions, models_for_vector
from dagster_qdrant.errors import EmbeddingError


def test_the_size_of_vectors_is_known_without_the_model():
    assert EmbeddingOptions(model="BAAI/bge-base-en").vector_size == 768


def test_an_unknown_model_is_refused_with_its_likes():
    with pytest.raises(EmbeddingError, match="Did you mean.*all-MiniLM-L6-v2"):
        _ = EmbeddingOptions(model="all-MiniLM-L6-v2").vector_size


def test_the_model_can_be_read_off_a_vectors_name():
    assert "sentence-transformers/all-MiniLM-L6-v2" in models_for_vector("fast-all-minilm-l6-v2")
    assert models_for_vector("fast-unheard-of") == []
