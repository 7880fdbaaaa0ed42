"""How texts are cut into batches, and how many batches are embedded at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dagster_qdrant.embedding.options import EmbeddingOptions

# Long texts fill a batch before its number of texts does: attention's cost and memory grow with
# the square of the length. A core's caches are small: batches of 384 tokens take a twentieth less
# of its time than batches of 768, and half the memory. A GPU works at all of a batch at once.
_CPU_BATCH_TEXTS, _CPU_BATCH_TOKENS = 32, 384
_GPU_BATCH_TEXTS, _GPU_BATCH_TOKENS = 256, 16_384
# A batch is padded to its longest text. Few texts differ much in their length, and a batch more
# costs less than to embed the padding.
_SHORTEST_TO_LONGEST = 0.85

_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def available_cores() -> int:
    """The cores that this process may use: its affinity, cut by the cgroup's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = _CPU_QUOTA.read_text().split()
        limit = float("inf") if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        limit = float("inf")
    return max(1, int(min(cores or 1, limit)))


@dataclass(frozen=True)
class Batching:
    """How texts are cut into batches, and how many of these are embedded at once.

    Args:
        texts: The most texts in a batch.
        tokens: The most tokens in a batch, with the padding; a longer text is a batch of its own.
        workers: Batches at once.
        alike: The shortest text of a batch has at least this share of the longest one's tokens.
    """

    texts: int
    tokens: int
    workers: int
    alike: float = _SHORTEST_TO_LONGEST

    @classmethod
    def of(cls, options: EmbeddingOptions, *, gpu: bool) -> Batching:
        """What suits a GPU, or else the cores, as far as the options leave it open."""
        if gpu:
            texts, tokens, workers = _GPU_BATCH_TEXTS, _GPU_BATCH_TOKENS, len(options.devices)
        else:
            texts, tokens = _CPU_BATCH_TEXTS, _CPU_BATCH_TOKENS
            workers = max(1, available_cores() // options.threads)
        if options.kind == "sparse":  # which gives a number for each word of its vocabulary
            tokens = min(tokens, _CPU_BATCH_TOKENS)
        return cls(options.batch_size or texts, tokens, options.parallelism or workers)

    def cut(self, lengths: Sequence[int]) -> list[list[int]]:
        """Cut texts into batches of about the same length, the longest first.

        Args:
            lengths: The texts' numbers of tokens.

        Returns:
            The batches, each as the positions of its texts.

        Example:
            >>> Batching(texts=2, tokens=100, workers=1).cut([9, 80, 10, 9])
            [[1], [2, 0], [3]]
        """
        order = sorted(range(len(lengths)), key=lambda index: lengths[index], reverse=True)
        batches: list[list[int]] = []
        fits, shortest = 0, 0.0
        for index in order:
            if not batches or len(batches[-1]) == fits or lengths[index] < shortest:
                batches.append([])
                fits = max(1, min(self.texts, self.tokens // max(1, lengths[index])))
                shortest = self.alike * lengths[index]
            batches[-1].append(index)
        return batches
