"""Loads at the same time leave what they would have left one after the other."""

import itertools
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
import dlt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dagster_qdrant import (
    QdrantResource,
    QdrantTerminalError,
    build_qdrant_assets,
    qdrant_adapter,
)
from dagster_qdrant.destination import load_job
from dagster_qdrant.destination.loads import state_table
from dagster_qdrant.destination.loads.load_claims import Claim, in_line, is_behind
from dagster_qdrant.destination.writing.table_loader import TableLoader
from tests.targets import Target


@pytest.fixture
def resource(qdrant_target: Target, model: dict[str, Any]) -> QdrantResource:
    return QdrantResource(**qdrant_target.options, **model, upload_batch_size=2)


def films(rows: list[dict[str, Any]], disposition: str) -> Any:
    key = None if disposition == "append" else "id"
    data = dlt.resource(rows, name="films", write_disposition=disposition, primary_key=key)
    return qdrant_adapter(data, embed="title")


def rows_of(author: str, *numbers: int, tags: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "id": number,
            "title": f"film {number} of {author}",
            **({"tags": [f"{author} {number} {tag}" for tag in range(tags)]} if tags else {}),
        }
        for number in numbers
    ]


@pytest.fixture
def load_at_once(dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run loads in threads, which take turns in the middle of their work where they may."""
    original = TableLoader._resolve
    folders = itertools.count()

    def slow(self: TableLoader, *arguments: Any) -> Any:
        time.sleep(0.01)
        return original(self, *arguments)

    monkeypatch.setattr(TableLoader, "_resolve", slow)
    monkeypatch.setattr(load_job, "_WINDOW_ROWS", 2)

    def load_at_once(*loads: tuple[QdrantResource, Any], dataset: str = dataset) -> None:
        gate = threading.Barrier(len(loads))

        def run(number: int, resource: QdrantResource, data: Any, partition: Any = None) -> None:
            pipeline = dlt.pipeline(
                f"pipeline_{number}",
                destination=resource.destination(partition=partition),
                dataset_name=dataset,
                pipelines_dir=str(tmp_path / f"{dataset} {next(folders)}"),
            )
            pipeline.extract(data)
            pipeline.normalize()
            gate.wait(30)
            pipeline.load()

        with ThreadPoolExecutor(len(loads)) as pool:
            runs = [pool.submit(run, number, *load) for number, load in enumerate(loads)]
        for each in runs:
            each.result()

    return load_at_once


def authors(qdrant_target: Target, dataset: str, table: str, column: str) -> list[str]:
    return sorted(row[column] for row in qdrant_target.rows(f"{dataset}_{table}"))


@pytest.mark.parametrize("strategy", ["in-place", "swap"])
def test_of_two_replaces_at_once_one_leaves_its_rows_and_the_other_none(
    load_at_once, resource, qdrant_target, dataset, strategy, model
):
    options = {**qdrant_target.options, **model, "replace_strategy": strategy}
    resource = QdrantResource(**options)
    one, two = rows_of("one", *range(8), tags=2), rows_of("two", *range(4, 14), tags=1)
    load_at_once((resource, films(one, "replace")), (resource, films(two, "replace")))
    titles = authors(qdrant_target, dataset, "films", "title")
    assert titles in (sorted(r["title"] for r in one), sorted(r["title"] for r in two))
    tags = authors(qdrant_target, dataset, "films__tags", "value")
    [winner] = [rows for rows in (one, two) if titles == sorted(r["title"] for r in rows)]
    assert tags == sorted(tag for row in winner for tag in row["tags"])


LOADS = st.tuples(
    st.sampled_from(["replace", "merge"]),
    st.lists(st.integers(0, 9), min_size=1, max_size=8, unique=True),
    st.integers(1, 3),
)


@given(loads=st.lists(LOADS, min_size=2, max_size=3))
@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_loads_at_once_leave_what_they_leave_in_some_order(
    load_at_once, resource, qdrant_target, dataset, tmp_path_factory, loads
):
    dataset = f"{dataset}_{tmp_path_factory.mktemp('example').name}"
    brought = [
        (disposition, rows_of(f"{number}", *ids, tags=tags))
        for number, (disposition, ids, tags) in enumerate(loads)
    ]
    # With rows in it, so that each of them meets the others' and none is alone in making it.
    load_at_once((resource, films(rows_of("before", *range(5), tags=2), "merge")), dataset=dataset)
    load_at_once(*((resource, films(rows, how)) for how, rows in brought), dataset=dataset)

    def left(order: Any) -> tuple[list[str], list[str]]:
        rows = {row["id"]: row for row in rows_of("before", *range(5), tags=2)}
        for disposition, new in order:
            rows = ({} if disposition == "replace" else rows) | {row["id"]: row for row in new}
        titles = sorted(row["title"] for row in rows.values())
        return titles, sorted(tag for row in rows.values() for tag in row["tags"])

    found = (
        authors(qdrant_target, dataset, "films", "title"),
        authors(qdrant_target, dataset, "films__tags", "value"),
    )
    assert found in [left(order) for order in itertools.permutations(brought)]


@pytest.fixture
def meet(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets loads go on only when so many are in the middle of their work at once."""

    def meet(count: int) -> None:
        barrier = threading.Barrier(count)
        original = TableLoader.load

        def together(self: TableLoader, *arguments: Any) -> None:
            if self._plan.table_name == "films":
                barrier.wait(20)
            original(self, *arguments)

        monkeypatch.setattr(TableLoader, "load", together)

    return meet


@pytest.mark.parametrize("disposition", ["append", "merge"])
def test_loads_that_do_not_disturb_each_other_go_together(
    load_at_once, resource, qdrant_target, dataset, meet, disposition
):
    load_at_once((resource, films(rows_of("first", 0), disposition)))
    meet(3)
    loads = [films(rows_of(f"{n}", n, n + 1, n + 2), disposition) for n in (1, 4, 7)]
    load_at_once(*((resource, data) for data in loads))
    found = sorted(row["id"] for row in qdrant_target.rows(f"{dataset}_films"))
    assert found == list(range(10))


def test_partitions_are_replaced_together_and_the_whole_alone(
    load_at_once, resource, qdrant_target, dataset, meet
):
    meet(2)
    parts = [(resource, films(rows_of(f"{n}", n), "replace"), f"{n}") for n in (1, 2)]
    load_at_once(*parts)
    assert sorted(row["id"] for row in qdrant_target.rows(f"{dataset}_films")) == [1, 2]


def test_a_load_says_what_it_waits_for(load_at_once, resource, caplog, dataset):
    with caplog.at_level("WARNING", "dagster_qdrant"):
        loads = [films(rows_of(name, *range(20), tags=1), "replace") for name in ("a", "b")]
        load_at_once(*((resource, data) for data in loads))
    assert "Waiting for load " in caplog.text
    assert "which writes to `films` too." in caplog.text


def test_a_dead_load_is_waited_for_no_longer_than_asked(
    load_at_once, qdrant_target, model, dataset, monkeypatch, caplog
):
    resource = QdrantResource(**qdrant_target.options, **model, abandoned_after=0.5)
    with monkeypatch.context() as patched:
        patched.setattr(TableLoader, "load", _dies)
        with pytest.raises(Exception, match="the end"):
            load_at_once((resource, films(rows_of("one", 1), "replace")))
    load_at_once((resource, films(rows_of("two", 2), "replace")))
    assert [row["id"] for row in qdrant_target.rows(f"{dataset}_films")] == [2]
    assert "has no heartbeat. It is declared dead" in caplog.text


def _dies(*_: Any) -> None:
    raise QdrantTerminalError("the end")


def test_states_of_runs_that_end_at_once_are_all_kept(
    resource, qdrant_target, dataset, monkeypatch
):
    original = state_table.merge_states

    def slow(*states: Any) -> Any:
        time.sleep(0.5)
        return original(*states)

    monkeypatch.setattr(state_table, "merge_states", slow)
    tables = ("one", "two", "three")
    last = 2

    @dlt.source(name="shop")
    def shop() -> Any:
        for name in tables:

            @dlt.resource(name=name, write_disposition="append")
            def rows(since: Any = dlt.sources.incremental("id", initial_value=0)):
                yield [{"id": number} for number in range(1, last + 1)]

            yield rows

    assets = build_qdrant_assets(dlt_source=shop(), dataset_name=dataset)

    def run(table: str) -> bool:
        selection = dg.AssetSelection.assets([dataset, table])
        result = dg.materialize([assets], resources={"qdrant": resource}, selection=selection)
        return result.success

    assert dg.materialize([assets], resources={"qdrant": resource}).success
    last = 4
    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(run, tables))
    assert dg.materialize([assets], resources={"qdrant": resource}).success
    for table in tables:
        assert sorted(row["id"] for row in qdrant_target.rows(f"{dataset}_{table}")) == [1, 2, 3, 4]


def load_in_many_files(options: dict[str, Any], dataset: str, folder: str, author: str) -> None:
    """What a script does, with files so small that a path is left between them."""
    os.environ |= {"DATA_WRITER__FILE_MAX_ITEMS": "2", "DATA_WRITER__BUFFER_MAX_ITEMS": "1"}
    pipeline = dlt.pipeline(
        author,
        destination=QdrantResource(**options).destination(),
        dataset_name=dataset,
        pipelines_dir=folder,
    )
    pipeline.run(films(rows_of(author, *range(12), tags=1), "replace"))
    pipeline.run(films(rows_of(author, *range(12)), "append"), table_name=f"of_{author}")


def test_scripts_take_turns_on_a_path_and_none_fails(model, tmp_path, dataset):
    options = {"path": str(tmp_path / "qdrant"), **model, "abandoned_after": 0.5}
    context = multiprocessing.get_context("forkserver")
    scripts = [
        context.Process(
            target=load_in_many_files, args=(options, dataset, str(tmp_path / author), author)
        )
        for author in ("one", "two", "three")
    ]
    for script in scripts:
        script.start()
    for script in scripts:
        script.join()
    assert [script.exitcode for script in scripts] == [0, 0, 0]
    found = Target("path", options)
    titles = authors(found, dataset, "films", "title")
    assert len({title.split()[-1] for title in titles}) == 1
    assert len(titles) == 12
    for author in ("one", "two", "three"):
        assert len(found.rows(f"{dataset}_of_{author}")) == 12


# -- the queue -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "conflict"),
    [
        (Claim("films"), Claim("films"), True),
        (Claim("films"), Claim("actors"), False),
        (Claim("films"), Claim("films", exclusive=False), True),
        (Claim("films", exclusive=False), Claim("films", exclusive=False), False),
        (Claim("films", "2009"), Claim("films", "2010"), False),
        (Claim("films", "2009"), Claim("films", "2009"), True),
        (Claim("films", "2009"), Claim("films"), True),
        (Claim("films", "2009"), Claim("films", exclusive=False), True),
    ],
)
def test_only_one_of_two_loads_may_go_on_where_one_would_spoil_the_other(one, other, conflict):
    assert one.conflicts_with(other) is other.conflicts_with(one) is conflict


@given(steps=st.lists(st.integers(0, 3), max_size=80))
def test_no_two_loads_have_a_table_at_once_and_one_can_always_go_on(steps):
    """In whatever order loads write their claims, look at the others', take tickets and end."""
    written: dict[str, tuple[Claim, ...]] = {}
    tickets: dict[str, tuple[Claim, ...]] = {}
    inside: set[str] = set()
    programs: dict[str, Any] = {}

    def program(name: str) -> Iterator[None]:
        claims = (Claim("films"),)
        written[name] = claims
        yield
        others = {key: value for key, value in written.items() if key != name}
        yield
        tickets[name] = in_line(claims, [claim for value in others.values() for claim in value])
        if tickets[name] != claims:
            written[name] = tickets[name]
            yield
            while any(
                is_behind(tickets[name], name, value, key)
                for key, value in written.items()
                if key != name
            ):
                yield
        inside.add(name)
        assert len(inside) == 1
        yield
        inside.remove(name)
        del written[name]

    def step(number: int) -> bool:
        name = f"load {number}"
        running = programs.setdefault(name, program(name))
        try:
            next(running)
        except StopIteration:
            del programs[name]
        return name in programs

    for number in steps:
        step(number)
    for _ in range(40):  # all of them end
        for name in list(programs):
            step(int(name.removeprefix("load ")))
    assert not programs
