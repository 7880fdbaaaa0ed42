"""Where Qdrant is, as options say it."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_qdrant import QdrantResource
from dagster_qdrant.errors import (
    QdrantConfigurationError,
)
from dagster_qdrant.qdrant.connection_options import ConnectionOptions


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({}, "http://localhost:6333"),
        ({"api_key": "k"}, "http://localhost:6333"),
        ({"host": "127.0.0.1", "api_key": "k"}, "http://127.0.0.1:6333"),
        ({"host": "q.example"}, "http://q.example:6333"),
        ({"host": "q.example", "api_key": "k"}, "https://q.example:6333"),
        ({"host": "q.example", "api_key": "k", "https": False}, "http://q.example:6333"),
        ({"host": "q.example", "https": True, "port": 1}, "https://q.example:1"),
        ({"location": "q.example"}, "http://q.example:6333"),
        ({"location": "https://q.example"}, "https://q.example:6333"),
        ({"location": "http://q.example:9", "api_key": "k"}, "http://q.example:9"),
        ({"location": "http://q.example/x/"}, "http://q.example:6333/x"),
        ({"location": "http://[::1]:9"}, "http://[::1]:9"),
    ],
)
def test_the_url_follows_from_the_options(options, url):
    assert ConnectionOptions(**options).url == url


@given(st.text(max_size=30))
def test_any_location_is_understood_or_refused(text):
    with contextlib.suppress(QdrantConfigurationError):
        assert ConnectionOptions(location=text).url or text.startswith(":memory:")


@pytest.mark.parametrize(
    ("location", "said"),
    [
        (
            "http://localhost:6333/dashboard",
            "ends with '/dashboard', which is not the URL of the server",
        ),
        ("http://localhost:6333/dashboard#/collections/films", "Set it to 'http://localhost:6333'"),
        ("http://localhost:6333/collections", "Set it to 'http://localhost:6333'"),
        ("https://q.example:1/qdrant/dashboard/", "Set it to 'https://q.example:1/qdrant'"),
        ("https://cloud.qdrant.io/accounts/1/clusters", "the endpoint of your cluster"),
        ("./data", "`path` for a local folder"),
    ],
)
def test_a_page_or_a_folder_given_as_location_is_refused_with_the_right_value(location, said):
    with pytest.raises(QdrantConfigurationError, match=said):
        ConnectionOptions(location=location)


@pytest.mark.parametrize("path", ["http://localhost:6333", ":memory:"])
def test_a_place_given_as_path_is_refused(path):
    with pytest.raises(QdrantConfigurationError, match="Set it as `location`"):
        QdrantResource(path=path).configuration()


def test_a_path_in_the_users_home_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert QdrantResource(path="~/qdrant").configuration().path == str(tmp_path / "qdrant")


@pytest.mark.parametrize("key", ["secret\n", " secret", "sec ret", "geheimnis-ü", " "])
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(key):
    with pytest.raises(QdrantConfigurationError, match="`api_key` holds white space") as caught:
        ConnectionOptions(api_key=key)
    assert "secret" not in str(caught.value)
