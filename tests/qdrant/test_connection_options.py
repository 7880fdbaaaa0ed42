"""Where Qdrant is, as options say it."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
