"""How texts are cut into batches, and how many cores there are for them."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_qdrant.embedding import batching
from dagster_qdrant.embedding.batching import Batching, available_cores
from dagster_qdrant.embedding.options import EmbeddingOptions


@given(st.lists(st.integers(0, 600), max_size=300), st.integers(1, 64), st.integers(1, 2_000))
def test_batches_keep_to_their_limits_and_hold_little_padding(lengths, texts, tokens):
    batches = Batching(texts=texts, tokens=tokens, workers=1).cut(lengths)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[index] for index in batch)
        assert len(batch) <= texts
        assert len(batch) * longest <= tokens or len(batch) == 1
        assert min(lengths[index] for index in batch) >= 0.85 * longest
    firsts = [lengths[batch[0]] for batch in batches]
    assert firsts == sorted(firsts, reverse=True)


def test_cores_are_filled_with_small_batches_and_gpus_with_large_ones():
    def batching(gpu, **options):
        return Batching.of(EmbeddingOptions(**options), gpu=gpu)

    assert batching(False) == Batching(texts=32, tokens=384, workers=available_cores())
    assert batching(False, threads=available_cores()).workers == 1
    assert batching(False, parallelism=3, batch_size=8) == Batching(8, 384, 3)
    assert batching(True) == Batching(texts=256, tokens=16_384, workers=1)
    assert batching(True, cuda=True, device_ids=(0, 2)).workers == 2
    assert batching(True, parallelism=3, batch_size=8) == Batching(8, 16_384, 3)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")
def test_cores_are_those_this_process_may_use():
    code = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]);"
        "from dagster_qdrant.embedding.batching import available_cores; print(available_cores())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 8), ("150000 100000", 1), ("250000 100000", 2), ("", 8)]
)
def test_cores_are_those_that_the_container_may_use(quota, cores, monkeypatch, tmp_path):
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(batching, "_CPU_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert available_cores() == cores
