"""Chunks of rows that are there are made anew where texts are to be cut otherwise."""

import dlt
import pytest
from dlt.pipeline.exceptions import PipelineStepFailed

from dagster_qdrant import QdrantTerminalError
from dagster_qdrant.destination import load_job
from tests.conftest import Load
from tests.destination.test_chunks import DOCS, LAST, counts, docs


# Each change, and each disposition with what is cut anew and with what is not.
@pytest.mark.parametrize(
    ("disposition", "change"),
    [
        pytest.param(disposition, change, id=f"{what}, {disposition}")
        for what, change, dispositions in (
            ("tokens", {"chunk": 30}, ("append", "merge", "replace")),
            ("columns", {"embed": ("body",)}, ("merge",)),
            ("default", {"chunk": True}, ("append",)),
            ("beside", {"said": {"index": ["title"]}}, ("append", "merge", "replace")),
        )
        for disposition in dispositions
    ],
)
def test_other_chunks_are_made_of_the_rows_that_are_there(load: Load, chunks, change, disposition):
    key = {
        "write_disposition": disposition,
        "primary_key": "id" if disposition == "merge" else None,
    }
    load(docs(**key))
    rows = DOCS if disposition == "replace" else DOCS[1:2]
    done = counts(load(docs(rows, **key, **change)))
    assert done["docs__chunks"].reused
    load(docs(DOCS, name="fresh", **change))
    own = ("text", "chunk_number", "chunk_start", "chunk_end", "title", "year")

    def told(table, row):
        found = [tuple(chunk.get(name) for name in own) for chunk in chunks(table)[row]]
        return found if disposition != "append" else set(found)

    assert [told("docs__chunks", row) for row in (1, 2)] == [
        told("fresh__chunks", row) for row in (1, 2)
    ]
    assert counts(load(docs(rows, **key, **change)))["docs__chunks"].texts == 0


@pytest.mark.every_qdrant
def test_chunks_of_rows_that_are_there_are_those_of_the_source(load: Load, resource, dataset):
    rows = [row | {"meta": {"lang": "en"}, "tags": ["a"]} for row in DOCS]
    load(docs(rows, chunk=None))
    load(docs(rows[:1], name="others"))
    done = counts(load(docs(rows[:1])))["docs__chunks"]
    assert (done.unchanged, done.written) == (done.rows, 0)  # cut anew before
    [hit] = resource.search(dataset, "docs", "a ship in space", limit=1)
    assert hit.passages[0].text == "Short\nA ship is lost in space."
    done = counts(load(docs(rows)))["docs__chunks"]
    assert (done.unchanged, done.written) == (done.rows, 0)
    # And back again: the rows have the vectors, and there is no chunk.
    load(docs(rows[:1], chunk=None))
    [hit] = resource.search(dataset, "docs", "a ship in space", limit=1)
    assert (hit.payload["id"], hit.passages) == (2, ())
    with resource.get_client() as client:
        assert client.count(f"{dataset}_docs__chunks").count == 0
    load(docs(rows[:1]))
    assert resource.search(dataset, "docs", "a ship in space", limit=1)[0].passages


def test_a_failed_load_of_other_chunks_is_made_up_for(load: Load, chunks, monkeypatch):
    load(docs())
    of_table = load_job.TableLoader.load

    def fail(loader, windows, report):
        raise QdrantTerminalError("nothing today")

    monkeypatch.setattr(load_job.TableLoader, "load", fail)
    for _ in range(2):
        with pytest.raises(PipelineStepFailed, match="nothing today"):
            load(docs(DOCS[1:], chunk=30), machine="there")
    monkeypatch.setattr(load_job.TableLoader, "load", of_table)
    load(docs(DOCS[1:], chunk=30), machine="elsewhere")
    load(docs(name="fresh", chunk=30))
    assert [c["text"] for c in chunks()[1]] == [c["text"] for c in chunks("fresh__chunks")[1]]


def test_another_model_cuts_anew(load: Load, resource, dataset, tmp_path, other_model):
    load(docs())
    other = resource.model_copy(update=other_model)
    pipeline = dlt.pipeline(
        "other",
        destination=other.destination(),
        dataset_name=dataset,
        pipelines_dir=str(tmp_path / "other"),
    )
    pipeline.run(docs(DOCS[1:2]))
    [hit] = other.search(dataset, "docs", "plants a banana tree", limit=1)
    assert LAST in hit.passages[0].text
    assert counts(pipeline)["docs__chunks"].texts == 4  # some chunks are alike


def test_chunks_of_all_partitions_are_cut_anew(resource, dataset, chunks, tmp_path):
    def load(partition, row, chunk):
        pipeline = dlt.pipeline(
            "parts",
            destination=resource.destination(partition=partition),
            dataset_name=dataset,
            pipelines_dir=str(tmp_path / "parts"),
        )
        pipeline.run(docs([row], write_disposition="replace", chunk=chunk))

    load("one", DOCS[0], 20)
    load("two", DOCS[0] | {"id": 2}, 20)
    many = len(chunks()[1])
    for _ in range(2):
        load("one", DOCS[0], 60)
        there = chunks()
        assert len(there[1]) == len(there[2]) < many
        assert {chunk["_dlt_partition"] for chunk in there[2]} == {"two"}
        hits = resource.search(dataset, "docs", "plants a banana tree")
        assert {hit.payload["id"] for hit in hits} == {1, 2}
    load("two", DOCS[0] | {"id": 2}, 60)
    assert chunks().keys() == {1, 2}
    assert [len(each) for each in chunks().values()] == [len(there[1])] * 2


def test_chunks_of_a_function_are_not_made_of_rows_that_are_there(load: Load):
    def by_line(text):
        return text.splitlines()

    load(docs())
    with pytest.raises(PipelineStepFailed, match="former rows have chunks of `title`, `body`"):
        load(docs(DOCS[:1], chunk=by_line), name="again")
    load(docs(chunk=by_line, write_disposition="replace"), name="anew")
    load(docs(DOCS[:1], chunk=by_line), name="anew")
