"""A retrieval collection in BEIR's format, and how well a ranking answers its queries.

Measures and format: Thakur et al., "BEIR: A Heterogeneous Benchmark for Zero-shot Evaluation of
Information Retrieval Models", 2021.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Beir:
    """A folder with `corpus.jsonl` or `corpus.jsonl.gz`, `queries.jsonl` and `qrels.tsv`.

    Args:
        folder: The folder.
    """

    folder: Path

    def documents(self) -> Iterator[dict[str, Any]]:
        """The documents: `id`, `title`, `text`."""
        for row in _lines(self.folder, "corpus.jsonl"):
            yield {"id": row["_id"], "title": row.get("title", ""), "text": row["text"]}

    def queries(self) -> dict[str, str]:
        """The queries that have a judgement, by their id."""
        judged = self.judgements()
        rows = _lines(self.folder, "queries.jsonl")
        return {row["_id"]: row["text"] for row in rows if row["_id"] in judged}

    def judgements(self) -> dict[str, dict[str, int]]:
        """By query: the grades of the documents that answer it."""
        grades: dict[str, dict[str, int]] = {}
        with (self.folder / "qrels.tsv").open(encoding="utf-8") as lines:
            for query, document, grade in csv.reader(lines, delimiter="\t"):
                if grade.isdecimal() and int(grade):  # not the head, and an answer
                    grades.setdefault(query, {})[document] = int(grade)
        return grades


def _lines(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    packed = folder / f"{name}.gz"
    with gzip.open(packed, "rt") if packed.exists() else (folder / name).open() as lines:
        for line in lines:
            yield json.loads(line)


def ndcg(
    judgements: Mapping[str, Mapping[str, int]], found: Mapping[str, Sequence[str]], at: int = 10
) -> float:
    """How high the answers stand among the first documents, from 0 to 1, in the mean.

    Args:
        judgements: By query: the grades of its answers.
        found: By query: the documents that were found, the best first.
        at: How many of them count.
    """

    def gain(grades: Sequence[int]) -> float:
        return sum(grade / math.log2(place + 2) for place, grade in enumerate(grades[:at]))

    scores = []
    for query, grades in judgements.items():
        best = gain(sorted(grades.values(), reverse=True))
        scores.append(gain([grades.get(document, 0) for document in found[query]]) / best)
    return sum(scores) / len(scores)


def recall(
    judgements: Mapping[str, Mapping[str, int]], found: Mapping[str, Sequence[str]], at: int = 100
) -> float:
    """Which part of the answers is among the first documents, from 0 to 1, in the mean."""
    scores = [
        len(grades.keys() & set(found[query][:at])) / len(grades)
        for query, grades in judgements.items()
    ]
    return sum(scores) / len(scores)
