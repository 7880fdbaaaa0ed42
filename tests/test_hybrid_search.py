"""Rows are found by meaning, by keywords, or by both in one ranking."""

import dlt
import pytest

from dagster_qdrant import QdrantResource, QdrantTerminalError, qdrant_adapter
from dagster_qdrant.errors import QdrantConfigurationError
from dagster_qdrant.search import QdrantSearch
from tests.conftest import Load
from tests.targets import Target

FILMS = [
    {"id": 1, "text": "a hunter of androids in a rainy city"},
    {"id": 2, "text": "a baker who falls in love in Paris"},
    {"id": 3, "text": "part number XK-4711 of the machine"},
    {"id": 4, "text": "part number XK-4712 of the machine"},
]


@pytest.fixture
def films(load: Load) -> None:
    load(qdrant_adapter(dlt.resource(FILMS, name="films"), embed="text", keywords=True))


def ids(hits) -> list[int]:
    return [hit.payload["id"] for hit in hits]


@pytest.mark.every_qdrant
@pytest.mark.usefixtures("films")
def test_keywords_find_what_meaning_cannot_tell_apart(resource: QdrantResource, dataset):
    assert ids(resource.search(dataset, "films", "4712", mode="keywords")) == [4]
    assert ids(resource.search(dataset, "films", "hunting an android", mode="keywords")) == [1]


@pytest.mark.every_qdrant
@pytest.mark.usefixtures("films")
def test_both_are_used_where_the_collection_has_both(resource: QdrantResource, dataset):
    assert ids(resource.search(dataset, "films", "4712"))[0] == 4
    assert ids(resource.search(dataset, "films", "chasing robots"))[0] == 1  # no common word
    hybrid = resource.search(dataset, "films", "machine 4712", mode="hybrid")
    assert hybrid == resource.search(dataset, "films", "machine 4712")
    dense = resource.search(dataset, "films", "machine 4712", mode="dense")
    assert {hit.id for hit in dense} == {hit.id for hit in hybrid}
    assert [hit.score for hit in dense] != [hit.score for hit in hybrid]


@pytest.mark.every_qdrant
@pytest.mark.usefixtures("films")
def test_a_ranking_is_fused_by_rank_with_sixty(resource: QdrantResource, dataset):
    best = resource.search(dataset, "films", "part number XK-4712")[0]
    assert best.payload["id"] == 4
    assert best.score == pytest.approx(2 / 60, rel=0.1)


@pytest.mark.every_qdrant
@pytest.mark.usefixtures("films")
def test_weights_move_the_ranking(resource: QdrantResource, dataset):
    def score(**weights: float) -> dict[int, float]:
        hits = resource.search(dataset, "films", "robots 4711", weights=weights)
        return {hit.payload["id"]: hit.score for hit in hits}

    assert score(keywords=0.0)[3] < score()[3]
    assert score(keywords=1.0, dense=0.1)[1] < score()[1]
    assert score(dense=0.0)[1] == 0


@pytest.mark.every_qdrant
@pytest.mark.usefixtures("films")
def test_scores_may_be_fused(resource: QdrantResource, dataset):
    by_rank, by_score = (
        resource.search(dataset, "films", "the machine 4712", fusion=fusion)
        for fusion in ("rrf", "dbsf")
    )
    assert by_score[0].payload["id"] == by_rank[0].payload["id"] == 4
    assert by_score[0].score != by_rank[0].score


@pytest.mark.every_qdrant
@pytest.mark.usefixtures("films")
def test_many_texts_are_asked_for_at_once(resource: QdrantResource, dataset, monkeypatch):
    from dagster_qdrant.qdrant.connection import Connection

    asked = []
    request = Connection.request

    def counted(connection, operation, *args, **kwargs):
        asked.append(operation.__name__)
        return request(connection, operation, *args, **kwargs)

    monkeypatch.setattr(Connection, "request", counted)
    texts = ["4711", "4712", "love in France"]
    found = resource.search(dataset, "films", texts, limit=1)
    assert [ids(hits) for hits in found] == [[3], [4], [2]]
    assert asked == ["get_collection", "query_batch_points"]
    assert resource.search(dataset, "films", []) == []


@pytest.mark.every_qdrant
@pytest.mark.usefixtures("films")
def test_pages_and_the_least_score(resource: QdrantResource, dataset):
    everything = ids(resource.search(dataset, "films", "4711 machine"))
    later = resource.search(dataset, "films", "4711 machine", limit=2, offset=1)
    assert ids(later) == everything[1:3]
    [best, other, *_] = resource.search(dataset, "films", "robots", mode="dense")
    least = (best.score + other.score) / 2
    good = resource.search(dataset, "films", "robots", mode="dense", score_threshold=least)
    assert ids(good) == ids([best])


@pytest.mark.every_qdrant
@pytest.mark.usefixtures("films")
def test_a_question_of_stopwords_has_no_keywords(resource: QdrantResource, dataset):
    assert resource.search(dataset, "films", "of the", mode="keywords") == []
    assert len(resource.search(dataset, "films", "of the")) == 4


@pytest.mark.every_qdrant
def test_keywords_alone_are_searched_without_a_model(load: Load, qdrant_target: Target, dataset):
    load(qdrant_adapter(dlt.resource(FILMS, name="films"), keywords={"columns": ["text"]}))
    offline = QdrantResource(**qdrant_target.options, local_files_only=True)
    assert ids(offline.search(dataset, "films", "androids")) == [1]


def test_the_language_of_the_collection_counts(load: Load, resource: QdrantResource, dataset):
    rows = [{"id": 1, "text": "Die Häuser am Fluss"}, {"id": 2, "text": "Der Hausmeister"}]
    german = qdrant_adapter(
        dlt.resource(rows, name="texts"), keywords={"language": "german", "columns": ["text"]}
    )
    load(german)
    assert ids(resource.search(dataset, "texts", "Haus am Fluß")) == [1]


def test_an_app_searches_without_dagster(load: Load, qdrant_target: Target, model, dataset):
    load(qdrant_adapter(dlt.resource(FILMS, name="films"), embed="text", keywords=True))
    options = dict(qdrant_target.options)
    if "api_key" in options:
        options["credentials"] = {"api_key": options.pop("api_key")}
    client = {name: options.pop(name) for name in ("prefer_grpc", "grpc_port") if name in options}
    app = QdrantSearch(**options, **({"options": client} if client else {}), **model)
    assert ids(app.search(dataset, "films", "chasing robots", limit=1)) == [1]
    assert [ids(hits) for hits in app.search(dataset, "films", ["4711"], 1)] == [[3]]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"mode": "sparse"}, "`mode` is 'sparse'"),
        ({"moode": "dense"}, "has no `moode`. Did you mean `mode`?"),
        ({"fusion": "sum"}, "`fusion` is 'sum'"),
        ({"weights": {"bm25": 1}}, "`weights` names 'bm25'"),
        ({"weights": {"dense": -1}}, "0 or more"),
        ({"weights": {"dense": 1}, "fusion": "dbsf"}, "have no effect"),
        ({"limit": 0}, "`limit` is 0"),
        ({"offset": -1}, "`offset` is -1"),
    ],
)
def test_what_cannot_work_is_refused(resource: QdrantResource, how, words):
    with pytest.raises(QdrantConfigurationError, match=words):
        resource.search("any", "films", "robots", **how)


def test_a_way_that_the_collection_does_not_have_is_named(
    load: Load, resource: QdrantResource, dataset
):
    load(qdrant_adapter(dlt.resource(FILMS, name="films"), embed="text"))
    for mode in ("keywords", "hybrid"):
        with pytest.raises(QdrantTerminalError, match="has no keywords, which `mode`"):
            resource.search(dataset, "films", "robots", mode=mode)
    load(qdrant_adapter(dlt.resource(FILMS, name="others"), keywords={"columns": "text"}))
    with pytest.raises(QdrantTerminalError, match="has no vectors of meaning"):
        resource.search(dataset, "others", "robots", mode="dense")
