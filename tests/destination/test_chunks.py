"""Long texts in chunks: rows of a table of their own, which come and go with the row."""

import dlt
import pyarrow as pa
import pytest
from dlt.pipeline.exceptions import PipelineStepFailed
from pydantic import BaseModel
from qdrant_client import models

from dagster_qdrant import QdrantTerminalError, qdrant_adapter
from dagster_qdrant.destination import load_job
from dagster_qdrant.destination.writing.load_counts import load_reports
from tests.conftest import Load

RAIN = "It rains in the city, and androids walk in the rain. " * 5
LAST = "At last somebody plants a banana tree."
DOCS = [
    {"id": 1, "title": "Rain", "body": RAIN + LAST, "year": 1982},
    {"id": 2, "title": "Short", "body": "A ship is lost in space.", "year": 1979},
    {"id": 3, "title": None, "body": None, "year": 2001},
]


def docs(rows=DOCS, *, embed=("title", "body"), chunk=20, said=None, **hints):
    hints = {"name": "docs", "write_disposition": "merge", "primary_key": "id"} | hints
    resource = dlt.resource(rows, **hints)
    return qdrant_adapter(resource, embed=list(embed), chunk=chunk, **(said or {}))


def counts(pipeline):
    return load_reports.take(pipeline.last_trace.last_load_info.loads_ids[-1])


def text_of(row):
    return "".join(chunk["text"] for chunk in row)


@pytest.mark.every_qdrant
def test_a_row_is_found_by_the_end_of_its_text(load: Load, resource, dataset, chunks):
    load(docs(said={"keywords": True}))
    there = chunks()
    assert set(there) == {1, 2}
    assert text_of(there[1]) == f"Rain\n{RAIN}{LAST}"
    assert {chunk["year"] for chunk in there[1]} == {1982}
    for mode in ("dense", "keywords", "hybrid"):
        [hit] = resource.search(dataset, "docs", "plants a banana tree", limit=1, mode=mode)
        assert hit.payload["body"] == RAIN + LAST
        assert LAST in hit.passages[0].text
        passage = hit.passages[0]
        assert f"Rain\n{RAIN}{LAST}"[passage.start : passage.end] == passage.text


@pytest.mark.parametrize("disposition", ["append", "merge", "replace"])
def test_chunks_follow_their_row(load: Load, chunks, disposition):
    key = {} if disposition == "append" else {"primary_key": "id"}
    load(docs(write_disposition=disposition, primary_key=key.get("primary_key")))
    changed = [
        DOCS[0] | {"body": f"{RAIN}Nobody plants a tree."},
        DOCS[1] | {"body": None, "title": " "},
    ]
    pipeline = load(docs(changed, write_disposition=disposition, **key))
    there = chunks()
    if disposition == "append":
        assert [chunk["chunk_number"] for chunk in there[1]].count(0) == 2
        assert set(there) == {1, 2}
        return
    assert set(there) == {1}
    assert text_of(there[1]) == f"Rain\n{RAIN}Nobody plants a tree."
    # Of chunks that stay where they were, nothing is embedded.
    done = counts(pipeline)["docs__chunks"]
    assert (done.texts, done.rows) == (1, len(there[1]))


def test_a_row_that_did_not_change_costs_no_embedding_and_no_write(load: Load):
    load(docs())
    done = counts(load(docs()))
    assert (done["docs__chunks"].embedded, done["docs__chunks"].written) == (0, 0)
    assert done["docs__chunks"].unchanged == done["docs__chunks"].rows > 4
    assert (done["docs"].rows_with_text, done["docs"].rows_without_text) == (2, 1)


def test_a_deleted_row_takes_its_chunks_along(load: Load, chunks):
    columns = {"gone": {"hard_delete": True, "data_type": "bool"}}
    load(docs(columns=columns))
    done = counts(load(docs([DOCS[0] | {"gone": True}], columns=columns)))
    assert set(chunks()) == {2}
    assert "docs__chunks" not in done or done["docs__chunks"].texts == 0


def test_where_a_mark_deletes_nothing_rows_that_have_it_are_cut(load: Load, chunks):
    columns = {"gone": {"hard_delete": True, "data_type": "bool"}}
    load(docs([DOCS[0] | {"gone": True}], columns=columns, write_disposition="replace"))
    assert set(chunks()) == {1}


class Doc(BaseModel):
    id: int
    title: str
    body: str
    year: int


@pytest.mark.parametrize(
    "rows",
    [
        pa.table({name: [row[name] for row in DOCS] for name in DOCS[0]}),
        [Doc(**row) for row in DOCS[:2]],
        [DOCS],
    ],
    ids=["arrow", "pydantic", "pages"],
)
def test_rows_of_all_kinds_are_cut(load: Load, chunks, rows):
    load(docs([rows] if isinstance(rows, pa.Table) else rows))
    assert text_of(chunks()[1]) == f"Rain\n{RAIN}{LAST}"


def test_models_as_columns_are_cut(load: Load, chunks):
    for _ in range(2):
        load(docs(DOCS[:2], columns=Doc))
    assert text_of(chunks()[1]) == f"Rain\n{RAIN}{LAST}"
    assert chunks()[1][0]["year"] == 1982


def test_lists_of_a_data_frame_stay_in_their_column(load: Load, resource, dataset):
    load(docs([pa.table({"id": [1], "title": ["a"], "body": [RAIN], "tags": [["x", "y"]]})]))
    assert resource.search(dataset, "docs", "rain")[0].payload["tags"] == ["x", "y"]


def test_lists_of_a_row_are_not_copied_and_may_be_embedded_too(load: Load, resource, dataset):
    rows = [DOCS[0] | {"tags": ["a", "b"], "meta": {"lang": "en", "more": [1]}}]
    load(docs(rows, said={"nested": {"tags": "value"}}))
    [hit] = resource.search(dataset, "docs__tags", "b", limit=1)
    assert hit.payload["value"] == "b"
    with resource.get_client() as client:
        names = {each.name for each in client.get_collections().collections}
        [chunk], _ = client.scroll(f"{dataset}_docs__chunks", limit=1)
    assert not [name for name in names if "chunks__" in name]
    assert chunk.payload["meta__lang"] == "en"


def test_rows_are_filtered_by_their_columns(load: Load, resource, dataset):
    load(docs(said={"index": ["year", "title"]}))

    def found(column, value):
        condition = models.FieldCondition(key=column, match=models.MatchValue(value=value))
        query_filter = models.Filter(must=[condition])
        hits = resource.search(dataset, "docs", "rain", query_filter=query_filter)
        return [hit.payload["id"] for hit in hits]

    assert found("year", 1979) == [2]
    assert found("title", "Short") == [2]
    with pytest.raises(Exception, match=r"asks for `body`, whose text is in the chunks"):
        found("body", "x")


def test_columns_beside_chunks_have_the_types_of_the_rows(load: Load, resource, dataset):
    hints = {"year": {"data_type": "text"}, "meta": {"data_type": "json"}}
    pipeline = load(docs([DOCS[0] | {"meta": {"a": 1}}], columns=hints))
    columns = pipeline.default_schema.get_table_columns("docs__chunks")
    assert columns["year"]["data_type"] == "text"
    assert columns["meta"]["data_type"] == "json"
    assert not columns["id"].get("primary_key")


def test_a_function_cuts(load: Load, chunks):
    load(docs(DOCS[:2], chunk=lambda text: text.split("\n")))
    assert [chunk["text"] for chunk in chunks()[2]] == ["Short", "A ship is lost in space."]


def test_one_source_may_have_several_resources_with_chunks(load: Load, chunks):
    load([docs(), docs(DOCS[1:2], name="others", chunk=3)])
    assert len(chunks()[2]) == 1
    assert len(chunks("others__chunks")[2]) > 2


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"chunks": ["a"]}, r"column `chunks`, a name that the list of a row's chunks has"),
        ({"text": "a"}, r"column `text`, a name that a column of the chunks has"),
    ],
)
def test_names_that_chunks_have_are_refused(load: Load, row, words):
    with pytest.raises(PipelineStepFailed, match=words):
        load(docs([DOCS[0] | row]))


def test_an_embedded_column_may_be_named_text(load: Load, chunks):
    load(docs([{"id": 1, "text": RAIN}], embed=["text"], said={"index": ["text"]}))
    assert text_of(chunks()[1]) == RAIN


def test_no_tables_of_lists_are_no_chunks(load: Load):
    with pytest.raises(PipelineStepFailed, match="`max_table_nesting` is 0"):
        load(docs(max_table_nesting=0))


def test_a_pipeline_without_a_destination_knows_no_tokenizer(tmp_path):
    pipeline = dlt.pipeline("nowhere", pipelines_dir=str(tmp_path))
    with pytest.raises(PipelineStepFailed, match="the pipeline has no destination yet"):
        pipeline.extract(docs())


def test_rows_that_were_never_looked_at_are_refused(load: Load, tmp_path):
    file = tmp_path / "docs.jsonl"
    file.write_text('{"id": 1, "title": "a", "body": "b"}\n')
    like = pa.table({"id": [1], "title": ["a"], "body": ["b"]})

    @dlt.resource(name="docs", write_disposition="append")
    def files():
        yield dlt.mark.with_file_import(str(file), "jsonl", 1, hints=like)

    with pytest.raises(PipelineStepFailed, match="with a text and without a chunk"):
        load(qdrant_adapter(files(), embed=["title", "body"], chunk=True))


def test_a_load_without_rows_leaves_chunks_as_they_are(load: Load, resource, dataset):
    load(docs())
    load([docs([]), dlt.resource([{"id": 1}], name="others")])
    assert resource.search(dataset, "docs", "banana tree", limit=1)[0].passages


def test_keywords_may_come_and_go_without_a_new_cut(load: Load, resource, dataset):
    load(docs())
    done = counts(load(docs(DOCS[1:], said={"keywords": True})))
    assert done["docs__chunks"].texts == 0
    [hit] = resource.search(dataset, "docs", "banana", limit=1, mode="keywords")
    assert LAST in hit.passages[0].text
    load(docs(DOCS[1:]))
    assert resource.search(dataset, "docs", "banana tree", limit=1)[0].payload["id"] == 1


def test_all_resources_of_a_table_have_to_be_wrapped(load: Load):
    hints = {"table_name": "docs", "write_disposition": "merge", "primary_key": "id"}
    others = dlt.resource(DOCS[1:], name="others", **hints)
    with pytest.raises(PipelineStepFailed, match=r"a row came .* without a chunk: .*'Short'"):
        load([docs(DOCS[:1], table_name="docs"), others])


@pytest.mark.parametrize("disposition", ["merge", "replace"])
def test_a_load_that_fails_leaves_rows_that_are_found(
    load: Load, resource, dataset, monkeypatch, disposition
):
    load(docs(write_disposition=disposition))
    of_table = load_job.TableLoader.load

    def fail_for_chunks(loader, windows, report):
        if loader._plan.table_name == "docs__chunks":
            raise QdrantTerminalError("no chunks today")
        of_table(loader, windows, report)

    monkeypatch.setattr(load_job.TableLoader, "load", fail_for_chunks)
    changed = [DOCS[0] | {"body": "Something else.", "year": 2049}]
    with pytest.raises(PipelineStepFailed, match="no chunks today"):
        load(docs(changed, write_disposition=disposition), machine="there")
    [hit] = resource.search(dataset, "docs", "plants a banana tree", limit=1)
    assert LAST in hit.passages[0].text
    monkeypatch.undo()
    load(docs(changed, write_disposition=disposition), machine="elsewhere")
    hits = resource.search(dataset, "docs", "plants a banana tree")
    assert {passage.text for hit in hits for passage in hit.passages if hit.payload["id"] == 1} == {
        "Rain\nSomething else."
    }


def test_rows_of_which_none_has_a_text_are_found_by_nothing(load: Load, resource, dataset):
    columns = {name: {"data_type": "text"} for name in ("title", "body")}
    load(docs(DOCS[2:], columns=columns))
    assert resource.search(dataset, "docs", "rain") == []


def test_rows_without_a_text_do_not_bind_to_a_function(load: Load, chunks):
    columns = {name: {"data_type": "text"} for name in ("title", "body")}
    for rows in (DOCS[2:], DOCS):
        load(docs(rows, columns=columns, chunk=lambda text: text.split("\n")))
    assert set(chunks()) == {1, 2}


def test_what_has_nothing_to_cut_is_refused():
    with pytest.raises(ValueError, match="Name its columns with `embed`"):
        qdrant_adapter([{"a": "b"}], keywords={"columns": ["a"]}, chunk=True)
    with pytest.raises(ValueError, match="`nested` names the list 'chunks'"):
        qdrant_adapter([{"a": "b"}], embed="a", nested={"chunks": "text"}, chunk=True)
    with pytest.raises(ValueError, match="`keywords` names columns"):
        qdrant_adapter([{"a": "b"}], embed="a", keywords={"columns": ["b"]}, chunk=True)


def test_another_destination_gets_rows_without_chunks(tmp_path):
    pipeline = dlt.pipeline("elsewhere", destination="dummy", pipelines_dir=str(tmp_path))
    pipeline.extract(docs())
    pipeline.normalize()
    assert "docs__chunks" not in pipeline.default_schema.tables
