"""Text -> points, with the model that the collection was embedded with."""

import dlt
import pytest

from dagster_qdrant import QdrantResource, QdrantTerminalError, qdrant_adapter
from dagster_qdrant.errors import QdrantConfigurationError
from dagster_qdrant.qdrant.collections import Collections
from dagster_qdrant.search import QdrantSearch
from tests.conftest import Load
from tests.targets import Target

FILMS = [
    {"title": "a hunter of androids in a rainy city", "year": 1982},
    {"title": "a baker who falls in love in Paris", "year": 2001},
    {"title": "a crew that mines the moon", "year": 2009},
]


@pytest.fixture
def films(load: Load) -> None:
    load(qdrant_adapter(dlt.resource(FILMS, name="films"), embed="title"))


def titles(hits) -> list[str]:
    return [hit.payload["title"] for hit in hits]


@pytest.mark.every_qdrant
@pytest.mark.usefixtures("films")
def test_the_nearest_in_meaning_comes_first(resource: QdrantResource, dataset):
    hits = resource.search(dataset, "films", "chasing robots through the streets")
    assert titles(hits)[0] == FILMS[0]["title"]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert len(hits) == 3


@pytest.mark.every_qdrant
@pytest.mark.usefixtures("films")
def test_the_number_and_the_kind_of_answers_can_be_limited(resource: QdrantResource, dataset):
    from qdrant_client import models

    assert len(resource.search(dataset, "films", "a film", limit=2)) == 2
    after_2000 = models.Filter(
        must=[models.FieldCondition(key="year", range=models.Range(gt=2005))]
    )
    hits = resource.search(dataset, "films", "androids", query_filter=after_2000)
    assert titles(hits) == [FILMS[2]["title"]]


@pytest.mark.usefixtures("films")
def test_names_are_normalized_as_dlt_does(resource: QdrantResource, dataset):
    assert resource.search(dataset, "Films", "androids", limit=1)


def nested(name: str):
    """A table with texts of its own, under a name with two underscores."""
    rows = [{"id": 1, "text": "a hunter of androids"}, {"id": 2, "text": "a baker in Paris"}]
    return qdrant_adapter(dlt.resource(rows, name=name), embed="text")


@pytest.mark.parametrize("table", ["docs__chunks", "Docs__Chunks"])
def test_a_name_with_two_underscores_stays_in_parts(
    load: Load, resource: QdrantResource, dataset, table
):
    load(nested("docs__chunks"))
    assert resource.search(dataset, table, "robots", 1)[0].payload["id"] == 1


@pytest.mark.parametrize("convention", ["direct", "sql_cs_v1", "snake_case"])
@pytest.mark.parametrize("table", ["Shop Orders", "ShopOrders"])
def test_the_naming_convention_of_the_source_is_followed(
    load: Load, resource: QdrantResource, dataset, convention, table
):
    schema = dlt.Schema("shop", normalizers={"names": convention})
    load(dlt.source(lambda: nested(table), schema=schema)(), dataset_name=f"{dataset} Of Mine")
    assert resource.search(f"{dataset} Of Mine", table, "robots", 1)[0].payload["id"] == 1


@pytest.mark.every_qdrant
@pytest.mark.parametrize("table", ["films", "Films"])
def test_a_dataset_name_that_is_left_as_typed_is_found(
    load: Load, resource: QdrantResource, dataset, table, monkeypatch
):
    monkeypatch.setenv("DESTINATION__ENABLE_DATASET_NAME_NORMALIZATION", "false")
    load(nested("films"), dataset_name=f"{dataset} Of Mine")
    assert resource.search(f"{dataset} Of Mine", table, "robots", 1)[0].payload["id"] == 1


@pytest.mark.every_qdrant
@pytest.mark.usefixtures("films")
def test_the_usual_search_asks_for_one_collection_only(
    resource: QdrantResource, dataset, monkeypatch
):
    asked = []
    describe = Collections.describe

    def described(collections, collection):
        asked.append(collection)
        return describe(collections, collection)

    monkeypatch.setattr(Collections, "describe", described)
    resource.search(dataset, "films", "androids")
    assert asked == [f"{dataset}_films"]


@pytest.mark.every_qdrant
@pytest.mark.parametrize("table", ["no/such:table?", "nothing", "No Such__Table"])
def test_a_table_that_is_not_there_is_said_to_be(load: Load, resource, dataset, table):
    load(nested("films"))
    with pytest.raises(QdrantTerminalError, match=f"no collection `{dataset}_no"):
        resource.search(dataset, table, "robots")


@pytest.mark.usefixtures("films")
def test_the_collections_model_is_used_whatever_is_configured(
    resource: QdrantResource, qdrant_target: Target, dataset
):
    other = QdrantResource(
        **qdrant_target.options, model="BAAI/bge-small-en", local_files_only=True
    )
    with pytest.raises(QdrantTerminalError, match="all-MiniLM-L6-v2' could not be loaded"):
        other.search(dataset, "films", "androids")


def test_questions_get_the_prefix_that_the_collection_was_loaded_with_unless_one_is_set(
    load: Load, qdrant_target: Target, model, dataset, embedder
):
    def searching(**options) -> QdrantResource:
        return QdrantResource(**qdrant_target.options, **model, **options)

    def score(resource: QdrantResource) -> float:
        return resource.search(dataset, "films", "androids", limit=1)[0].score

    def expected(prefix: str) -> float:
        passage = embedder.embed([f"passage: {FILMS[0]['title']}"])[0]
        return pytest.approx(float(passage @ embedder.embed_query(f"{prefix}androids")), abs=1e-4)

    films = qdrant_adapter(dlt.resource(FILMS[:1], name="films"), embed="title")
    loading = searching(query_prefix="question: ", passage_prefix="passage: ")
    pipeline = dlt.pipeline("p", destination=loading.destination(), dataset_name=dataset)
    pipeline.run(films)
    assert score(searching()) == expected("question: ")
    assert score(searching(query_prefix="other: ")) == expected("other: ")
    assert score(searching(query_prefix="")) == expected("")


def test_collections_without_prefixes_in_their_metadata_are_searched_as_they_were_loaded():
    from dagster_qdrant.destination.search_ways import _query_prefix

    bge, e5 = "BAAI/bge-small-en", "intfloat/multilingual-e5-large"
    assert _query_prefix({}, bge).startswith("Represent this sentence")
    assert _query_prefix({}, e5) == ""  # its passages have no prefix either
    assert _query_prefix({"query_prefix": ""}, bge) == ""


def test_the_collections_model_is_used_though_another_has_the_same_short_name(
    load: Load, qdrant_target: Target, model, dataset
):
    from tests.embedding.test_embedder import register

    theirs = register("acme/all-MiniLM-L6-v2")
    load(qdrant_adapter(dlt.resource(FILMS, name="films"), embed="title"))
    same_name = QdrantResource(**qdrant_target.options, **model | {"model": theirs})
    with pytest.raises(QdrantTerminalError) as caught:
        same_name.search(dataset, "films", "androids")
    assert "'sentence-transformers/all-MiniLM-L6-v2' could not be" in str(caught.value)
    assert f"(`model_path` holds {theirs!r})" in str(caught.value)
    # And the other way round: theirs is the collection's, ours is configured.
    films = qdrant_adapter(dlt.resource(FILMS, name="theirs"), embed="title")
    pipeline = dlt.pipeline("p", destination=same_name.destination(), dataset_name=dataset)
    pipeline.run(films)
    assert same_name.search(dataset, "theirs", "androids", limit=1)
    ours = QdrantResource(**qdrant_target.options, **model)
    with pytest.raises(QdrantTerminalError, match=f"'{theirs}' could not be"):
        ours.search(dataset, "theirs", "androids")


def test_a_model_of_ones_own_has_to_be_registered_where_one_searches(
    qdrant_target: Target, model, dataset, monkeypatch
):
    from fastembed.text.custom_text_embedding import CustomTextEmbedding

    from dagster_qdrant.embedding import options
    from tests.embedding.test_embedder import register

    theirs = register("acme/searched-elsewhere")
    own = QdrantResource(**qdrant_target.options, **model | {"model": theirs})
    pipeline = dlt.pipeline("p", destination=own.destination(), dataset_name=dataset)
    pipeline.run(qdrant_adapter(dlt.resource(FILMS, name="films"), embed="title"))
    assert own.search(dataset, "films", "androids", limit=1)
    monkeypatch.setattr(CustomTextEmbedding, "SUPPORTED_MODELS", [])
    options.describe.cache_clear()
    with pytest.raises(QdrantTerminalError, match="registered in each process"):
        QdrantResource(**qdrant_target.options, **model).search(dataset, "films", "androids")


@pytest.mark.every_qdrant
def test_without_a_dataset_the_table_names_the_collection(
    resource: QdrantResource, load: Load, qdrant_target: Target, dataset
):
    qdrant_target.need_root()
    load(qdrant_adapter(dlt.resource(FILMS, name=dataset), embed="title"), dataset_name=None)
    assert resource.search(None, dataset, "androids", limit=1)


def test_an_unknown_argument_is_named_with_the_one_that_it_resembles():
    resource = QdrantResource(location=":memory:")
    with pytest.raises(QdrantConfigurationError, match="no `limits`. Did you mean `limit`"):
        resource.search("movies", "films", "robots", limits=3)


@pytest.mark.every_qdrant
def test_mistakes_are_explained(resource: QdrantResource, load: Load, dataset):
    load(dlt.resource(FILMS, name="plain"))
    with pytest.raises(
        QdrantTerminalError, match=f"no collection `{dataset}_films`.*It has .*`{dataset}_plain`"
    ):
        resource.search(dataset, "films", "androids")
    with pytest.raises(QdrantTerminalError, match="has no vectors.*qdrant_adapter"):
        resource.search(dataset, "plain", "androids")
    with pytest.raises(QdrantTerminalError, match="no text to search for"):
        resource.search(dataset, "plain", "  ")
    for arguments, said in (
        ((dataset, "", "androids"), "`table` is ''; it must be the name of a table"),
        ((5, "plain", "androids"), "`dataset_name` is 5"),
        ((dataset, "plain", None), "`text` is None"),
        ((dataset, "plain", ["androids", 1]), "`text` is 1"),
        ((dataset, "plain", "androids", "5"), "`limit` is '5'"),
        ((dataset, "plain", "androids", 5, {"id": 1}), "must be a `qdrant_client.models.Filter`"),
    ):
        with pytest.raises(QdrantConfigurationError, match=said):
            resource.search(*arguments)


def test_an_app_gives_options_or_a_destination(resource: QdrantResource):
    for other in (resource, "data/qdrant"):
        with pytest.raises(TypeError, match="must be a `dagster_qdrant.destination.qdrant`"):
            QdrantSearch(other)
