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


def test_prefixes_are_those_that_the_makers_ask_for_unless_they_are_set():
    sentence = "Represent this sentence for searching relevant passages: "
    assert EmbeddingOptions().prefixes == (sentence, "")
    e5 = "intfloat/multilingual-e5-large"
    assert EmbeddingOptions(model=e5).prefixes == ("query: ", "passage: ")
    assert EmbeddingOptions(model=e5.upper()).prefixes == ("query: ", "passage: ")
    assert EmbeddingOptions(model=e5, passage_prefix="").prefixes == ("query: ", "")
    assert EmbeddingOptions(query_prefix="").prefixes == ("", "")
    assert EmbeddingOptions(model="thenlper/gte-base").prefixes == ("", "")
    asked = EmbeddingOptions(model="thenlper/gte-base", query_prefix="q: ", passage_prefix="p: ")
    assert asked.prefixes == ("q: ", "p: ")


def test_every_model_whose_makers_ask_for_prefixes_has_them():
    from fastembed import TextEmbedding

    for entry in TextEmbedding.list_supported_models():
        asks = any(
            words in entry["description"] for words in ("documents: necessary", "documents: `")
        )
        if asks:
            assert any(EmbeddingOptions(model=entry["model"]).prefixes), entry["model"]


def test_a_fingerprint_is_what_it_was_where_there_is_no_prefix_of_passages():
    assert EmbeddingOptions().fingerprint == "BAAI/bge-small-en"
    assert EmbeddingOptions(query_prefix="q: ").fingerprint == "BAAI/bge-small-en"
    prefixed = {EmbeddingOptions(passage_prefix=prefix).fingerprint for prefix in ("", "p: ", "q ")}
    assert len(prefixed) == 3
