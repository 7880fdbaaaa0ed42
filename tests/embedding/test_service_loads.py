"""Loads, searches, checks and rebuilds with vectors of a service."""

import dagster as dg
import dlt
import pytest
from dlt.pipeline.exceptions import PipelineStepFailed

from dagster_qdrant import QdrantResource, build_qdrant_assets, build_qdrant_checks, qdrant_adapter
from dagster_qdrant.errors import QdrantTerminalError, QdrantTransientError
from example_project.model import MODEL_NAME
from tests.embedding.service import answer

pytestmark = pytest.mark.in_memory

FILMS = [
    {"id": 1, "title": "Blade Runner", "plot": "A detective hunts androids in the rain."},
    {"id": 2, "title": "Amelie", "plot": "A waitress in Paris mends her neighbours' lives."},
    {"id": 3, "title": "Moon", "plot": "A lonely miner finds out that he is a copy."},
]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setenv("LOAD__RAISE_ON_MAX_RETRIES", "1")
    monkeypatch.setattr("dagster_qdrant.retrying._wait", lambda _state: 0.01)


@pytest.fixture
def options(qdrant_target, service):
    """Fields of a resource whose vectors a service makes."""
    return {
        **qdrant_target.options,
        "model": MODEL_NAME,
        "embedding_url": service.openai,
        "abandoned_after": 1.0,
    }


@pytest.fixture
def resource(options):
    return QdrantResource(**options)


@pytest.fixture
def load_films(dataset, tmp_path):
    """Load films with some resource, merged by their ids."""

    def load_films(resource, rows=FILMS, embed="plot", machine="here", **said):
        films = dlt.resource(rows, name="films", write_disposition="merge", primary_key="id")
        pipeline = dlt.pipeline(
            "films",
            destination=resource.destination(),
            dataset_name=dataset,
            pipelines_dir=str(tmp_path / machine),
        )
        return pipeline.run(qdrant_adapter(films, embed=embed, **said))

    return load_films


def test_a_load_and_a_search_take_vectors_of_the_service(
    service, resource, load_films, dataset, qdrant_target, embedder
):
    load_films(resource)
    assert sorted(service.texts) == sorted(film["plot"] for film in FILMS)
    [hit] = resource.search(dataset, "films", "robots", limit=1)
    assert hit.payload["title"] == "Blade Runner"
    assert service.texts[-1] == "robots"
    for point in qdrant_target.points(f"{dataset}_films", vectors=True):
        wanted = embedder.embed([point.payload["plot"]])[0]
        assert point.vector["fast-all-minilm-l6-v2"] == pytest.approx(wanted.tolist(), abs=1e-4)


def test_what_did_not_change_is_not_sent(service, resource, load_films):
    load_films(resource)
    service.requests.clear()
    load_films(resource)
    load_films(resource, [{**FILMS[0], "title": "Blade Runner 2049"}, *FILMS[1:]])
    assert service.texts == []
    load_films(resource, [{**FILMS[0], "plot": "Another detective."}, *FILMS[1:]])
    assert service.texts == ["Another detective."]


@pytest.mark.parametrize("first", ["fastembed", "openai", "tei"])
@pytest.mark.parametrize("then", ["fastembed", "openai", "tei"])
def test_the_same_model_elsewhere_embeds_nothing_again(
    service, options, model, load_films, monkeypatch, first, then, qdrant_target, dataset
):
    def made_by(kind):
        if kind == "fastembed":
            return QdrantResource(**qdrant_target.options, **model)
        return QdrantResource(**options | {"embedding_url": getattr(service, kind)})

    load_films(made_by(first))
    before = qdrant_target.points(f"{dataset}_films", vectors=True)
    service.requests.clear()
    monkeypatch.setattr(
        "dagster_qdrant.destination.writing.text_vectors.load_embedder",
        lambda *_: pytest.fail("embedded again"),
    )
    load_films(made_by(then))
    assert service.texts == []
    assert qdrant_target.points(f"{dataset}_films", vectors=True) == before


def test_a_load_without_new_text_needs_no_service_whose_dimensions_are_set(
    service, options, load_films
):
    resource = QdrantResource(**options, embedding_dimensions=384)
    load_films(resource)
    service.requests.clear()
    load_films(resource)
    assert service.requests == []


def sizes(qdrant_target, collection):
    points = qdrant_target.points(collection, vectors=True)
    return {len(point.vector["fast-all-minilm-l6-v2"]) for point in points}


def test_other_dimensions_embed_all_again_and_are_searched_with(
    service, options, load_films, dataset, qdrant_target
):
    service.matryoshka = True
    for dimensions in (128, 64):
        service.requests.clear()
        load_films(QdrantResource(**options, embedding_dimensions=dimensions))
        assert sizes(qdrant_target, f"{dataset}_films") == {dimensions}
        assert {film["plot"] for film in FILMS} <= set(service.texts)
    # Whatever is configured, a search asks for vectors like those that are there.
    for more in ({}, {"embedding_dimensions": 64}, {"embedding_dimensions": 200}):
        [hit] = QdrantResource(**options, **more).search(dataset, "films", "robots", limit=1)
        assert hit.payload["title"] == "Blade Runner"


def test_dimensions_that_the_model_has_anyway_change_nothing(service, options, load_films):
    load_films(QdrantResource(**options))
    service.requests.clear()
    load_films(QdrantResource(**options, embedding_dimensions=384))
    assert service.texts == []


def test_a_service_that_gives_other_vectors_for_the_model_is_refused(
    service, options, load_films, dataset, qdrant_target, monkeypatch
):
    load_films(QdrantResource(**options))
    before = qdrant_target.points(f"{dataset}_films", vectors=True)
    monkeypatch.setattr("dagster_qdrant.embedding.embedder._embedders", {})
    service.size = 100
    more = [*FILMS, {"id": 4, "title": "Alien", "plot": "A beast on a ship."}]
    with pytest.raises(PipelineStepFailed, match="384 dimensions that model .*100 dimensions for"):
        load_films(QdrantResource(**options), more)
    with pytest.raises(QdrantTerminalError, match="384 dimensions, but the model .* of 100 now"):
        QdrantResource(**options).search(dataset, "films", "robots")
    assert qdrant_target.points(f"{dataset}_films", vectors=True) == before
    service.size = 384
    monkeypatch.setattr("dagster_qdrant.embedding.embedder._embedders", {})
    load_films(QdrantResource(**options), more)
    assert len(qdrant_target.rows(f"{dataset}_films")) == 4


def test_a_service_that_changes_its_vectors_under_way_loses_nothing(
    service, options, load_films, dataset, qdrant_target
):
    resource = QdrantResource(**options, upload_batch_size=1)
    load_films(resource)
    service.size = 100
    more = [*FILMS, {"id": 4, "title": "Alien", "plot": "A beast on a ship."}]
    with pytest.raises(PipelineStepFailed, match="`films`: .*Has it another model now"):
        load_films(resource, more)
    assert len(qdrant_target.rows(f"{dataset}_films")) == 3
    service.size = 384
    load_films(resource, [])
    assert len(qdrant_target.rows(f"{dataset}_films")) == 4


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"embedding_api_key": "wrong"}, "refused the key it was given.*Set `embedding_api_key`"),
        ({"model": "no/such-model"}, "knows no such model.*Set `model`"),
        ({"embedding_url": "http://127.0.0.1:9/v1"}, "No embedding service.*set `embedding_url`"),
        ({"embedding_dimensions": 100}, "384 dimensions.*`embedding_dimensions` is 100"),
    ],
)
@pytest.mark.filterwarnings("ignore:QdrantResource")
def test_a_service_that_cannot_be_used_is_named_and_nothing_is_lost(
    service, options, load_films, dataset, qdrant_target, wrong, words
):
    service.key = "right"
    right = {**options, "embedding_api_key": "right"}
    with pytest.raises(PipelineStepFailed, match=words):
        load_films(QdrantResource(**right | wrong))
    load_films(QdrantResource(**right), [])
    assert len(qdrant_target.rows(f"{dataset}_films")) == 3


def test_what_was_embedded_before_a_service_failed_is_not_embedded_again(
    service, options, load_films, dataset, qdrant_target, monkeypatch
):
    monkeypatch.setattr("dagster_qdrant.destination.load_job._WINDOW_ROWS", 2)
    resource = QdrantResource(
        **options, embedding_batch_size=1, embedding_parallelism=1, upload_max_retries=0
    )
    rows = [{"id": n, "plot": f"the plot of film {n}"} for n in range(8)]
    service.next_answers.extend([None] * 6 + [answer(503)] * 20)
    with pytest.raises(PipelineStepFailed, match="answered 503") as caught:
        load_films(resource, rows)
    cause = caught.value
    while not isinstance(cause, QdrantTransientError):
        cause = cause.__cause__ or cause.__context__
    written = len(qdrant_target.rows(f"{dataset}_films"))
    assert 0 < written < 8
    service.reset()
    load_films(resource, [])
    assert len(qdrant_target.rows(f"{dataset}_films")) == 8
    assert len(service.texts) == 8 - written


def test_other_columns_are_embedded_by_the_service(
    service, resource, load_films, dataset, qdrant_target
):
    load_films(resource)
    load_films(resource, FILMS[:1], embed=["title", "plot"])
    assert {f"{film['title']}\n{film['plot']}" for film in FILMS} <= set(service.texts)
    [hit] = resource.search(dataset, "films", "moon", limit=1)
    assert hit.payload["id"] == 3


LONG = [{"id": n, "plot": f"Story {n}. " + "And then it went on. " * 30} for n in range(2)]


@pytest.mark.parametrize("api", ["openai", "tei"])
@pytest.mark.parametrize("refuses", [True, False])
def test_texts_that_the_service_does_not_take_whole_are_told_of(
    service, options, dataset, api, refuses, caplog
):
    service.refuses = refuses
    resource = QdrantResource(**options | {"embedding_url": getattr(service, api)})
    films = qdrant_adapter(dlt.resource([*FILMS, *LONG], name="films"), embed="plot")
    assets = build_qdrant_assets(dlt_source=films, dataset_name=dataset, checks=True)
    result = dg.materialize([assets], resources={"qdrant": resource})
    [made] = result.asset_materializations_for_node(assets.op.name)
    assert made.metadata["texts_cut"].value == 2
    lost = 2 * (service.tokens(LONG[0]["plot"]) - 80)
    assert made.metadata["tokens_cut"].value == pytest.approx(lost, rel=0.3 if refuses else 0.9)
    assert "2 of 5 texts were cut" in caplog.text
    window = "window is 80" if refuses or api == "tei" else "by some"
    assert window in caplog.text
    checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert not checks.pop("no_text_cut").passed
    assert all(check.passed for check in checks.values())


def test_dagster_checks_what_the_service_made(service, resource, dataset):
    films = qdrant_adapter(dlt.resource(FILMS, name="films"), embed="plot")
    assets = build_qdrant_assets(dlt_source=films, dataset_name=dataset, checks=True)
    unchecked = build_qdrant_assets(dlt_source=films, dataset_name=dataset)
    resources = {"qdrant": resource}
    result = dg.materialize([assets], resources=resources)
    checks = result.get_asset_check_evaluations()
    assert checks
    assert all(check.passed for check in checks)
    [made] = result.asset_materializations_for_node(assets.op.name)
    assert made.metadata["texts_embedded"].value == 3
    assert made.metadata["tokens_embedded"].value == sum(
        service.tokens(film["plot"]) for film in FILMS
    )
    # A service that is not right any more fails the check, with the reason.
    service.key = "changed"
    later = build_qdrant_checks([unchecked])
    defs = dg.Definitions(
        assets=[unchecked],
        asset_checks=later,
        jobs=[dg.define_asset_job("check", dg.AssetSelection.checks(*later))],
        resources=resources,
    )
    found = {
        check.check_name: check
        for check in defs.resolve_job_def("check")
        .execute_in_process()
        .get_asset_check_evaluations()
    }
    assert not found["search_finds_row"].passed
    assert "refused a request without a key" in found["search_finds_row"].description
    assert found["all_rows_present"].passed


def test_a_run_says_in_its_first_line_what_is_wrong_with_the_service(service, resource, dataset):
    service.key = "right"
    films = qdrant_adapter(dlt.resource(FILMS, name="films"), embed="plot")
    assets = build_qdrant_assets(
        dlt_source=films, dataset_name=dataset, retry_policy=dg.RetryPolicy(max_retries=2)
    )
    result = dg.materialize([assets], resources={"qdrant": resource}, raise_on_error=False)
    [failure] = result.get_step_failure_events()
    first_line = failure.step_failure_data.user_failure_data.description
    assert first_line.startswith("The embedding service at ")
    assert not [event for event in result.all_events if event.is_step_up_for_retry]


def test_further_vectors_are_the_services_too_with_models_of_their_own(
    service, resource, dataset, tmp_path
):
    def load(machine, **vector):
        films = dlt.resource(FILMS, name="films", write_disposition="merge", primary_key="id")
        title = {"columns": "title", **vector}
        pipeline = dlt.pipeline(
            "films",
            destination=resource.destination(),
            dataset_name=dataset,
            pipelines_dir=str(tmp_path / machine),
        )
        return pipeline.run(qdrant_adapter(films, embed="plot", vectors={"title": title}))

    with pytest.raises(PipelineStepFailed, match="The model `acme/other` does not exist"):
        load("one", model="acme/other")
    with pytest.raises(PipelineStepFailed, match="`model_path` cannot take effect together with"):
        load("another", model_path="/models")
    service.requests.clear()
    load("a third", passage_prefix="film: ", query_prefix="which: ")
    assert sorted(service.texts) == sorted(
        [film["plot"] for film in FILMS] + [f"film: {film['title']}" for film in FILMS]
    )
    [hit] = resource.search(dataset, "films", "the moon", limit=1, using="title")
    assert (hit.payload["title"], service.texts[-1]) == ("Moon", "which: the moon")


def test_long_texts_are_cut_for_a_service_by_its_window(service, options, load_films, dataset):
    resource = QdrantResource(**{**options, "embedding_url": service.tei})
    days = "".join(f"On day {day} a detective hunts androids. " for day in range(30))
    plot = f"{days}In the end he finds a toy unicorn."
    load_films(resource, [FILMS[0] | {"plot": plot}], chunk=True)
    assert sum(map(len, service.texts)) == len(plot)
    assert max(map(service.tokens, service.texts)) <= service.max_tokens
    [hit] = resource.search(dataset, "films", "toy unicorn", limit=1)
    assert "toy unicorn" in hit.passages[0].text
