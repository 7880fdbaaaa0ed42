"""The key of an embedding service shows nowhere and goes nowhere else."""

import logging
import traceback

import dagster as dg
import dlt
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap
from dlt.pipeline.exceptions import PipelineStepFailed

from dagster_qdrant import (
    QdrantConfigurationError,
    QdrantResource,
    build_qdrant_assets,
    qdrant_adapter,
)
from dagster_qdrant.destination import qdrant
from dagster_qdrant.embedding.embedder import load_embedder
from dagster_qdrant.errors import QdrantError
from example_project.model import MODEL_NAME
from tests.embedding.service import answer, cut
from tests.test_security import all_texts_of, assert_hidden, assert_no_file_holds, recorder

pytestmark = pytest.mark.in_memory

KEY = "sEcReT-kEy-0f-ThE-sErViCe"

_ = recorder  # a fixture

# Each breaks a load in another place. A service that sends on what it got shows the key.
FAULTS = {
    "none": None,
    "unauthorized": answer(401, {"error": {"message": f"no such key: {KEY}"}}),
    "echoing": answer(500, {"error": f"got header authorization: Bearer {KEY}"}),
    "refusing": answer(400, {"error": f"bad request with {KEY}"}),
    "babbling": answer(200, {"said": f"bad request with {KEY}"}),
    "overloaded": answer(429, {"error": KEY}),
    "redirecting": answer(307, location="http://elsewhere.example/v1"),
    "cutting": cut,
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setenv("LOAD__RAISE_ON_MAX_RETRIES", "1")
    monkeypatch.setattr("dagster_qdrant.retrying._wait", lambda _state: 0.01)


@pytest.fixture
def options(service, tmp_path):
    """Fields of a resource that leads to the service, without the key."""
    service.key = KEY
    return {
        "path": str(tmp_path / "qdrant"),
        "model": MODEL_NAME,
        "embedding_url": service.openai,
        "upload_max_retries": 1,
    }


def films():
    return qdrant_adapter(dlt.resource([{"title": "Moon"}], name="films"), embed="title")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_key_shows_in_nothing_that_a_plain_load_leaves(
    fault, service, options, tmp_path, monkeypatch, caplog, capfd
):
    monkeypatch.setenv("DESTINATION__QDRANT__EMBEDDING_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    service.next_answers.extend([None, *[FAULTS[fault]] * 9])  # it fails when texts come
    pipeline = dlt.pipeline(
        "films",
        destination=QdrantResource(**options).destination(),
        pipelines_dir=str(tmp_path / "pipelines"),
    )
    shown = ""
    try:
        pipeline.run(films())
        assert fault == "none"
    except PipelineStepFailed as error:
        assert fault != "none"
        shown += all_texts_of(error)
    assert service.headers[-1]["authorization"] == f"Bearer {KEY}"
    trace = pipeline.last_trace
    shown += trace.asstr(verbosity=2) + repr(trace)
    shown += repr(pipeline.destination) + repr(vars(pipeline.destination))
    output = capfd.readouterr()
    assert_hidden(shown + caplog.text + output.out + output.err, KEY)
    assert_no_file_holds(tmp_path / "pipelines", KEY)
    assert_no_file_holds(tmp_path / "qdrant", KEY)


@pytest.mark.parametrize("fault", ["none", "unauthorized", "echoing"])
@pytest.mark.parametrize("written_in", ["EnvVar", "code", "dlt's configuration"])
@pytest.mark.filterwarnings("ignore:QdrantResource")
def test_a_key_shows_in_nothing_that_a_run_of_dagster_leaves(
    fault, written_in, service, options, tmp_path, monkeypatch, caplog
):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("SERVICE_KEY", KEY)
    key = {"code": KEY, "EnvVar": dg.EnvVar("SERVICE_KEY")}.get(written_in)
    if key is None:
        monkeypatch.setenv("DESTINATION__QDRANT__EMBEDDING_API_KEY", KEY)
    service.next_answers.extend([None, *[FAULTS[fault]] * 9])
    logs = {"managed_python_loggers": ["root"], "python_log_level": "DEBUG"}
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(
        str(tmp_path / "dagster"), {"python_logs": logs}
    ) as instance:
        result = dg.materialize(
            [build_qdrant_assets(dlt_source=films(), dataset_name="movies")],
            resources={"qdrant": QdrantResource(**options, embedding_api_key=key)},
            instance=instance,
            raise_on_error=False,
        )
        assert result.success == (fault == "none")
        assert_hidden("".join(map(repr, instance.all_logs(result.run_id))) + caplog.text, KEY)
    assert_no_file_holds(tmp_path / "dagster", KEY)


@pytest.mark.parametrize("of", ["resource", "factory", "configuration"])
@pytest.mark.filterwarnings("ignore:QdrantResource")
def test_a_key_shows_in_no_object_that_holds_it(of, service, options, monkeypatch):
    if of == "resource":
        resource = QdrantResource(**options, embedding_api_key=KEY)
        assert_hidden(repr(resource) + str(resource), KEY)
        destination = resource.destination()
    elif of == "factory":
        destination = qdrant(**options, embedding_api_key=KEY)
    else:
        monkeypatch.setenv("DESTINATION__QDRANT__EMBEDDING_API_KEY", KEY)
        destination = qdrant(**options)
    config = destination.configuration(destination.spec())
    assert config.embedding.service.api_key == KEY
    embedder = load_embedder(config.embedding)
    for held in (destination, config, config.embedding, embedder, embedder._api._client):
        assert_hidden(repr(held) + str(held) + repr(vars(held)), KEY)
    assert_hidden(repr(vars(embedder._api._client._client)), KEY)


def test_a_code_location_knows_the_name_of_a_keys_variable_only(monkeypatch):
    monkeypatch.setenv("SERVICE_KEY", KEY)
    resource = QdrantResource(
        embedding_url="https://e.example/v1", embedding_api_key=dg.EnvVar("SERVICE_KEY")
    )
    assets = build_qdrant_assets(dlt_source=films(), dataset_name="movies")
    defs = dg.Definitions(assets=[assets], resources={"qdrant": resource})
    snapshot = dg.serialize_value(RepositorySnap.from_def(defs.get_repository_def()))
    assert "SERVICE_KEY" in snapshot
    assert_hidden(snapshot, KEY)


def test_a_literal_key_is_warned_of():
    resource = QdrantResource(embedding_url="https://e.example/v1", embedding_api_key=KEY)
    with pytest.warns(UserWarning, match=r"embedding_api_key=EnvVar\('EMBEDDING_API_KEY'\)"):
        resource.get_resource_definition()


@pytest.mark.parametrize("place", [f"https://user:{KEY}@e.example/v1", f"https://e/v1?key={KEY}"])
def test_a_secret_in_a_url_is_refused_and_not_shown(place):
    destination = qdrant(embedding_url=place)
    with pytest.raises(QdrantConfigurationError, match="`embedding_api_key`.*secret") as caught:
        destination.configuration(destination.spec())
    assert_hidden(str(caught.value) + "".join(traceback.format_exception(caught.value)), KEY)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(recorder, options, status):
    elsewhere = recorder()
    sending = recorder(status, elsewhere.url)
    config = qdrant(
        **options | {"embedding_url": f"{sending.url}/v1"}, embedding_api_key=KEY
    ).configuration(None)
    with pytest.raises(QdrantError, match=rf"answers with a redirect \({status}\)"):
        load_embedder(config.embedding)
    assert any(KEY in request for request in sending.asked)
    assert elsewhere.asked == []


def test_a_proxy_of_another_machine_learns_no_key(recorder, options, monkeypatch):
    proxy = recorder(502)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    config = qdrant(
        **options | {"embedding_url": "https://e.example/v1"}, embedding_api_key=KEY
    ).configuration(None)
    with pytest.raises(QdrantError):
        load_embedder(config.embedding)
    assert any(request.startswith("CONNECT e.example:") for request in proxy.asked)
    assert_hidden("".join(proxy.asked), KEY)
