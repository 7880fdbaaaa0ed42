"""Bad input gets one message that says what, where and what to do, and loses nothing."""

import time

import dlt
import pytest
from dlt.pipeline.exceptions import PipelineStepFailed

from dagster_qdrant import QdrantResource, qdrant_adapter
from tests.conftest import Load
from tests.targets import Target

pytestmark = pytest.mark.in_memory


def films(rows, embed="title", **hints):
    return qdrant_adapter(dlt.resource(rows, name="films", **hints), embed=embed)


def refused(message: str):
    return pytest.raises(PipelineStepFailed, match=f"(?s){message}")


def test_an_unknown_model_is_named_with_the_ones_it_resembles(
    qdrant_target: Target, tmp_path, dataset
):
    resource = QdrantResource(**qdrant_target.options, model="BAAI/bge-smal-en")
    pipeline = dlt.pipeline(
        "films",
        destination=resource.destination(),
        dataset_name=dataset,
        pipelines_dir=str(tmp_path),
    )
    start = time.monotonic()
    with refused("'BAAI/bge-smal-en', which fastembed does not know.*BAAI/bge-small-en"):
        pipeline.run(films([{"title": "Moon"}]))
    assert time.monotonic() - start < 20
    assert f"{dataset}_films" not in qdrant_target.collections()


def test_rows_wait_until_the_mistake_is_mended(qdrant_target: Target, model, tmp_path, dataset):
    def pipeline(**options):
        return dlt.pipeline(
            "films",
            destination=QdrantResource(**qdrant_target.options, **options).destination(),
            dataset_name=dataset,
            pipelines_dir=str(tmp_path),
        )

    with refused("does not know"):
        pipeline(model="no/such-model").run(films([{"title": "Moon"}]))
    pipeline(**model).run()  # dlt loads what is pending
    assert qdrant_target.rows(f"{dataset}_films") == [{"title": "Moon"}]


def test_an_unknown_column_to_embed_is_named_with_those_there_are(load: Load):
    with refused("`films` is to embed `titel`.*It has `title`, `year`"):
        load(films([{"title": "Moon", "year": 2009}], embed="titel"))


def test_a_column_that_is_empty_so_far_can_be_declared(load: Load, qdrant_target: Target, dataset):
    load(films([{"id": 1}], columns={"title": {"data_type": "text"}}))
    [point] = qdrant_target.points(f"{dataset}_films", vectors=True)
    assert not point.vector


def test_rows_whose_text_is_missing_null_or_blank_are_loaded_without_a_vector(
    load: Load, qdrant_target: Target, dataset
):
    rows = [
        {"id": 1, "title": "Moon"},
        {"id": 2, "title": None},
        {"id": 3},
        {"id": 4, "title": "  "},
        {"id": 5, "title": ""},
    ]
    load(films(rows))
    points = qdrant_target.points(f"{dataset}_films", vectors=True)
    assert {point.payload["id"]: bool(point.vector) for point in points} == {
        1: True,
        2: False,
        3: False,
        4: False,
        5: False,
    }


@pytest.mark.parametrize(("value", "kind"), [(b"\x00\x01", "bytes"), ({"a": [1]}, "nested data")])
def test_columns_without_a_text_are_refused(load: Load, value, kind):
    with refused(f"{kind} and not text in `title`.*add_map"):
        load(films([{"title": value}], max_table_nesting=0))


def test_a_list_to_embed_is_explained(load: Load):
    with refused("`tags`.*A list becomes a table of its own"):
        load(films([{"title": "Moon", "tags": ["a"]}], embed="tags"))


def test_numbers_booleans_and_dates_are_embedded_as_their_text(
    load: Load, qdrant_target: Target, dataset, embedder
):
    from datetime import date

    load(
        films(
            [{"title": "Moon", "year": 2009, "seen": date(2020, 1, 2)}], ["title", "year", "seen"]
        )
    )
    [point] = qdrant_target.points(f"{dataset}_films", vectors=True)
    [vector] = point.vector.values()
    assert vector == pytest.approx(list(embedder.embed(["Moon\n2009\n2020-01-02"])[0]), abs=1e-5)


def test_a_null_key_is_refused_with_the_place_of_its_row(
    load: Load, qdrant_target: Target, dataset
):
    rows = [{"id": 1, "title": "Moon"}, {"id": None, "title": "Her"}]
    with refused("Row 2 of resource `films` has no value in its key `id`.*Her"):
        load(films(rows, write_disposition="merge", primary_key="id"))


def test_a_null_key_is_refused_in_the_destination_too(load: Load, qdrant_target: Target, dataset):
    rows = [{"id": 1, "title": "Moon"}, {"id": None, "title": "Her"}]
    resource = dlt.resource(
        rows,
        name="films",
        write_disposition="merge",
        primary_key="id",
        columns={"id": {"nullable": True}},
    )
    with refused("Row 2 of table `films` has no value in its key column `id`.*Her"):
        load(resource)


def test_another_model_that_cannot_be_had_leaves_the_former_vectors(
    load: Load, qdrant_target, dataset, tmp_path
):
    load(films([{"title": "Moon"}]))
    options = {"model": "BAAI/bge-small-en", "cache_dir": str(tmp_path), "local_files_only": True}
    other = QdrantResource(**qdrant_target.options, **options)
    pipeline = dlt.pipeline("films2", destination=other.destination(), dataset_name=dataset)
    with refused("`films`: The model 'BAAI/bge-small-en' could not be loaded from"):
        pipeline.run(films([{"title": "Her"}]))
    assert qdrant_target.rows(f"{dataset}_films") == [{"title": "Moon"}]


def test_a_collection_of_another_program_is_refused(load: Load, resource, qdrant_target, dataset):
    from qdrant_client import models

    with resource.get_client() as client:
        params = models.VectorParams(size=4, distance=models.Distance.DOT)
        client.create_collection(f"{dataset}_films", vectors_config={"mine": params})
    with refused("was not made by this package and has `mine` of size 4.*another dataset"):
        load(films([{"title": "Her"}]))
    assert qdrant_target.rows(f"{dataset}_films") == []


def test_no_server_at_the_address_is_said_within_seconds(tmp_path):
    resource = QdrantResource(location="http://127.0.0.1:9", upload_max_retries=1)
    pipeline = dlt.pipeline(
        "films", destination=resource.destination(), pipelines_dir=str(tmp_path)
    )
    start = time.monotonic()
    with refused("No Qdrant could be reached at http://127.0.0.1:9.*Start the server, or set"):
        pipeline.run(films([{"title": "Moon"}]))
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("source-filter", "sets the merge option `source_filter`"),
        ("destination-scope", "`destination_scope`.*delete the rows with `delete_rows`"),
    ],
)
def test_an_extra_merge_option_is_refused(load: Load, option, said):
    hints = {"write_disposition": "merge", "primary_key": "id"}
    resource = films([{"id": 1, "title": "Moon"}], **hints)
    resource.apply_hints(additional_table_hints={f"x-merge-{option}": "id > 1"})
    with refused(said):
        load(resource)
