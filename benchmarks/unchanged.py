"""What a load costs in which nothing changed."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.cases import Loads, Sizes, load_made_rows, seconds
from benchmarks.measure import Measured, rounds
from benchmarks.results import Comparison
from tests.qdrant_server import ServerProcess


def unchanged(sizes: Sizes) -> list[Comparison]:
    """The same rows twice, with a stand-in for the model, so that embedding takes no time."""
    comparisons: list[Comparison] = []
    with ServerProcess() as server, tempfile.TemporaryDirectory() as scratch:
        for place, rows in (("server", sizes.unchanged_rows), ("path", sizes.unchanged_local_rows)):
            for what in ("merge", "replace", "merge --nested"):
                disposition, *nested = what.split()

                def run(
                    number: int,
                    place: str = place,
                    rows: int = rows,
                    disposition: str = disposition,
                    nested: list[str] = nested,
                ) -> Measured:
                    dataset = f"{place}_{disposition}{len(nested)}_{number}"
                    where = ["--url", server.url]
                    if place == "path":
                        where = ["--path", f"{scratch}/{dataset}"]
                    return load_made_rows(
                        *(*where, "--rows", str(rows), "--vectors", "384", *nested),
                        *("--disposition", disposition, "--dataset", dataset),
                        scratch=scratch,
                    )

                runs = rounds(sizes.rounds, {"first": run, "again": run})
                comparisons.append(
                    Comparison(
                        f"unchanged, {place}",
                        f"seconds, {rows:,} rows, {what.replace(' --', ', ')}",
                        seconds(runs["again"]),
                        seconds(runs["first"]),
                        "the first load",
                        goal=0.1,
                    )
                )
    return comparisons


def requests(_: Sizes) -> list[Comparison]:
    """What a flat table that did not change asks of a server. It does not vary."""
    with ServerProcess() as server, tempfile.TemporaryDirectory() as scratch:
        loads = Loads(server.url, Path(scratch))
        loads.run("ours", "few", 10)
        server.reset_counts()
        loads.run("ours", "few", 10)
        operations = server.counts()["operations"]
    made = sum(sum(each.values()) for each in operations.values())
    return [Comparison("requests", "an unchanged flat table", made, 12, "the most", goal=1)]
