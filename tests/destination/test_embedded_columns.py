"""What is embedded is what was said last: with our adapter, with dlt's, and with none."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import dlt
import pytest
from dlt.common.schema import Schema
from dlt.pipeline.exceptions import PipelineStepFailed

from dagster_qdrant import QdrantResource, build_qdrant_assets, qdrant_adapter
from dagster_qdrant.destination.writing.point_writer import PointWriter
from tests.conftest import Load
from tests.targets import Target, memory, rest

FILMS = [
    {"id": 1, "title": "Moon", "body": "A man alone on the moon."},
    {"id": 2, "title": "Her", "body": "A voice that is loved."},
]


@pytest.fixture
def qdrant_target(request: pytest.FixtureRequest, tmp_path: Path, dataset: str) -> Iterator[Target]:
    """Local mode, and a server where collections are changed: the hints concern neither."""
    with getattr(request, "param", memory)(tmp_path) as qdrant_target:
        yield qdrant_target
        qdrant_target.clean_up(dataset)


ON_A_SERVER = pytest.mark.parametrize("qdrant_target", [rest], indirect=True)


def dlts_adapter(resource: Any, embed: list[str]) -> Any:
    """What dlt's own `qdrant_adapter` does, which is not imported: it needs an older client."""
    hints: Any = {name: {"name": name, "x-qdrant-embed": True} for name in embed}
    return resource.apply_hints(columns=hints)


def films(
    embed: Any, rows: Any = None, *, adapter: Any = qdrant_adapter, name="films", **hints: Any
) -> Any:
    hints = {"write_disposition": "merge", "primary_key": "id", **hints}
    resource = dlt.resource(FILMS if rows is None else rows, name=name, **hints)
    return adapter(resource, embed=embed) if embed else resource


@pytest.fixture
def texts(qdrant_target: Target, dataset: str, embedder: Any) -> Any:
    """Tells the text of each row that has a vector, by its id; asserts that it is that text's."""

    def texts(*columns: str, table: str = "films") -> dict[int, str]:
        found = {}
        for point in qdrant_target.points(f"{dataset}_{table}", vectors=True):
            if not point.vector:
                assert "_dlt_embedding_hash" not in point.payload
                continue
            row = point.payload
            text = "\n".join(str(row[name]) for name in columns if row.get(name) is not None)
            [vector] = point.vector.values()
            assert vector == pytest.approx(list(embedder.embed([text])[0]), abs=1e-5)
            found[row["id"]] = text
        return found

    return texts


@pytest.fixture(params=["script", "machines", "dagster"])
def where(request: pytest.FixtureRequest) -> str:
    """In a folder that stays, on another machine each time, in Dagster."""
    return str(request.param)


@pytest.fixture
def run(where: str, resource: QdrantResource, dataset: str, load: Load, tmp_path: Path) -> Any:
    """Loads a resource."""

    def run(data: Any) -> None:
        if where == "script":
            load(data)
        elif where == "machines":
            load(data, machine=f"machine {len(list(tmp_path.iterdir()))}")
        else:
            assets = build_qdrant_assets(
                dlt_source=data, dataset_name=dataset, pipeline_name="films"
            )
            assert dg.materialize([assets], resources={"qdrant": resource}).success

    return run


ADAPTERS = pytest.mark.parametrize("adapter", [qdrant_adapter, dlts_adapter])
# What dlt's says is in dlt's schema, which is here or in Qdrant: Dagster adds nothing.
ADAPTERS_ANYWHERE = pytest.mark.parametrize(
    ("where", "adapter"),
    [
        ("script", qdrant_adapter),
        ("machines", qdrant_adapter),
        ("dagster", qdrant_adapter),
        ("script", dlts_adapter),
        ("machines", dlts_adapter),
    ],
    indirect=["where"],
)


@ADAPTERS_ANYWHERE
def test_columns_that_are_named_no_longer_are_not_embedded(run, texts, adapter):
    for embed in (["title", "body"], ["title"], ["body"], ["title", "body"]):
        run(films(embed, adapter=adapter))
        in_order = embed if adapter is qdrant_adapter else sorted(embed)
        assert set(texts(*in_order)) == {1, 2}


@ON_A_SERVER
@ADAPTERS_ANYWHERE
def test_a_resource_that_is_wrapped_no_longer_is_not_embedded(
    run, texts, adapter, qdrant_target, dataset, caplog
):
    run(films(["title"], adapter=adapter))
    with caplog.at_level("WARNING", "dagster_qdrant"):
        run(films(None, FILMS[:1]))
    assert "no hint asks for any more. Its 2 points are written without vectors" in caplog.text
    assert texts() == {}
    assert [row["id"] for row in qdrant_target.rows(f"{dataset}_films")] in ([1, 2], [2, 1])
    run(films(None))
    run(films(["body"], adapter=adapter))
    assert set(texts("body")) == {1, 2}


def test_removing_takes_effect_when_the_load_is_complete(load, texts, monkeypatch):
    load(films("title"))
    with monkeypatch.context() as patched:
        patched.setattr(PointWriter, "start", fail)
        with pytest.raises(PipelineStepFailed, match="an interruption"):
            load(films(None))
    assert set(texts("title")) == {1, 2}
    load(films(None))  # dlt finishes the load that was interrupted, with what it was told
    assert texts() == {}


@ADAPTERS
def test_a_load_that_was_interrupted_goes_on_with_the_columns_it_was_told(
    load, texts, monkeypatch, adapter
):
    load(films(["title"], adapter=adapter))
    with monkeypatch.context() as patched:
        patched.setattr(PointWriter, "start", fail)
        with pytest.raises(PipelineStepFailed, match="an interruption"):
            load(films(["body"], adapter=adapter))
    load(films(["title"], adapter=adapter))
    assert set(texts("body")) == {1, 2}


@ADAPTERS
def test_what_was_extracted_is_loaded_as_it_was_said_then(
    load, texts, resource, dataset, tmp_path, adapter
):
    pipeline = load(films(["title"], adapter=adapter))
    pipeline.extract(films(["title"], adapter=adapter))
    pipeline.normalize()
    pipeline.extract(films(["body"], adapter=adapter, name="others"))
    pipeline.load()
    pipeline.normalize()
    pipeline.load()
    assert set(texts("title")) == {1, 2}
    assert set(texts("body", table="others")) == {1, 2}


@ADAPTERS_ANYWHERE
def test_loads_of_other_resources_leave_a_table_as_it_is(run, texts, adapter):
    run(films(["title"], adapter=adapter))
    run(films(None, name="others"))
    assert set(texts("title")) == {1, 2}
    assert texts(table="others") == {}


@pytest.mark.parametrize(
    ("where", "disposition"),
    [("machines", "append"), ("script", "merge"), ("dagster", "merge"), ("machines", "replace")],
    indirect=["where"],
)
def test_a_load_without_rows_leaves_a_table_embedded(
    run, texts, resource, dataset, qdrant_target, disposition
):
    run(films(["title"], write_disposition=disposition))
    run(films(["title"], [], write_disposition=disposition))
    with resource.get_client() as client:
        assert client.get_collection(f"{dataset}_films").config.params.vectors
    rows = [{"id": 3, "title": "Alien"}]
    run(films(["title"], rows, write_disposition=disposition))
    assert texts("title")[3] == "Alien"


def test_wrapping_twice_means_the_second_call(load, texts):
    resource = films(["titel"])
    load(qdrant_adapter(resource, embed=["body"]))
    assert set(texts("body")) == {1, 2}


def test_our_adapter_replaces_what_dlts_said(load, texts):
    resource = films(["titel"], adapter=dlts_adapter)
    load(qdrant_adapter(resource, embed=["body"]))
    assert set(texts("body")) == {1, 2}


@ADAPTERS
def test_a_typo_is_mended_with_the_next_load(load, texts, adapter):
    with pytest.raises(PipelineStepFailed, match="`titel`"):
        load(films(["titel"], adapter=adapter))
    pipeline = dlt.current.pipeline()
    pipeline.abort_packages()
    load(films(["title"], adapter=adapter))
    assert set(texts("title")) == {1, 2}


@ADAPTERS
def test_a_source_that_is_loaded_again_as_it_is_follows_too(load, texts, adapter):
    @dlt.source
    def shop():
        return [films(["title"], adapter=adapter)]

    source = shop()
    load(source)
    source.resources["films"] = films(["body"], adapter=adapter)
    load(source)
    assert set(texts("body")) == {1, 2}


def test_hints_of_nested_tables_follow_too(run, texts, qdrant_target, dataset):
    def chunked(*columns: str) -> Any:
        rows = [{"id": 1, "chunks": [{"id": 7, "head": "Moon", "text": "A man."}]}]
        hint: Any = {name: {"name": name, "x-qdrant-embed": True} for name in columns}
        hints = {"chunks": dlt.mark.make_nested_hints(columns=hint)} if columns else None
        return films(None, rows, nested_hints=hints)

    for columns in (["head", "text"], ["text"], ["head"], []):
        run(chunked(*columns))
        assert set(texts(*columns, table="films__chunks")) == ({7} if columns else set())


@pytest.mark.parametrize("where", ["script", "machines"], indirect=True)
def test_tables_with_names_from_the_rows_follow_too(run, texts):
    rows = [{**row, "kind": f"kind{row['id']}"} for row in FILMS]
    for embed in (["title", "body"], ["body"]):
        run(films(embed, rows, table_name=lambda row: row["kind"]))
        assert texts(*embed, table="kind1") == {1: "\n".join(FILMS[0][name] for name in embed)}


# -- the schema that is kept -----------------------------------------------------------------------


@ADAPTERS
@pytest.mark.parametrize("stays", [True, False])
def test_the_schemas_version_does_not_rise_with_each_run(
    load, resource, dataset, qdrant_target, adapter, stays
):
    versions = []
    for run in range(4):
        machine = "here" if stays else f"machine {run}"
        pipeline = load(films(["title", "body"], adapter=adapter), machine=machine)
        schema = pipeline.default_schema
        versions.append((schema.version, schema.version_hash))
        with pipeline.destination_client() as client:
            assert client.get_stored_schema(schema.name).version_hash == schema.version_hash
    assert len(set(versions)) == 1
    assert len(qdrant_target.points(f"{dataset}__dlt_version")) == 1
    load(films(["title"], adapter=adapter))
    assert len(qdrant_target.points(f"{dataset}__dlt_version")) == 1


def test_a_load_names_the_schema_that_is_stored(load, qdrant_target, dataset):
    load(films(["title"]))
    [stored] = qdrant_target.points(f"{dataset}__dlt_version")
    [done] = qdrant_target.points(f"{dataset}__dlt_loads")
    assert done.payload["schema_version_hash"] == stored.payload["version_hash"]


@pytest.mark.parametrize("stays", [True, False])
def test_hints_that_former_versions_kept_are_not_gone_by(load, texts, monkeypatch, stays):
    with monkeypatch.context() as patched:
        for module in ("loads.schema_table", "loads.kept_schema"):
            patched.setattr(
                f"dagster_qdrant.destination.{module}.without_hints", lambda schema: schema
            )
        pipeline = load(films(["title", "body"], adapter=dlts_adapter))
        assert "x-qdrant-embed" in pipeline.default_schema.to_pretty_json()
    load(films(["title"], adapter=dlts_adapter), machine="here" if stays else "there")
    assert set(texts("title")) == {1, 2}


def test_hints_of_a_schema_that_the_user_keeps_in_a_file_hold(
    resource, dataset, texts, tmp_path, qdrant_target
):
    folder = tmp_path / "schemas"
    folder.mkdir()
    schema = Schema("films")
    hint: Any = {"title": {"name": "title", "data_type": "text", "x-qdrant-embed": True}}
    schema.update_table({"name": "films", "resource": "films", "columns": hint})
    (folder / "films.schema.yaml").write_text(schema.to_pretty_yaml())
    pipeline = dlt.pipeline(
        "films",
        destination=resource.destination(),
        dataset_name=dataset,
        pipelines_dir=str(tmp_path / "here"),
        import_schema_path=str(folder),
    )
    for _ in range(2):
        pipeline.run(films(None))
        assert set(texts("title")) == {1, 2}


# -- order -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["script", "machines"], indirect=True)
def test_the_order_of_embed_is_the_order_of_the_text(run, texts):
    rows = [{"body": row["body"], "title": row["title"], "id": row["id"]} for row in FILMS]
    run(films(["title", "body"], rows))
    assert texts("title", "body")[1] == "Moon\nA man alone on the moon."
    run(films(["body", "title"], rows))
    assert texts("body", "title")[1] == "A man alone on the moon.\nMoon"


@ADAPTERS
def test_rows_whose_keys_come_in_another_order_are_not_embedded_again(
    load, resource, dataset, caplog, texts, adapter
):
    other = [dict(reversed(row.items())) for row in FILMS]
    load(films(["title", "body"], adapter=adapter), name="one")
    with caplog.at_level(logging.WARNING, "dagster_qdrant"):
        for _ in range(2):
            load(films(["title", "body"], other, adapter=adapter), name="other")
            load(films(["title", "body"], adapter=adapter), name="one")
    assert "embedded" not in caplog.text
    assert len(texts(*(["title", "body"] if adapter is qdrant_adapter else ["body", "title"]))) == 2


def test_a_collection_is_not_embedded_again_for_an_order_that_nobody_named(
    load, resource, dataset, caplog, texts
):
    load(films(["title", "body"]))  # as former versions wrote it, in the order of the rows
    with caplog.at_level(logging.WARNING, "dagster_qdrant"):
        rows = [*FILMS, {"id": 3, "title": "Alien", "body": "In space."}]
        load(films(["title", "body"], rows, adapter=dlts_adapter))
    assert "embedded" not in caplog.text
    assert texts("title", "body")[3] == "Alien\nIn space."


def test_names_are_normalized_as_dlt_does_it(load, texts):
    load(films(["Title", "title", "bodyText"], [{"id": 1, "Title": "Moon", "bodyText": "A man."}]))
    assert texts("title", "body_text") == {1: "Moon\nA man."}


def test_values_of_another_type_are_embedded_with_any_naming(load, texts, monkeypatch):
    monkeypatch.setenv("SCHEMA__NAMING", "direct")
    load(films(["Title"], [{"id": 1, "Title": 1984}]))
    load(films(["Title"], [{"id": 2, "Title": "Brazil"}]))
    assert set(texts("Title", "Title▶v_text")) == {1, 2}


# -- together with dlt's refresh -------------------------------------------------------------------


@pytest.mark.parametrize("disposition", ["append", "merge", "replace"])
@pytest.mark.parametrize("swaps", [True, False])
@ON_A_SERVER
def test_data_may_be_dropped_with_the_columns_that_were_embedded(
    resource, dataset, texts, qdrant_target, tmp_path, disposition, swaps
):
    resource = resource.model_copy(update={"replace_strategy": "swap" if swaps else "in-place"})
    pipeline = dlt.pipeline(
        "films",
        destination=resource.destination(),
        dataset_name=dataset,
        pipelines_dir=str(tmp_path / "here"),
    )
    pipeline.run(films(["title"], write_disposition=disposition))
    rows = [{"id": 3, "title": "Alien", "body": "In space."}]
    pipeline.run(films(["body"], rows, write_disposition=disposition), refresh="drop_data")
    assert texts("body") == {3: "In space."}
    pipeline.run(films(None, FILMS[:1], write_disposition=disposition), refresh="drop_data")
    assert [row["id"] for row in qdrant_target.rows(f"{dataset}_films")] == [1]
    assert texts() == {}


def test_data_that_is_to_be_dropped_stays_until_other_columns_are_embedded(
    load, texts, monkeypatch, qdrant_target, dataset
):
    load(films(["title"]))
    with monkeypatch.context() as patched:
        patched.setattr(PointWriter, "start", fail)
        with pytest.raises(PipelineStepFailed, match="an interruption"):
            load(films(["body"]), refresh="drop_data")
    assert set(texts("title")) == {1, 2}


def fail(*_: Any) -> None:
    raise ConnectionError("an interruption")
