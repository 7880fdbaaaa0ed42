"""What changes between two loads is followed, or refused before anything is written."""

import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import dlt
import pytest
from dlt.common.json import json
from dlt.common.schema import Schema
from dlt.pipeline.exceptions import PipelineStepFailed

from dagster_qdrant import QdrantResource, QdrantTerminalError, qdrant_adapter
from dagster_qdrant.destination.writing.table_loader import TableLoader
from tests.conftest import Load
from tests.targets import Target


def films(rows: Any, disposition: str = "merge", key: Any = "id", **hints: Any) -> Any:
    key = None if disposition == "append" else key
    resource = dlt.resource(
        rows, name="films", write_disposition=disposition, primary_key=key, **hints
    )
    return qdrant_adapter(resource, embed="title")


MOON = {"id": 1, "title": "Moon"}
HER = {"id": 2, "title": "Her"}
ALIEN = {"id": 3, "title": "Alien"}


def _in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: str(sorted(row.items(), key=str)))


@pytest.fixture
def holds(qdrant_target: Target, dataset: str) -> Any:
    """Asserts that a table's collection has exactly some rows."""

    def holds(*rows: dict[str, Any], table: str = "films") -> None:
        assert _in_order(qdrant_target.rows(f"{dataset}_{table}")) == _in_order(list(rows))

    return holds


def refused(words: str) -> Any:
    return pytest.raises(PipelineStepFailed, match=f"(?s){words}")


# -- columns ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("disposition", ["append", "merge", "replace"])
def test_columns_may_come_and_go(load: Load, holds, disposition):
    before = {"id": 1, "title": "Moon", "year": 2009}
    after = {"id": 2, "title": "Her", "country": "US"}
    load(films([before], disposition))
    load(films([after], disposition))
    holds(*([after] if disposition == "replace" else [before, after]))


def test_a_column_may_be_renamed(load: Load, holds):
    load(films([{**MOON, "yr": 2009}, {**HER, "yr": 2013}]))
    load(films([{**MOON, "year": 2009}]))
    holds({**MOON, "year": 2009}, {**HER, "yr": 2013})


def test_a_value_of_another_type_goes_into_a_column_beside(load: Load, holds):
    load(films([{**MOON, "year": 2009}]))
    load(films([{**MOON, "year": "in 2009"}, {**HER, "year": 2013}]))
    holds({**MOON, "year__v_text": "in 2009"}, {**HER, "year": 2013})


def test_a_text_to_embed_that_goes_into_a_column_beside_is_embedded(
    load: Load, holds, qdrant_target, dataset, embedder
):
    load(films([{"id": 1, "title": 1984}]))
    load(films([{"id": 2, "title": "Brazil"}]))
    holds({"id": 1, "title": 1984}, {"id": 2, "title__v_text": "Brazil"})
    for point in qdrant_target.points(f"{dataset}_films", vectors=True):
        [vector] = point.vector.values()
        text = {1: "1984", 2: "Brazil"}[point.payload["id"]]
        assert vector == pytest.approx(list(embedder.embed([text])[0]), abs=1e-5)


# -- nested tables ---------------------------------------------------------------------------------


@pytest.mark.parametrize("disposition", ["append", "merge", "replace"])
def test_a_value_may_become_a_list(load: Load, holds, disposition):
    load(films([{**MOON, "tags": "sf"}, HER], disposition))
    load(films([{**MOON, "tags": ["sf", "space"]}], disposition))
    before = {
        "append": [{**MOON, "tags": "sf"}, HER, MOON],
        "merge": [MOON, HER],
        "replace": [MOON],
    }
    holds(*before[disposition])
    holds({"value": "sf"}, {"value": "space"}, table="films__tags")


@pytest.mark.parametrize("disposition", ["append", "merge", "replace"])
def test_a_list_may_become_a_value(load: Load, holds, disposition):
    load(films([{**MOON, "tags": ["sf", "space"]}, {**HER, "tags": ["love"]}], disposition))
    load(films([{**MOON, "tags": "sf"}], disposition))
    left = {
        "append": [{"value": "sf"}, {"value": "space"}, {"value": "love"}],
        "merge": [{"value": "love"}],
        "replace": [],
    }
    holds(*left[disposition], table="films__tags")
    after = {**MOON, "tags": "sf"}
    rows = {"append": [MOON, HER, after], "merge": [after, HER], "replace": [after]}
    holds(*rows[disposition])


# -- keys and write dispositions -------------------------------------------------------------------

TRANSITIONS = [
    ("append", "merge", "refused"),
    ("append", "replace", [HER, ALIEN]),
    ("merge", "append", [MOON, HER, HER, ALIEN]),
    ("merge", "replace", [HER, ALIEN]),
    ("replace", "append", [MOON, HER, HER, ALIEN]),
    ("replace", "merge", [MOON, HER, ALIEN]),
]


@pytest.mark.parametrize(("before", "after", "rows"), TRANSITIONS)
def test_another_write_disposition(load: Load, holds, before, after, rows):
    load(films([MOON, HER], before))
    if rows == "refused":
        with refused("`films` was loaded with the write disposition 'append'.*'replace'"):
            load(films([HER, ALIEN], after))
        rows = [MOON, HER]
    else:
        load(films([HER, ALIEN], after))
    holds(*rows)


def test_a_table_that_was_appended_to_is_merged_after_a_replace(load: Load, holds):
    load(films([MOON, HER], "append"), machine="one")
    with refused("was loaded with the write disposition 'append'"):
        load(films([HER, ALIEN], "merge"), machine="two")
    load(films([MOON, HER], "replace"), machine="three")
    load(films([HER, ALIEN], "merge"), machine="three")
    holds(MOON, HER, ALIEN)


@pytest.mark.parametrize("refresh", ["drop_resources", "drop_sources", "drop_data"])
def test_a_table_that_was_appended_to_is_merged_after_a_refresh(load: Load, holds, refresh):
    load(films([MOON, HER], "append"), machine="one")
    load(films([HER, ALIEN], "merge"), machine="two", refresh=refresh)
    holds(HER, ALIEN)
    load(films([HER], "merge"), machine="two")
    holds(HER, ALIEN)


def test_a_merged_table_that_was_appended_to_is_not_merged_again(load: Load, holds):
    load(films([MOON], "merge"))
    load(films([HER], "append"))
    with refused("was loaded with the write disposition 'append'"):
        load(films([HER], "merge"))
    holds(MOON, HER)


def test_rows_that_were_appended_are_not_merged_after_a_replace_that_failed(
    load: Load, holds, qdrant_target, monkeypatch
):
    load(films([MOON, HER], "append"))
    monkeypatch.setattr(TableLoader, "load", _fails)
    with pytest.raises(PipelineStepFailed):
        load(films([ALIEN], "replace"), machine="another")
    monkeypatch.undo()
    with refused("`films` holds rows that were loaded in another way, say {.*`id`"):
        load(films([HER], "merge"), machine="yet another")
    holds(MOON, HER)


def _fails(*_: Any) -> None:
    raise QdrantTerminalError("A load that fails.")


def test_rows_that_another_pipeline_appended_are_not_merged(load: Load, holds):
    load(films([MOON], "append"), name="another", machine="another")
    with refused("`films` holds rows that were loaded in another way, say {'id': 1, 'title'"):
        load(films([HER], "merge"))
    holds(MOON)


def test_rows_that_another_pipeline_merged_are_merged(load: Load, holds):
    load(films([MOON, HER]), name="another", machine="another")
    load(films([{**HER, "year": 2013}, ALIEN]))
    holds(MOON, {**HER, "year": 2013}, ALIEN)


def test_rows_that_share_a_key_after_a_replace_are_not_merged(load: Load, holds):
    load(films([MOON, {**HER, "id": 1}], "replace"))
    with refused("`films` holds rows that were loaded in another way"):
        load(films([MOON]), machine="another")
    holds(MOON, {**HER, "id": 1})


def test_rows_of_partitions_are_not_merged(load: Load, holds, resource, dataset):
    pipeline = dlt.pipeline(
        "films", destination=resource.destination(partition="2009"), dataset_name=dataset
    )
    pipeline.run(films([MOON], "replace"))
    with refused("`films` holds rows that were loaded in another way"):
        load(films([MOON]), machine="another")
    holds(MOON)


def test_nested_rows_of_a_replace_go_when_a_merge_brings_others(load: Load, holds):
    tagged = [{**MOON, "tags": ["a", "b"]}, {**HER, "tags": ["c"]}, {**ALIEN, "tags": ["d"]}]
    load(films(tagged, "replace"))
    load(films([{**MOON, "tags": ["new"]}, HER]))
    holds({"value": "new"}, {"value": "d"}, table="films__tags")


def test_nested_rows_go_with_a_key_that_came_as_another_type(load: Load, holds):
    """dlt makes one key of 1 and "1", and two ids for their rows."""
    load(films([{**MOON, "tags": ["a", "b"]}]))
    load(films([{**MOON, "id": "1", "tags": ["new"]}]))
    holds(MOON)
    holds({"value": "new"}, table="films__tags")


def test_a_table_that_never_had_a_row_may_be_merged_at_once(load: Load, holds):
    load(films([MOON], "append"))
    load(films([], "replace", key=None))
    load(films([HER], "append"), refresh="drop_data")
    holds(HER)


def test_another_primary_key_is_refused(load: Load, holds):
    rows = [{**MOON, "imdb": "tt1"}, {**HER, "imdb": "tt2"}]
    load(films(rows), machine="one")
    with refused("`films` was loaded with the key `id`.*now merged by `imdb`.*'replace'"):
        load(films(rows, key="imdb"), machine="two")
    holds(*rows)
    load(films(rows, "replace", key="imdb"), machine="three")
    load(films(rows[:1], key="imdb"), machine="three")
    holds(*rows)


def test_a_further_column_in_the_primary_key_is_refused(load: Load, holds):
    rows = [{**MOON, "lang": "en"}, {**MOON, "lang": "de"}]
    load(films(rows[:1]))
    with refused("was loaded with the key `id`.*now merged by `id`, `lang`"):
        load(films(rows, key=["id", "lang"]))
    holds(*rows[:1])


def test_the_order_of_a_keys_columns_does_not_matter(load: Load, holds):
    load(films([{**MOON, "lang": "en"}], key=["id", "lang"]))
    load(films([{"lang": "en", **MOON}], key=["lang", "id"]), name="other", machine="other")
    holds({**MOON, "lang": "en"})


def test_a_primary_key_that_is_gone_is_refused(load: Load, holds):
    load(films([MOON]), machine="one")
    with refused("`films` has the write disposition 'merge' but no key"):
        load(films([HER], key=None), machine="two", name="other")
    holds(MOON)


def test_a_key_of_another_type_is_refused(load: Load, holds):
    load(films([MOON]))
    with refused("no value in its key"):
        load(films([{**HER, "id": "two"}]))
    holds(MOON)


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("naming", ["direct", "sql_ci_v1"])
def test_another_naming_convention_is_refused_by_dlt(load: Load, holds, monkeypatch, naming):
    load(films([{**MOON, "theYear": 2009}]), machine="one")
    monkeypatch.setenv("SCHEMA__NAMING", naming)
    dlt.current.run_context().reload()
    for machine in ("one", "two"):
        with refused("TableIdentifiersFrozen"):
            load(films([HER]), machine=machine)
    holds({**MOON, "the_year": 2009})


@pytest.mark.parametrize("naming", ["direct", "sql_ci_v1"])
def test_any_naming_convention_will_do(load: Load, qdrant_target, dataset, monkeypatch, naming):
    monkeypatch.setenv("SCHEMA__NAMING", naming)
    dlt.current.run_context().reload()
    for machine in ("one", "two"):
        load(qdrant_adapter(since(), embed="title"), machine=machine)
        assert _in_order(qdrant_target.rows(f"{dataset}_films")) == _in_order([MOON, HER, ALIEN])


def test_another_separator_begins_a_store_of_its_own(
    load: Load, holds, qdrant_target, model, dataset, tmp_path
):
    load(films([MOON]))
    other = QdrantResource(**qdrant_target.options, **model, dataset_separator="-")
    for _ in range(2):
        pipeline = dlt.pipeline(
            "films",
            destination=other.destination(),
            dataset_name=dataset,
            pipelines_dir=str(tmp_path / "here"),
        )
        pipeline.run(films(since()))
    holds(MOON)
    assert _in_order(qdrant_target.rows(f"{dataset}-films")) == _in_order([MOON, HER, ALIEN])


def test_another_dataset_name_begins_a_store_of_its_own(load: Load, holds, qdrant_target, dataset):
    load(films(since()))
    for _ in range(2):
        load(films(since()), dataset_name=f"{dataset}_renamed")
    holds(MOON, HER, ALIEN)
    renamed = qdrant_target.rows(f"{dataset}_renamed_films")
    assert _in_order(renamed) == _in_order([MOON, HER, ALIEN])


def since() -> Any:
    """Rows that come once only, as long as the state stays."""

    @dlt.resource(name="films", write_disposition="merge", primary_key="id")
    def films(after=dlt.sources.incremental("id", initial_value=0)) -> Iterator[Any]:
        yield [row for row in (MOON, HER, ALIEN) if row["id"] > after.last_value]

    return films


# -- what dlt's own destination loaded -------------------------------------------------------------


def written_by_dlt(
    qdrant_target: Target,
    dataset: str,
    resource: Any,
    rows: list[dict[str, Any]],
    state: dict[str, Any] | None = None,
) -> Schema:
    """Write rows and dlt's tables as dlt's own Qdrant destination does."""
    from qdrant_client import models

    now = str(datetime.now(timezone.utc).isoformat())
    pipeline = dlt.pipeline(
        "films", destination="dummy", dataset_name=dataset, pipelines_dir="of_dlt"
    )
    pipeline.extract(resource)
    pipeline.normalize()
    schema = pipeline.default_schema
    [*keys] = [
        name
        for name, column in schema.get_table_columns("films").items()
        if column.get("primary_key")
    ]
    load_id = "1700000000.5"
    vectors = {
        "fast-all-minilm-l6-v2": models.VectorParams(size=384, distance=models.Distance.COSINE)
    }
    tables: dict[str, list[tuple[str, Any, Any]]] = {
        "films": [
            (
                str(
                    uuid.uuid5(
                        uuid.NAMESPACE_DNS,
                        f"{dataset}_films" + "_".join(str(row[key]) for key in keys),
                    )
                    if keys
                    else uuid.uuid4()
                ),
                {"fast-all-minilm-l6-v2": [0.1] * 384},
                {**row, "_dlt_id": uuid.uuid4().hex, "_dlt_load_id": load_id},
            )
            for row in rows
        ],
        "_dlt_loads": [
            (
                str(uuid.uuid4()),
                {},
                {
                    "load_id": load_id,
                    "schema_name": schema.name,
                    "status": 0,
                    "inserted_at": now,
                    "schema_version_hash": schema.version_hash,
                },
            )
        ],
        "_dlt_version": [
            (
                str(uuid.uuid4()),
                {},
                {
                    "version": schema.version,
                    "engine_version": schema.ENGINE_VERSION,
                    "inserted_at": now,
                    "schema_name": schema.name,
                    "version_hash": schema.stored_version_hash,
                    "schema": json.dumps(schema.to_dict()),
                },
            )
        ],
        "_dlt_pipeline_state": [],
    }
    if state is not None:
        from dlt.pipeline.state_sync import state_doc

        doc = state_doc({**pipeline.state, **state})
        doc["created_at"] = now
        tables["_dlt_pipeline_state"] = [
            (str(uuid.uuid4()), {}, {**doc, "_dlt_load_id": load_id, "_dlt_id": uuid.uuid4().hex})
        ]
    with QdrantResource(**qdrant_target.options).get_client() as client:
        client.create_collection(dataset, vectors_config=vectors)  # its mark
        for table, points in tables.items():
            client.create_collection(f"{dataset}_{table}", vectors_config=vectors)
            for table_name, column in (
                ("_dlt_version", "inserted_at"),
                ("_dlt_pipeline_state", "created_at"),
            ):
                if table == table_name and qdrant_target.kind == "rest":
                    client.create_payload_index(
                        f"{dataset}_{table}", column, field_schema="datetime"
                    )
            if points:
                client.upsert(
                    f"{dataset}_{table}",
                    points=[
                        models.PointStruct(id=number, vector=vector, payload=payload)
                        for number, vector, payload in points
                    ],
                )
    pipeline.deactivate()
    return schema


def test_rows_that_dlts_destination_merged_are_updated(
    load: Load, holds, qdrant_target, dataset, embedder
):
    written_by_dlt(qdrant_target, dataset, films([MOON, HER]), [MOON, HER])
    load(films([{**HER, "year": 2013}, ALIEN]), machine="new")
    holds(MOON, {**HER, "year": 2013}, ALIEN)
    for point in qdrant_target.points(f"{dataset}_films", vectors=True):
        if point.payload["id"] != 1:
            [vector] = point.vector.values()
            wanted = embedder.embed([point.payload["title"]])[0]
            assert vector == pytest.approx(list(wanted), abs=1e-5)


def test_rows_that_dlts_destination_appended_stay(load: Load, holds, qdrant_target, dataset):
    written_by_dlt(qdrant_target, dataset, films([MOON, HER], "append"), [MOON, HER])
    load(films([HER], "append"), machine="new")
    holds(MOON, HER, HER)


def test_rows_that_dlts_destination_wrote_go_with_a_replace(
    load: Load, holds, qdrant_target, dataset
):
    written_by_dlt(qdrant_target, dataset, films([MOON, HER], "replace"), [MOON, HER])
    load(films([HER, ALIEN], "replace"), machine="new")
    holds(HER, ALIEN)


def test_rows_that_dlts_destination_appended_are_not_merged(
    load: Load, holds, qdrant_target, dataset
):
    written_by_dlt(qdrant_target, dataset, films([MOON, HER], "append"), [MOON, HER])
    with refused("was loaded with the write disposition 'append'"):
        load(films([HER], "merge"), machine="new")
    holds(MOON, HER)


def test_rows_that_dlts_destination_merged_by_several_columns_are_not_doubled(
    load: Load, holds, qdrant_target, dataset
):
    key = ["id", "title"]
    written_by_dlt(qdrant_target, dataset, films([MOON, HER], key=key), [MOON, HER])
    with refused("`films` holds rows that were loaded in another way.*`id`, `title`.*'replace'"):
        load(films([HER], key=key), machine="new")
    holds(MOON, HER)
    load(films([MOON, HER], "replace", key=key), machine="newer")
    load(films([HER, ALIEN], key=key), machine="newer")
    holds(MOON, HER, ALIEN)


def test_state_and_schema_of_dlts_destination_are_gone_on_with(
    load: Load, holds, qdrant_target, dataset
):
    source = qdrant_adapter(since(), embed="title")
    state = {
        "sources": {
            "films": {
                "resources": {
                    "films": {
                        "incremental": {
                            "id": {"initial_value": 0, "last_value": 2, "unique_hashes": []}
                        }
                    }
                }
            }
        },
        "_state_version": 7,
    }
    written_by_dlt(qdrant_target, dataset, source, [MOON, HER], state)
    pipeline = load(qdrant_adapter(since(), embed="title"), machine="new")
    holds(MOON, HER, ALIEN)
    assert pipeline.state["_state_version"] > 7
    pipeline = load(qdrant_adapter(since(), embed="title"), machine="newer")
    holds(MOON, HER, ALIEN)


# -- dropping --------------------------------------------------------------------------------------


@pytest.fixture
def neighbours(load: Load, qdrant_target: Target, dataset: str) -> Iterator[None]:
    """Collections with names much alike, which stay as they are."""
    others = [
        (f"{dataset}_archive", "films"),
        (f"{dataset}_films", "archive"),  # `<dataset>_films_archive`
        (f"{dataset}x", "films"),
        (dataset[:-1], "films"),
    ]
    for name, table in others:
        load(
            dlt.resource([MOON], name=table), dataset_name=name, name=f"of_{name}", machine="others"
        )
    names = {f"{name}_{table}" for name, of in others for table in (of, "_dlt_version")}
    yield
    assert names <= qdrant_target.collections()
    for name, table in others:
        assert qdrant_target.rows(f"{name}_{table}") == [MOON]
    qdrant_target.clean_up(dataset[:-1])


@pytest.mark.usefixtures("neighbours")
def test_dropping_the_storage_leaves_neighbours_alone(load: Load, qdrant_target, dataset):
    pipeline = load(films([{**MOON, "tags": ["sf"]}]))
    before = qdrant_target.collections()
    with pipeline.destination_client() as client:
        client.drop_storage()
        client.drop_storage()
    assert before - qdrant_target.collections() == {
        f"{dataset}_{table}"
        for table in ("films", "films__tags", "_dlt_version", "_dlt_loads", "_dlt_pipeline_state")
    }
    load(films([HER]), machine="here")
    assert qdrant_target.rows(f"{dataset}_films") == [HER]


def test_a_dataset_that_was_never_loaded_takes_nobodys_collection_along(
    load: Load, qdrant_target, dataset, resource, tmp_path
):
    load(dlt.resource([MOON], name="b_c"))  # the collection of table `c` in dataset `..._b`, too
    pipeline = dlt.pipeline(
        "other",
        destination=resource.destination(),
        dataset_name=f"{dataset}_b",
        pipelines_dir=str(tmp_path / "other"),
    )
    pipeline.extract(dlt.resource([HER], name="c"))
    pipeline.normalize()
    with refused("holds table `b_c` of dataset"):
        pipeline.load()
    with pipeline.destination_client() as client:
        client.initialize_storage(truncate_tables=["c"])
        client.drop_tables("c")
        client.drop_storage()
    pipeline.drop()
    assert qdrant_target.rows(f"{dataset}_b_c") == [MOON]


def test_rows_that_dlts_destination_merged_by_decimals_with_zeros_are_not_doubled(
    load: Load, qdrant_target, dataset
):
    rows = [{"id": Decimal("1.50"), "title": "Moon"}]
    written_by_dlt(qdrant_target, dataset, films(rows), [{"id": "1.50", "title": "Moon"}])
    with refused("holds rows that were loaded in another way|was loaded with"):
        load(films(rows), machine="new")
    assert len(qdrant_target.rows(f"{dataset}_films")) == 1


def test_rows_that_dlts_destination_merged_by_several_columns_go_with_a_refresh(
    load: Load, holds, qdrant_target, dataset
):
    key = ["id", "title"]
    written_by_dlt(qdrant_target, dataset, films([MOON, HER], key=key), [MOON, HER], {})
    load(films([HER], key=key), machine="new", refresh="drop_resources")
    load(films([HER, ALIEN], key=key), machine="new")
    holds(HER, ALIEN)


@pytest.mark.usefixtures("neighbours")
@pytest.mark.parametrize("refresh", ["drop_sources", "drop_resources", "drop_data"])
def test_a_refresh_drops_its_own_tables_and_loads_anew(
    load: Load, holds, qdrant_target, dataset, refresh
):
    @dlt.source(name="films")
    def source(*rows: Any) -> Any:
        yield films(list(rows))
        yield dlt.resource([{"name": "Scott"}], name="people")

    load(source(MOON, HER))
    load(source(ALIEN).with_resources("films"), refresh=refresh)
    holds(ALIEN)
    people = [] if refresh == "drop_sources" else [{"name": "Scott"}]
    if f"{dataset}_people" in qdrant_target.collections():
        holds(*people, table="people")
    else:
        assert refresh == "drop_sources"
    load(source(MOON).with_resources("films"), machine="another")
    holds(ALIEN, MOON)


def test_dropping_a_pipeline_loses_nothing_of_the_store(load: Load, holds):
    pipeline = load(qdrant_adapter(since(), embed="title"))
    pipeline.drop()
    load(qdrant_adapter(since(), embed="title"))
    holds(MOON, HER, ALIEN)
