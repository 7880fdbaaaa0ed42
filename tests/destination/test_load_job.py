"""Only what changed is embedded, and a job that runs again changes nothing."""

import threading

import dlt
import numpy as np
import pytest
from dlt.pipeline.exceptions import PipelineStepFailed

from dagster_qdrant import QdrantTerminalError, QdrantTransientError, qdrant_adapter
from dagster_qdrant.destination import load_job
from dagster_qdrant.destination.writing.load_counts import load_reports
from dagster_qdrant.destination.writing.table_loader import TableLoader
from dagster_qdrant.embedding import embedder as embedder_room
from dagster_qdrant.qdrant.local_places import LocalPlaces
from tests.conftest import Load
from tests.targets import Target, path

FILMS = [
    {"id": 1, "title": "Blade Runner", "year": 1982},
    {"id": 2, "title": "Her", "year": 2013},
    {"id": 3, "title": "Moon", "year": 2009},
]


def films(rows=FILMS, disposition="merge"):
    key = "id" if disposition == "merge" else None
    resource = dlt.resource(rows, name="films", write_disposition=disposition, primary_key=key)
    return qdrant_adapter(resource, embed="title")


def counts(pipeline, table="films"):
    return load_reports.take(pipeline.last_trace.last_load_info.loads_ids[0])[table]


@pytest.mark.every_qdrant
@pytest.mark.parametrize("disposition", ["merge", "replace"])
def test_unchanged_rows_are_not_embedded_again(load: Load, disposition):
    first = counts(load(films(disposition=disposition)))
    assert (first.rows, first.embedded, first.written) == (3, 3, 3)
    assert first.tokens == 4 + 3 + 3  # [CLS] and [SEP] of each title among them
    assert first.tokens_per_second == pytest.approx(10 / first.seconds_embedding)
    assert first.rows_per_second == pytest.approx(3 / first.seconds_embedding)
    again = counts(load(films(disposition=disposition), machine="fresh"))
    assert (again.rows, again.embedded, again.reused, again.written) == (3, 0, 3, 0)
    assert (again.tokens, again.tokens_per_second, again.rows_per_second) == (0, 0, 0)


def test_rows_with_the_same_text_share_one_run_of_the_model(load: Load, qdrant_target, dataset):
    first = counts(load(films([{"id": n, "title": "Moon"} for n in range(4)])))
    assert (first.texts, first.embedded, first.tokens) == (1, 4, 3)
    points = qdrant_target.points(f"{dataset}_films", vectors=True)
    assert len({tuple(point.vector["fast-all-minilm-l6-v2"]) for point in points}) == 1


def test_windows_overlap_and_still_embed_a_text_once(
    load: Load, qdrant_target, dataset, monkeypatch
):
    monkeypatch.setattr(load_job, "_WINDOW_ROWS", 2)
    titles = ["Moon", "Her", "Moon", "Alien", "Her", "Moon", "Brazil"]
    first = counts(load(films([{"id": n, "title": title} for n, title in enumerate(titles)])))
    assert (first.rows, first.texts, first.written) == (7, 4, 7)
    assert first.embedded + first.reused == 7
    points = qdrant_target.points(f"{dataset}_films", vectors=True)
    vectors = {(p.payload["title"], tuple(*p.vector.values())) for p in points}
    assert len(vectors) == 4


def test_the_last_row_of_a_key_wins_across_windows(load: Load, qdrant_target, dataset, monkeypatch):
    monkeypatch.setattr(load_job, "_WINDOW_ROWS", 1)
    keys = [1, 1, 2, 3, 2, 4, 5, 6, 4, 7, 8, 9, 10, 7, 11]  # again one to four rows later
    load(films([{"id": key, "title": f"Take {n}"} for n, key in enumerate(keys)]))
    titles = {row["id"]: row["title"] for row in qdrant_target.rows(f"{dataset}_films")}
    assert titles == {key: f"Take {n}" for n, key in enumerate(keys)}


def test_windows_are_looked_up_before_their_turn(load: Load, monkeypatch):
    monkeypatch.setattr(load_job, "_WINDOW_ROWS", 1)
    others = threading.Barrier(len(FILMS))
    look_up = TableLoader._look_up

    def look_up_with_others(loader, point_ids):
        if loader._plan.table_name == "films":
            others.wait(10)  # a look-up on its own would wait in vain
        return look_up(loader, point_ids)

    monkeypatch.setattr(TableLoader, "_look_up", look_up_with_others)
    assert counts(load(films())).rows == len(FILMS)


@pytest.mark.every_qdrant
def test_a_text_that_moves_to_another_row_keeps_its_vector(
    load: Load, qdrant_target: Target, dataset
):
    load(films())
    moved = counts(load(films([*FILMS, {"id": 4, "title": "Moon"}])))
    assert (moved.texts, moved.embedded, moved.reused) == (0, 0, 4)
    points = qdrant_target.points(f"{dataset}_films", vectors=True)
    vectors = {point.payload["id"]: point.vector["fast-all-minilm-l6-v2"] for point in points}
    assert vectors[4] == pytest.approx(vectors[3], abs=1e-6)


@pytest.mark.every_qdrant
def test_a_text_is_found_when_a_row_that_had_it_has_another_by_then(
    load: Load, qdrant_target, dataset, monkeypatch
):
    monkeypatch.setattr(load_job, "_WINDOW_ROWS", 1)
    load(films([{"id": n, "title": "Moon"} for n in (1, 2)]))
    others = [{"id": 1, "title": "Her"}, {"id": 5, "title": "Alien"}, {"id": 6, "title": "Brazil"}]
    moved = counts(load(films([*others, {"id": 4, "title": "Moon"}])))
    assert (moved.texts, moved.embedded, moved.reused) == (3, 3, 1)


@pytest.mark.parametrize("qdrant_kind", [path], indirect=True)
def test_local_mode_is_read_once_for_the_texts_that_are_there(load: Load, monkeypatch):
    monkeypatch.setattr(load_job, "_WINDOW_ROWS", 1)
    read = []
    places = LocalPlaces._read
    monkeypatch.setattr(LocalPlaces, "_read", lambda self: read.append(self) or places(self))
    load(films())
    assert len(read) == 1  # a server is asked for each window's texts


@pytest.mark.every_qdrant
def test_a_changed_payload_keeps_its_vector(load: Load, qdrant_target: Target, dataset):
    load(films())
    before = {
        p.payload["id"]: p.vector for p in qdrant_target.points(f"{dataset}_films", vectors=True)
    }
    changed = counts(load(films([FILMS[0], FILMS[1] | {"year": 1}, FILMS[2]])))
    assert (changed.embedded, changed.payload_only, changed.unchanged) == (0, 1, 2)
    points = qdrant_target.points(f"{dataset}_films", vectors=True)
    assert {point.payload["id"]: point.vector for point in points} == before
    assert {point.payload["id"]: point.payload["year"] for point in points}[2] == 1


@pytest.mark.every_qdrant
def test_a_changed_text_is_embedded_and_its_vector_is_the_new_texts(
    load: Load, qdrant_target: Target, dataset, embedder
):
    load(films())
    assert counts(load(films([FILMS[0] | {"title": "Arrival"}, *FILMS[1:]]))).embedded == 1
    [point] = [
        point
        for point in qdrant_target.points(f"{dataset}_films", vectors=True)
        if point.payload["id"] == 1
    ]
    [vector] = point.vector.values()
    np.testing.assert_allclose(vector, embedder.embed(["Arrival"])[0], atol=1e-5)


@pytest.mark.every_qdrant
def test_a_row_that_loses_its_text_loses_its_vector(load: Load, qdrant_target: Target, dataset):
    load(films())
    load(films([{"id": 1, "year": 1982}, *FILMS[1:]]))
    vectors = {
        p.payload["id"]: p.vector for p in qdrant_target.points(f"{dataset}_films", vectors=True)
    }
    assert not vectors[1]
    assert vectors[2]


def test_equal_texts_are_embedded_once(load: Load):
    rows = [{"id": number, "title": "the same"} for number in range(10)]
    counted = counts(load(films(rows)))
    assert (counted.embedded, counted.texts) == (10, 1)


@pytest.mark.parametrize("disposition", ["merge", "replace"])
def test_every_row_knows_the_load_that_changed_it_last(
    load: Load, qdrant_target: Target, dataset, disposition
):
    pipeline = load(films(disposition=disposition))
    [first] = pipeline.last_trace.last_load_info.loads_ids
    pipeline = load(films([*FILMS[1:], FILMS[0] | {"year": 1}], disposition=disposition))
    [second] = pipeline.last_trace.last_load_info.loads_ids
    changed = {
        p.payload["id"]: p.payload["_dlt_load_id"] for p in qdrant_target.points(f"{dataset}_films")
    }
    assert changed == {1: second, 2: first, 3: first}


@pytest.mark.every_qdrant
def test_an_unchanged_row_of_a_load_that_died_belongs_to_the_next_that_has_it(
    load: Load, qdrant_target: Target, dataset, monkeypatch
):
    """Who reads rows together with dlt's loads finds those of complete loads only."""
    from dagster_qdrant.destination.loads import load as load_room
    from dagster_qdrant.destination.loads.load_table import LoadTable

    def dies(*_):
        raise QdrantTerminalError("the end")

    def brought():
        return {p.payload["id"]: p.payload["_dlt_load_id"] for p in points()}

    def points():
        return qdrant_target.points(f"{dataset}_films")

    first = load(films(FILMS[:1])).last_trace.last_load_info.loads_ids[0]
    with monkeypatch.context() as patched:
        patched.setattr(load_room, "remove_what_the_load_outdates", dies)
        with pytest.raises(PipelineStepFailed, match="the end"):
            load(films(), machine="another")
    assert len(set(brought().values())) == 2
    pipeline = load(films())
    [second] = pipeline.last_trace.last_load_info.loads_ids
    assert brought() == {1: first, 2: second, 3: second}
    assert counts(pipeline).unchanged == 3

    asked = []
    original = LoadTable.completed
    monkeypatch.setattr(
        LoadTable, "completed", lambda self, ids: asked.append(ids) or original(self, ids)
    )
    monkeypatch.setattr(load_job, "_WINDOW_ROWS", 1)
    load(films())
    assert brought() == {1: first, 2: second, 3: second}
    assert len(asked) == 3  # once for each load that it meets, and for the pipeline's state


@pytest.mark.parametrize("disposition", ["merge", "replace"])
def test_rows_that_did_not_change_count_as_unchanged(load: Load, disposition):
    load(films(disposition=disposition))
    again = counts(load(films(disposition=disposition)))
    assert (again.unchanged, again.payload_only, again.written) == (3, 0, 0)


@pytest.mark.every_qdrant
def test_loads_larger_than_a_window_are_loaded_whole(
    load: Load, qdrant_target, dataset, monkeypatch
):
    monkeypatch.setattr(load_job, "_WINDOW_ROWS", 7)
    rows = [{"id": number, "title": f"film {number % 11}"} for number in range(50)]
    load(films(rows))
    load(films([*rows, *rows], disposition="append"), name="other", dataset_name=f"{dataset}_b")
    load(films([*rows, *rows], disposition="replace"), name="third", dataset_name=f"{dataset}_c")
    assert len(qdrant_target.rows(f"{dataset}_films")) == 50
    assert len(qdrant_target.rows(f"{dataset}_b_films")) == 100
    assert len(qdrant_target.rows(f"{dataset}_c_films")) == 100


@pytest.mark.parametrize("disposition", ["append", "merge", "replace", "replace again"])
def test_a_job_that_failed_in_the_middle_doubles_nothing_when_it_runs_again(
    load: Load, qdrant_target: Target, dataset, monkeypatch, disposition
):
    from dagster_qdrant.destination.writing.point_writer import PointWriter

    monkeypatch.setattr(load_job, "_WINDOW_ROWS", 4)
    start, started = PointWriter.start, []

    def fails_once(writer, window):
        start(writer, window)
        started.append(window)
        if len(started) == 3:
            writer.finish()
            raise QdrantTransientError("the third window fails once")

    rows = [{"id": number, "title": f"film {number % 5}"} for number in range(20)]
    twins = [{"title": "a twin"}] * 4 if "replace" in disposition else []
    if disposition == "replace again":
        disposition = "replace"
        load(films([*rows, *twins], disposition=disposition))
    monkeypatch.setattr(PointWriter, "start", fails_once)
    load(films([*rows, *twins], disposition=disposition))
    assert len(started) > 5
    assert len(qdrant_target.rows(f"{dataset}_films")) == 20 + len(twins)


def test_a_key_that_comes_again_in_a_later_window_gives_the_newest_row(
    load: Load, qdrant_target: Target, dataset, monkeypatch
):
    monkeypatch.setattr(load_job, "_WINDOW_ROWS", 2)
    rows = [{"id": number % 3, "title": f"version {number}"} for number in range(12)]
    load(films(rows))
    assert sorted(row["title"] for row in qdrant_target.rows(f"{dataset}_films")) == [
        "version 10",
        "version 11",
        "version 9",
    ]


@pytest.mark.every_qdrant
def test_points_that_do_not_arrive_fail_the_load(load: Load, resource, monkeypatch):
    from dagster_qdrant.qdrant.connection import connect

    with connect(resource.configuration().connection) as connection:
        upsert = connection.client.upsert

        def loses_points(collection, points, **options):
            kept = points if "_dlt" in collection else points[1:]
            return upsert(collection, points=kept, **options) if kept else None

        monkeypatch.setattr(connection.client, "upsert", loses_points)
        with pytest.raises(Exception, match="holds . of . points that were just written"):
            load(films())


def test_a_window_is_checked_while_the_next_one_is_written(load: Load, resource, monkeypatch):
    from dagster_qdrant.destination.writing.point_writer import PointWriter

    monkeypatch.setattr(load_job, "_WINDOW_ROWS", 2)
    upsert, count, begun = PointWriter._upsert, PointWriter._count, threading.Event()
    windows, checked = [], []

    def writes(writer, rows):
        write = upsert(writer, rows)

        def watched():
            windows.extend(row for row in rows if "title" in row.payload)
            if len(windows) > 2:
                begun.set()
            write()

        return watched

    def checks(writer, point_ids):
        if windows:
            checked.append(begun.wait(30))
        return count(writer, point_ids)

    monkeypatch.setattr(PointWriter, "_upsert", writes)
    monkeypatch.setattr(PointWriter, "_count", checks)
    load(films([{"id": number, "title": f"film {number}"} for number in range(4)]))
    assert checked
    assert all(checked)


@pytest.mark.parametrize("disposition", ["merge", "replace"])
def test_a_model_is_loaded_only_for_a_text_that_is_new(load: Load, monkeypatch, disposition):
    load(films(disposition=disposition))
    monkeypatch.setattr(embedder_room, "_embedders", {})
    load(films(disposition=disposition), machine="fresh")
    load(dlt.resource([{"id": 1}], name="orders"))
    assert "preload-model" not in {thread.name for thread in threading.enumerate()}
    assert embedder_room._embedders == {}
    load(films([*FILMS, {"id": 4, "title": "Alien"}], disposition=disposition))
    assert len(embedder_room._embedders) == 1
