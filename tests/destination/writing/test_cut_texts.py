"""Texts that are longer than their model's window: counted, and said once a load."""

import logging

import dlt
import pytest

from dagster_qdrant import qdrant_adapter
from dagster_qdrant.destination import load_job
from dagster_qdrant.destination.writing.load_counts import load_reports
from tests.conftest import Load


@pytest.fixture
def loads_films(load: Load, caplog):
    """Loads films, and tells the counts and what the log warns of."""

    def loads(rows, **hints):
        caplog.clear()
        films = dlt.resource(rows, name="films", **hints)
        with caplog.at_level(logging.WARNING, "dagster_qdrant"):
            pipeline = load(qdrant_adapter(films, embed=["title", "plot"]))
        [load_id] = pipeline.last_trace.last_load_info.loads_ids
        cuts = [record.getMessage() for record in caplog.records if "cut" in record.getMessage()]
        return load_reports.take(load_id)["films"], cuts

    return loads


def film(number: int, words: int) -> dict:
    return {"id": number, "title": f"film {number}", "plot": f"plot {number} " + "word " * words}


def test_they_are_counted_and_said_once_a_load_with_the_longest(loads_films, monkeypatch):
    monkeypatch.setattr(load_job, "_WINDOW_ROWS", 2)
    rows = [film(1, 3), film(2, 600), film(3, 900), film(4, 500), film(5, 700)]
    counts, cuts = loads_films(rows, write_disposition="merge", primary_key="id")
    # Each has two more tokens for its beginning and end, and four for the rest of its text.
    assert (counts.texts, counts.texts_cut) == (5, 3)
    assert counts.tokens_cut == sum(words + 6 - 512 for words in (600, 900, 700))
    [line] = cuts
    assert line.startswith("Table `films`: 3 of 5 texts were cut, and 682 tokens left out")
    assert "the longest, of the row with `id` 3, has 906 tokens, and the model's window is 512" in (
        line
    )
    assert "Set `chunk=True`" in line
    counts, cuts = loads_films(rows, write_disposition="merge", primary_key="id")
    assert (counts.texts_cut, counts.tokens_cut, cuts) == (0, 0, [])


def test_texts_that_fit_are_not_spoken_of(loads_films):
    counts, cuts = loads_films([film(1, 3), film(2, 506)])
    assert (counts.texts, counts.texts_cut, counts.longest_cut, cuts) == (2, 0, None, [])


def test_a_row_without_a_key_is_named_by_what_it_has(loads_films):
    _, [line] = loads_films([film(1, 600)], write_disposition="append")
    assert "of the row with `_dlt_id` " in line
    _, [line] = loads_films([film(2, 600)], write_disposition="replace")
    assert "of the row with point " in line
