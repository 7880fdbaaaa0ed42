"""What is known of a model before it is loaded."""

import pytest

from dagster_qdrant.embedding.options import EmbeddingOptions, models_for_vector
from dagster_qdrant.embedding.service_options import ServiceOptions
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


@pytest.mark.parametrize(
    ("url", "api", "endpoint"),
    [
        ("https://api.openai.com/v1", "openai", "https://api.openai.com/v1/embeddings"),
        ("http://localhost:11434/v1/", "openai", "http://localhost:11434/v1/embeddings"),
        ("http://infinity:7997/embeddings", "openai", "http://infinity:7997/embeddings"),
        ("http://[::1]:8080/embed", "tei", "http://[::1]:8080/embed"),
    ],
)
def test_the_end_of_a_services_url_says_which_api_it_has(url, api, endpoint):
    options = ServiceOptions(url)
    assert (options.api, options.endpoint) == (api, endpoint)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://localhost:8080", "does not say by its end which API"),
        ("http://localhost:8080/v1/chat/completions", "does not say by its end which API"),
        ("http://localhost:11434/api/embed", "Ollama's own API.*'http://localhost:11434/v1'"),
        ("localhost:8080/v1", "no URL of a service"),
        ("ftp://localhost/v1", "no URL of a service"),
        ("http://localhost:port/v1", "which is no URL"),
        ("http:///v1", "no URL of a service"),
    ],
)
def test_a_url_that_is_not_one_of_a_service_is_refused(url, words):
    with pytest.raises(EmbeddingError, match=words):
        ServiceOptions(url)


@pytest.mark.parametrize(
    "options",
    [
        {"model_path": "folder"},
        {"cache_dir": "folder"},
        {"local_files_only": True},
        {"threads": 2},
        {"providers": ("CPUExecutionProvider",)},
        {"cuda": False},
        {"cuda": True, "device_ids": (0,)},
    ],
)
def test_options_of_fastembed_are_refused_together_with_a_service(options):
    with pytest.raises(EmbeddingError, match=f"`{next(iter(options))}`.*cannot take effect"):
        EmbeddingOptions(service=ServiceOptions("http://localhost/v1"), **options)


@pytest.mark.parametrize("wrong", [{"dimensions": 0}, {"api_key": "a key\n"}, {"api_key": "clé"}])
def test_values_that_no_service_takes_are_refused(wrong):
    with pytest.raises(EmbeddingError, match="`embedding_") as caught:
        ServiceOptions("http://localhost/v1", **wrong)
    assert "a key" not in str(caught.value)
