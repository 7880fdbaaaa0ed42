"""What is compared with what, and how much better it has to be."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.environment import dlts_python, model_path
from benchmarks.measure import Measured, measure, median, rounds
from benchmarks.results import Comparison
from tests.qdrant_server import ServerProcess

DLTS = "dlt's destination"
TUNED = "dlt's, batch size 1"
_SECONDS_OF_A_MILLION = 40  # unchanged rows without vectors


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Args:
        rows: Rows of the long cases.
        local_rows: Rows for a local path, which is slower to write to.
        few_rows: The smaller number of rows whose memory is compared.
        few_local_rows: The same on a local path, where `rows` is the larger one.
        many_rows: The larger one.
        points: Points of the upload.
        unchanged_rows: Rows that are loaded twice, with vectors from a stand-in for the model.
        unchanged_local_rows: The same on a local path.
        plain_rows: Rows without vectors of the case size.
        vector_rows: Rows with vectors of the case size.
        worker_rows: Rows of the case workers.
        tables: Tables of ten rows of the case tables.
        rounds: Rounds of each case.
        short_rounds: Rounds of what takes a few seconds only.
    """

    rows: int = 5_000
    local_rows: int = 1_000
    few_rows: int = 2_000
    few_local_rows: int = 500
    many_rows: int = 20_000
    points: int = 10_000
    unchanged_rows: int = 20_000
    unchanged_local_rows: int = 5_000
    plain_rows: int = 1_000_000
    vector_rows: int = 200_000
    worker_rows: int = 10_000
    tables: int = 20
    rounds: int = 3
    short_rounds: int = 7


QUICK = Sizes(
    rows=300,
    local_rows=200,
    few_rows=300,
    few_local_rows=100,
    many_rows=1_500,
    points=2_000,
    unchanged_rows=1_000,
    unchanged_local_rows=300,
    plain_rows=20_000,
    vector_rows=10_000,
    worker_rows=2_000,
    tables=3,
    rounds=1,
    short_rounds=2,
)


class Loads:
    """Loads one after the other into one server, or into local paths."""

    def __init__(self, url: str | None, scratch: Path) -> None:
        self._url = url
        self._scratch = scratch

    def run(
        self,
        library: str,
        dataset: str,
        rows: int,
        *,
        tables: int = 1,
        changed: int = 0,
        batch_size: int = 0,
    ) -> Measured:
        """Load; the same dataset again updates it.

        Args:
            library: "ours" or "dlts".
            dataset: Names what is loaded into, and dlt's working folder.
            rows: How many.
            tables: How many have them.
            changed: How many percent of the texts differ from those of a first load.
            batch_size: The embedding's, if not the default.
        """
        place = ["--url", self._url] if self._url else ["--path", str(self._scratch / dataset)]
        arguments = [
            *("-m", "benchmarks.load", "--library", library, *place, "--rows", str(rows)),
            *("--dataset", dataset, "--pipelines", str(self._scratch / "pipelines")),
            *("--model-path", model_path(), "--changed", str(changed), "--tables", str(tables)),
            *(("--batch-size", str(batch_size)) if batch_size else ()),
        ]
        telemetry = {"RUNTIME__DLTHUB_TELEMETRY": "false"}
        if library == "dlts":
            return measure(arguments, python=dlts_python(), environment=telemetry)
        return measure(arguments, environment=telemetry)


@contextmanager
def _server_loads() -> Iterator[Loads]:
    with ServerProcess() as server, tempfile.TemporaryDirectory() as scratch:
        yield Loads(server.url, Path(scratch))


def _floor(rows: int, way: str) -> Measured:
    arguments = ["-m", "benchmarks.floor", "--rows", str(rows), "--way", way]
    return measure([*arguments, "--model-path", model_path()])


def first_and_again(sizes: Sizes, only: set[str]) -> list[Comparison]:
    """A first load, the same again with nothing changed, and again with one text in a hundred."""
    rows = sizes.rows
    best = ""
    with _server_loads() as loads:
        sides: dict[str, Callable[[int], Measured]] = {
            "ours": lambda number: loads.run("ours", f"ours{number}", rows),
            "dlts": lambda number: loads.run("dlts", f"dlts{number}", rows),
        }
        if "again" in only:
            sides |= {
                "ours again": sides["ours"],
                "changed": lambda number: loads.run("ours", f"ours{number}", rows, changed=1),
                "dlts again": sides["dlts"],
            }
        if "first" in only:
            best = str(_floor(min(rows, 1_000), "best").answer["best"])
            sides |= {
                "floor": lambda _: _floor(rows, best),
                "engine": lambda _: _floor(rows, "engine"),
                "tuned": lambda number: loads.run("dlts", f"tuned{number}", rows, batch_size=1),
            }
        runs = rounds(sizes.rounds, sides)
    comparisons: list[Comparison] = []
    if "first" in only:
        floor = f"the model alone ({best})"
        comparisons += [
            _rate("first", "rows/s", rows, runs["ours"], runs["floor"], floor, goal=0.92),
            _rate(
                "first",
                "rows/s of embedding only",
                rows,
                runs["engine"],
                runs["floor"],
                floor,
                0.95,
            ),
            _faster("first", runs["ours"], runs["dlts"], DLTS, goal=4),
            _faster("first", runs["ours"], runs["tuned"], TUNED, goal=1.3),
            _memory("first", runs["ours"], runs["dlts"], DLTS, goal=0.2),
            _memory("first", runs["ours"], runs["tuned"], TUNED),
            _cpu("first", runs["ours"], runs["dlts"], DLTS),
            _cpu("first", runs["ours"], runs["tuned"], TUNED),
            _cpu("first", runs["ours"], runs["floor"], "the model alone"),
        ]
    if "again" in only:
        goal = 60 if rows >= 20_000 else 40
        comparisons += [
            _faster("again", runs["ours again"], runs["dlts again"], DLTS, goal=goal),
            _memory("again", runs["ours again"], runs["dlts again"], DLTS),
            Comparison(
                "again",
                "seconds, 1 % of the texts changed",
                seconds(runs["changed"]),
                seconds(runs["ours"]),
                "our first load",
                goal=0.05,
            ),
        ]
    return comparisons


def local(sizes: Sizes) -> list[Comparison]:
    """First and again, into a folder of qdrant-client's local mode."""
    rows = sizes.local_rows
    with tempfile.TemporaryDirectory() as scratch:
        loads = Loads(None, Path(scratch))
        ours = partial(_in_turn, loads, "ours", rows)
        dlts = partial(_in_turn, loads, "dlts", rows)
        best = str(_floor(min(rows, 1_000), "best").answer["best"])
        sides: dict[str, Callable[[int], Measured]] = {
            "ours": ours,
            "dlts": dlts,
            "floor": lambda _: _floor(rows, best),
            "ours again": ours,
            "dlts again": dlts,
        }
        runs = rounds(sizes.rounds, sides)
    floor = f"the model alone ({best})"
    return [
        _rate("local", "rows/s", rows, runs["ours"], runs["floor"], floor, goal=0.92),
        _faster("local", runs["ours"], runs["dlts"], DLTS),
        _memory("local", runs["ours"], runs["dlts"], DLTS),
        _faster("local", runs["ours again"], runs["dlts again"], DLTS, what="seconds, again"),
    ]


def _in_turn(loads: Loads, library: str, rows: int, number: int, *, tables: int = 1) -> Measured:
    return loads.run(library, f"{library}{number}", rows, tables=tables)


def memory(sizes: Sizes) -> list[Comparison]:
    """Our peak memory for many rows beside that for few. One round: it does not vary."""
    with _server_loads() as loads, tempfile.TemporaryDirectory() as scratch:
        on_path = Loads(None, Path(scratch))
        comparisons = []
        for place, at, few, many in (
            ("server", loads, sizes.few_rows, sizes.many_rows),
            ("path", on_path, sizes.few_local_rows, sizes.rows),
        ):
            peak, least = ([at.run("ours", f"rows{count}", count)] for count in (many, few))
            against = f"{few:,} for {many:,}"
            comparisons.append(_memory(f"memory, {place}", peak, least, against, goal=1.2))
    return comparisons


def load_made_rows(*arguments: str, scratch: str) -> Measured:
    """A load of rows that are made as they are read."""
    return measure(
        ["-m", "benchmarks.size", *arguments, "--pipelines", scratch],
        environment={"RUNTIME__DLTHUB_TELEMETRY": "false"},
    )


def size(sizes: Sizes) -> list[Comparison]:
    """Very many rows beside a tenth of them: time in proportion, memory the same. One round."""
    comparisons: list[Comparison] = []
    with ServerProcess() as server, tempfile.TemporaryDirectory() as scratch:
        for kind, rows in {"plain": sizes.plain_rows, "vectors": sizes.vector_rows}.items():
            place = ["--url", server.url, *(("--vectors", "8") if kind == "vectors" else ())]
            few, many = (
                load_made_rows(
                    *(*place, "--rows", str(count), "--dataset", f"{kind}{count}"), scratch=scratch
                )
                for count in (rows // 10, rows)
            )
            per_second = rows / many.seconds, rows // 10 / few.seconds
            against = f"{rows // 10:,} for {rows:,}"
            case = f"size, {kind}"
            comparisons += [
                Comparison(case, "rows/s", *per_second, against, goal=0.8, at="least"),
                Comparison(case, "seconds", many.seconds, few.seconds, against),
                _memory(case, [many], [few], against, goal=1.2),
            ]
            if kind == "plain":
                again = load_made_rows(
                    *(*place, "--rows", str(rows), "--dataset", f"{kind}{rows}"), scratch=scratch
                )
                most = _SECONDS_OF_A_MILLION * rows / 1_000_000
                what = "seconds, unchanged"
                comparisons.append(Comparison(case, what, again.seconds, most, "the most", goal=1))
    return comparisons


def workers(sizes: Sizes) -> list[Comparison]:
    """A load by several workers beside one by a single step, with a model that waits. One round.

    Only what is done with the rows counts, not the start of the processes, which a cluster's
    executor has anyway.
    """
    comparisons: list[Comparison] = []
    with ServerProcess() as server:

        def loaded(count: int) -> float:
            return measure(
                [
                    *("-m", "benchmarks.workers", "--url", server.url),
                    *("--rows", str(sizes.worker_rows), "--workers", str(count)),
                    *("--dataset", f"workers{count}", "--milliseconds", "30"),
                ],
                environment={"RUNTIME__DLTHUB_TELEMETRY": "false"},
            ).seconds

        alone = loaded(1)
        for count in (2, 4):
            share, what = alone / count, f"{count} workers, seconds"
            comparisons.append(
                Comparison("workers", what, loaded(count), share, f"1/{count} of 1", goal=1.1)
            )
    return comparisons


def small(sizes: Sizes) -> list[Comparison]:
    """Ten rows, which is what starting up costs; and what a code location pays for an import."""
    with _server_loads() as loads:
        runs = rounds(
            sizes.short_rounds,
            {
                "ours": lambda number: loads.run("ours", f"ours{number}", 10),
                "dlts": lambda number: loads.run("dlts", f"dlts{number}", 10),
                "package": lambda _: measure(["-c", "import dagster_qdrant"]),
                "dagster": lambda _: measure(["-c", "import dagster"]),
                "names": lambda _: measure(["-c", "from dagster_qdrant import *"]),
                "dagster_dlt": lambda _: measure(["-c", "import dagster_dlt"]),
            },
        )
    whole = {name: median(run.whole_seconds for run in each) for name, each in runs.items()}
    peak = {name: median(run.peak_mib for run in each) for name, each in runs.items()}
    return [
        Comparison("small", "process, 10 rows, s", whole["ours"], whole["dlts"], DLTS, goal=0.5),
        _memory("small", runs["ours"], runs["dlts"], DLTS),
        Comparison("small", "import, s", whole["package"], whole["dagster"], "dagster", goal=1),
        Comparison("small", "import, MiB", peak["package"], peak["dagster"], "dagster", goal=1),
        Comparison("small", "import all, s", whole["names"], whole["dagster_dlt"], "dagster_dlt"),
    ]


def tables(sizes: Sizes) -> list[Comparison]:
    """A database of small tables: the collections are made, and asked about again."""
    with _server_loads() as loads:
        ours = partial(_in_turn, loads, "ours", 10, tables=sizes.tables)
        dlts = partial(_in_turn, loads, "dlts", 10, tables=sizes.tables)
        sides = {"ours": ours, "dlts": dlts, "ours again": ours, "dlts again": dlts}
        runs = rounds(sizes.rounds, sides)
    again = f"{sizes.tables} tables again, s"
    return [
        _faster("tables", runs["ours"], runs["dlts"], DLTS, what=f"{sizes.tables} tables, s"),
        _faster("tables", runs["ours again"], runs["dlts again"], DLTS, what=again),
    ]


def upload(sizes: Sizes) -> list[Comparison]:
    """Points a second of the write path, waited for and checked, beside the client's method."""
    points = sizes.points

    def run(side: str, number: int) -> Measured:
        arguments = ["-m", "benchmarks.upload", "--side", side, "--url", server.url]
        collection = f"{side}{number}"
        return measure([*arguments, "--collection", collection, "--points", str(points)])

    with ServerProcess() as server:
        runs = rounds(
            sizes.short_rounds, {"ours": partial(run, "ours"), "client": partial(run, "client")}
        )
    other = "qdrant-client's upload_points"
    return [
        _rate("upload", "points/s", points, runs["ours"], runs["client"], other, goal=1),
        _cpu("upload", runs["ours"], runs["client"], other),
    ]


def seconds(runs: list[Measured]) -> float:
    return median(run.seconds for run in runs)


def _rate(
    case: str,
    what: str,
    count: int,
    ours: list[Measured],
    other: list[Measured],
    against: str,
    goal: float | None = None,
) -> Comparison:
    rates = count / seconds(ours), count / seconds(other)
    return Comparison(case, what, *rates, against, goal=goal, at="least")


def _faster(
    case: str,
    ours: list[Measured],
    other: list[Measured],
    against: str,
    goal: float | None = None,
    what: str = "seconds",
) -> Comparison:
    times = seconds(ours), seconds(other)
    return Comparison(case, what, *times, against, "other / ours", goal, "least")


def _memory(
    case: str, ours: list[Measured], other: list[Measured], against: str, goal: float | None = None
) -> Comparison:
    peaks = median(run.peak_mib for run in ours), median(run.peak_mib for run in other)
    return Comparison(case, "peak memory, MiB", *peaks, against, goal=goal)


def _cpu(case: str, ours: list[Measured], other: list[Measured], against: str) -> Comparison:
    times = median(run.cpu_seconds for run in ours), median(run.cpu_seconds for run in other)
    return Comparison(case, "CPU seconds", *times, against)


# By way of `benchmarks.retrieval`, how many times the nDCG of dense alone it has to reach.
_COMPARED_WITH_DENSE = {
    "keywords": None,
    "hybrid": 1.0,
    "dense_in_chunks": None,
    "hybrid_in_chunks": None,
}


def retrieval(folder: Path) -> list[Comparison]:
    """How well a collection's queries are answered by meaning, by keywords, and by both.

    Args:
        folder: A retrieval collection in BEIR's format.
    """
    with ServerProcess() as server, tempfile.TemporaryDirectory() as scratch:
        ways = {
            way: measure(
                [
                    *("-m", "benchmarks.retrieval", "--folder", str(folder), "--way", way),
                    *("--url", server.url, "--pipelines", f"{scratch}/{way}"),
                    *("--model-path", model_path()),
                ],
                environment={"RUNTIME__DLTHUB_TELEMETRY": "false"},
            ).answer
            for way in ("dense", *_COMPARED_WITH_DENSE)
        }
    comparisons = []
    for way, goal in _COMPARED_WITH_DENSE.items():
        for figure in ("ndcg@10", "recall@100", "queries_per_second", "rows_per_second"):
            comparisons.append(
                Comparison(
                    "retrieval",
                    f"{way}: {figure}",
                    float(ways[way][figure]),
                    float(ways["dense"][figure]),
                    "dense",
                    goal=goal if figure == "ndcg@10" else None,
                    at="least",
                )
            )
    return comparisons
