"""A load that takes long says how far it is, wherever somebody looks."""

import io
import re

import dlt
import pytest

from dagster_qdrant import qdrant_adapter
from dagster_qdrant.destination import load_job
from dagster_qdrant.destination.writing import progress
from tests.conftest import Load

pytestmark = pytest.mark.in_memory

FILMS = [
    {"id": 1, "title": "Blade Runner"},
    {"id": 2, "title": "Her"},
    {"id": 3, "title": "Moon"},
]


def films(rows=FILMS):
    resource = dlt.resource(rows, name="films", write_disposition="merge", primary_key="id")
    return qdrant_adapter(resource, embed="title")


def test_a_long_load_says_how_far_it_is(load: Load, monkeypatch, caplog):
    monkeypatch.setattr(load_job, "_WINDOW_ROWS", 2)
    monkeypatch.setattr(progress, "_INTERVAL", 0.0)
    with caplog.at_level("INFO", "dagster_qdrant"):
        load(films())
    assert "films: 2 of 3 rows" in caplog.text
    assert re.search(
        r"films: 3 of 3 rows, \d+ rows/s, 0 % of the vectors reused, 0 s to go", caplog.text
    )


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("interval", [0.0, 60.0])
def test_a_terminal_shows_a_bar_if_a_load_is_long(load: Load, monkeypatch, capsys, interval):
    monkeypatch.setattr(progress, "_INTERVAL", interval)
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    load(films(FILMS[:2]))
    load(films())
    if interval:
        assert terminal.getvalue() == ""
    else:
        assert re.search(
            r"films: 100%.* 3/3 \[.* rows/s, 67 % of the vectors reused\]", terminal.getvalue()
        )


def test_without_a_terminal_there_is_no_bar(load: Load, monkeypatch):
    monkeypatch.setattr(progress, "_INTERVAL", 0.0)
    monkeypatch.setattr("sys.stderr", file := io.StringIO())
    load(films())
    assert file.getvalue() == ""


def test_the_display_of_the_pipeline_shows_the_rows_and_no_bar_does(
    resource, dataset, monkeypatch, tmp_path
):
    monkeypatch.setattr(load_job, "_WINDOW_ROWS", 2)
    monkeypatch.setattr(progress, "_INTERVAL", 0.0)
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    shown = io.StringIO()
    dlt.pipeline(
        "shown",
        destination=resource.destination(),
        dataset_name=dataset,
        pipelines_dir=str(tmp_path),
        progress=dlt.progress.log(log_period=0.0, logger=shown, dump_system_stats=False),
    ).run(films())
    loading = shown.getvalue().split("Load films in")[-1]
    assert "films: 0/3" in shown.getvalue()
    assert re.search(r"films: 3/3 \(100.0%\).*\[0 % of the vectors reused\]", loading)
    assert terminal.getvalue() == ""


def test_the_time_left_is_that_of_all_files_of_the_table(load: Load, monkeypatch, caplog):
    monkeypatch.setattr(load_job, "_WINDOW_ROWS", 20)
    monkeypatch.setattr(progress, "_INTERVAL", 0.0)
    monkeypatch.setenv("NORMALIZE__DATA_WRITER__FILE_MAX_ITEMS", "20")
    monkeypatch.setenv("LOAD__WORKERS", "1")
    with caplog.at_level("INFO", "dagster_qdrant"):
        load(dlt.resource([{"id": 100 + number} for number in range(100)], name="films"))
    lines = re.findall(r"films: (\d+) of (\d+) rows", caplog.text)
    assert [int(done) for done, _ in lines] == [20, 40, 60, 80, 100]
    assert all(90 <= int(total) <= 110 for _, total in lines), lines
    assert lines[-1][1] == "100"


@pytest.mark.parametrize(
    ("seconds", "said"), [(-1.0, "0 s"), (42.4, "42 s"), (420.0, "7 min"), (9000.0, "2.5 h")]
)
def test_the_time_left_is_said_as_roughly_as_it_is_known(seconds, said):
    assert progress._duration(seconds) == said
