"""`python -m benchmarks`: measure on this machine, and print each figure beside the other's."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from benchmarks import cases, unchanged
from benchmarks.environment import dlts_python, model_path
from benchmarks.load import MODEL
from benchmarks.results import Comparison, show
from dagster_qdrant.embedding.batching import available_cores

CASES = (
    *("first", "again", "unchanged", "requests", "local", "memory", "small", "tables", "upload"),
    *("size", "workers", "retrieval"),
)
# The others take a quarter of an hour, and a folder with a retrieval collection.
USUAL = {*CASES} - {"size", "workers", "retrieval"}


def main() -> None:
    given = _arguments()
    sizes = cases.QUICK if given.quick else cases.Sizes()
    if given.rows:
        sizes = replace(sizes, rows=given.rows)
    if given.rounds:
        sizes = replace(sizes, rounds=given.rounds, short_rounds=given.rounds)
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    machine = {
        "cores": available_cores(),
        "processor": _processor(),
        "python": platform.python_version(),
        "model": f"{MODEL} (int8)",
        **{name: version(name) for name in ("dlt", "fastembed", "onnxruntime", "qdrant-client")},
    }
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()))
    if given.only - {"size", "workers", "unchanged"}:
        model_path()
    if given.only - {"size", "workers", "retrieval", "unchanged", "requests", "memory"}:
        dlts_python()
    start = time.monotonic()
    comparisons: list[Comparison] = []
    parts: dict[str, Callable[[], list[Comparison]]] = {
        "first, again": lambda: cases.first_and_again(sizes, given.only),
        "unchanged": lambda: unchanged.unchanged(sizes),
        "requests": lambda: unchanged.requests(sizes),
        "local": lambda: cases.local(sizes),
        "memory": lambda: cases.memory(sizes),
        "small": lambda: cases.small(sizes),
        "tables": lambda: cases.tables(sizes),
        "upload": lambda: cases.upload(sizes),
        "size": lambda: cases.size(sizes),
        "workers": lambda: cases.workers(sizes),
        "retrieval": lambda: cases.retrieval(given.collection),
    }
    for name, case in parts.items():
        if given.only.isdisjoint(name.split(", ")):
            continue
        console.print(f"{name} ...", style="dim")
        comparisons += case()
    title = f"{sizes.rows:,} rows, {sizes.rounds} round(s), {time.monotonic() - start:.0f} s"
    if given.quick:
        title += "; the goals are meant for the full sizes"
    show(console, title, comparisons)
    missed = [f"{each.case}: {each.what}" for each in comparisons if each.met is False]
    held = sum(each.met is True for each in comparisons)
    console.print(f"{held} goals are met. Missed: {'; '.join(missed) or 'none'}.")
    if given.json:
        results = {
            "machine": machine,
            "sizes": asdict(sizes),
            "comparisons": [each.as_json() for each in comparisons],
        }
        given.json.write_text(json.dumps(results, indent=2) + "\n")
    if given.strict and any(each.met is False for each in comparisons):
        sys.exit(1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, one round")
    parser.add_argument("--rows", type=int, help="rows of the cases first and again (5000)")
    parser.add_argument("--rounds", type=int, help="rounds of each case (3, short ones 7)")
    parser.add_argument("--only", type=_names, default=USUAL, help=",".join(CASES))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument("--strict", action="store_true", help="fail if a goal is missed")
    parser.add_argument("--collection", type=Path, metavar="FOLDER", help="for the case retrieval")
    given = parser.parse_args()
    if "retrieval" in given.only and given.collection is None:
        parser.error("the case retrieval needs --collection FOLDER, in BEIR's format")
    return given


def _names(text: str) -> set[str]:
    names = set(text.split(","))
    if unknown := names - set(CASES):
        raise argparse.ArgumentTypeError(f"no case {', '.join(sorted(unknown))}")
    return names


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
