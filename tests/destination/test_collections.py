"""Which collections a load makes, what they are called, and what dropping takes away."""

import dlt
import pytest
from dlt.destinations.adapters import qdrant_adapter as dlt_qdrant_adapter
from dlt.pipeline.exceptions import PipelineStepFailed

from dagster_qdrant import QdrantResource, qdrant_adapter
from dagster_qdrant.qdrant.collections import vector_params
from tests.conftest import Load
from tests.targets import Target

FILMS = [{"title": "Moon", "year": 2009, "tags": [{"name": "space"}, {"name": "clones"}]}]


@pytest.mark.every_qdrant
def test_the_tutorial_as_a_user_types_it(resource: QdrantResource, qdrant_target: Target, tmp_path):
    movies = [{"title": "Blade Runner", "year": 1982}, {"title": "Her", "year": 2013}]
    pipeline = dlt.pipeline(
        pipeline_name="movies",
        destination=resource.destination(),
        dataset_name="MoviesDataset",
        pipelines_dir=str(tmp_path),
    )
    pipeline.run(qdrant_adapter(movies, embed="title"), table_name="movies")
    assert sorted(row["title"] for row in qdrant_target.rows("movies_dataset_movies")) == [
        "Blade Runner",
        "Her",
    ]
    qdrant_target.clean_up("movies_dataset")


@pytest.mark.parametrize("adapter", [qdrant_adapter, dlt_qdrant_adapter])
def test_both_adapters_load_alike(load: Load, qdrant_target: Target, dataset, adapter):
    load(adapter(dlt.resource(FILMS, name="films"), embed=["title", "year"]))
    [point] = qdrant_target.points(f"{dataset}_films", vectors=True)
    assert list(point.vector) == ["fast-all-minilm-l6-v2"]
    assert len(point.vector["fast-all-minilm-l6-v2"]) == 384


def test_plain_data_lands_in_a_collection_named_content(load: Load, qdrant_target: Target, dataset):
    load(qdrant_adapter([{"title": "Moon"}], embed="title"))
    assert qdrant_target.rows(f"{dataset}_content") == [{"title": "Moon"}]


@pytest.mark.every_qdrant
def test_lists_become_collections_of_their_own(load: Load, qdrant_target: Target, dataset):
    load(qdrant_adapter(dlt.resource(FILMS, name="films"), embed="title"))
    tags = qdrant_target.points(f"{dataset}_films__tags")
    assert sorted(point.payload["name"] for point in tags) == ["clones", "space"]
    [film] = qdrant_target.points(f"{dataset}_films")
    assert {point.payload["_dlt_parent_id"] for point in tags} == {film.payload["_dlt_id"]}


@pytest.mark.every_qdrant
def test_a_resource_that_is_not_wrapped_gets_a_collection_without_vectors(
    load: Load, qdrant_target: Target, dataset
):
    load(dlt.resource(FILMS, name="films"))
    with QdrantResource(**qdrant_target.options).get_client() as client:
        assert vector_params(client.get_collection(f"{dataset}_films")) == {}
    assert qdrant_target.rows(f"{dataset}_films") == [{"title": "Moon", "year": 2009}]


def test_names_are_normalized_by_dlt(load: Load, qdrant_target: Target, dataset):
    load(qdrant_adapter(dlt.resource([{"The Title": "Moon"}], name="My Films"), embed="The Title"))
    [point] = qdrant_target.points(f"{dataset}_my_films", vectors=True)
    assert point.payload["the_title"] == "Moon"
    assert point.vector


def test_the_separator_can_be_chosen(qdrant_target: Target, model, dataset, tmp_path):
    resource = QdrantResource(**qdrant_target.options, **model, dataset_separator="-")
    dlt.pipeline(
        "films",
        destination=resource.destination(),
        dataset_name=dataset,
        pipelines_dir=str(tmp_path),
    ).run(dlt.resource(FILMS, name="films"))
    assert f"{dataset}-films" in qdrant_target.collections()


def test_two_datasets_whose_names_meet_are_told_apart(load: Load, dataset):
    load(dlt.resource(FILMS, name="b_c"), dataset_name=f"{dataset}_a")
    with pytest.raises(PipelineStepFailed, match="holds table `b_c` of dataset"):
        load(
            dlt.resource(FILMS, name="c"),
            dataset_name=f"{dataset}_a_b",
            name="other",
        )


@pytest.mark.every_qdrant
def test_dropping_a_dataset_leaves_others_with_similar_names(
    load: Load, qdrant_target: Target, dataset
):
    pipeline = load(dlt.resource(FILMS, name="films"))
    load(dlt.resource(FILMS, name="films"), dataset_name=f"{dataset}_archive", name="archive")
    with pipeline.destination_client() as client:
        client.drop_storage()
    left = {name for name in qdrant_target.collections() if name.startswith(dataset)}
    assert left == {
        f"{dataset}_archive_{table}"
        for table in (
            "films",
            "films__tags",
            "_dlt_version",
            "_dlt_loads",
            "_dlt_pipeline_state",
        )
    }


@pytest.mark.parametrize("refresh", ["drop_sources", "drop_resources", "drop_data"])
def test_refresh_begins_anew(load: Load, qdrant_target: Target, dataset, refresh):
    load(dlt.resource([{"title": "Moon"}], name="films"))
    load(dlt.resource([{"title": "Her"}], name="films"), refresh=refresh)
    assert qdrant_target.rows(f"{dataset}_films") == [{"title": "Her"}]


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("steps", [["extract"], ["extract", "normalize"]])
def test_a_schema_that_is_synchronized_first_leaves_collections_that_a_load_can_use(
    resource: QdrantResource, qdrant_target: Target, dataset, tmp_path, steps, declared
):
    pipeline = dlt.pipeline(
        "films",
        destination=resource.destination(),
        dataset_name=dataset,
        pipelines_dir=str(tmp_path),
    )
    columns = {"title": {"data_type": "text"}} if declared else None
    films = qdrant_adapter(dlt.resource(FILMS, name="films", columns=columns), embed="title")
    for step in steps:
        getattr(pipeline, step)(*([films] if step == "extract" else []))
    pipeline.sync_schema()
    with resource.get_client() as client:
        assert vector_params(client.get_collection(f"{dataset}_films"))
    pipeline.run()
    with resource.get_client() as client:
        assert client.get_aliases().aliases == []  # nothing had to be made anew
    assert len(qdrant_target.rows(f"{dataset}_films")) == 1
