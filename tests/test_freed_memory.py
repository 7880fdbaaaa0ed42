"""Memory that nobody needs any more is given back."""

import platform

import numpy as np
import psutil
import pytest

from dagster_qdrant.embedding import local_files
from dagster_qdrant.embedding.local import TextEmbedder
from dagster_qdrant.freed_memory import give_back

_SIZE = 100 * 1024  # glibc takes larger ones from the system, and returns them by itself


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc keeps what is freed")
def test_freed_memory_below_some_that_is_in_use_is_given_back():
    arrays = [np.ones(_SIZE, dtype=np.uint8) for _ in range(1_000)]
    del arrays[:-1]  # the last one keeps what lies below it
    kept = psutil.Process().memory_info().rss
    give_back()
    assert kept - psutil.Process().memory_info().rss > 50 * 2**20


def test_what_it_took_to_load_a_model_is_given_back_once(embedder, monkeypatch):
    times = []
    monkeypatch.setattr(local_files, "give_back", lambda: times.append(1))
    loaded = TextEmbedder(embedder.options)
    loaded.embed(["a text", "another"])
    assert len(times) == 1
