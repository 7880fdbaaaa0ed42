"""Secrets show nowhere and go nowhere else, and local files are their owner's only."""

import asyncio
import importlib
import logging
import os
import pickle
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

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
from dagster_qdrant.errors import QdrantError
from dagster_qdrant.qdrant.connection import connect
from dagster_qdrant.qdrant.connection_options import ConnectionOptions
from tests.qdrant_server import ServerProcess

KEY = "sEcReT-kEy-0f-ThE-sErVeR"
ROWS = [{"id": number, "title": f"film {number % 3}"} for number in range(8)]
BAD_ROWS = [*ROWS, {"id": None, "title": "no key"}]


def films(rows: Any = ROWS) -> Any:
    resource = dlt.resource(rows, name="films", write_disposition="merge", primary_key="id")
    return qdrant_adapter(resource, embed="title")


@pytest.fixture(scope="module")
def the_server() -> Iterator[ServerProcess]:
    with ServerProcess(api_key=KEY, max_body=100_000, max_message=100_000) as server:
        yield server


@pytest.fixture
def server(the_server: ServerProcess) -> ServerProcess:
    the_server.start()
    the_server.clear_faults()
    return the_server


@pytest.fixture(params=["rest", "grpc"])
def options(request: pytest.FixtureRequest, server: ServerProcess, model: Any) -> dict[str, Any]:
    """Fields of a resource that leads to the server, without the key."""
    grpc = {"prefer_grpc": True, "grpc_port": server.grpc_port} if request.param == "grpc" else {}
    return {"location": server.url, "timeout": 1, "upload_max_retries": 1, **grpc, **model}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOAD__RAISE_ON_MAX_RETRIES", "1")
    monkeypatch.setattr("dagster_qdrant.retrying._wait", lambda _state: 0.01)


def all_texts_of(error: BaseException) -> str:
    """What any tool may print of an error: its words, its causes, and their local variables."""
    seen: list[str] = []
    whole = traceback.TracebackException.from_exception(error, capture_locals=True)
    seen.extend(whole.format())
    cause: BaseException | None = error
    while cause is not None:
        seen += [repr(cause), str(cause), repr(vars(cause))]
        if isinstance(cause, QdrantError):
            seen.append(repr(pickle.dumps(cause)))
        cause = cause.__cause__ or cause.__context__
    return "".join(seen)


def assert_hidden(text: str, secret: str = KEY) -> None:
    place = text.find(secret)
    assert place < 0, f"shown after {text[max(0, place - 700) : place]}"


def assert_no_file_holds(folder: Path, secret: str = KEY) -> None:
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert files
    shown = [str(file) for file in files if secret.encode() in file.read_bytes()]
    assert not shown


# -- nowhere shown ---------------------------------------------------------------------------------

# Each breaks a load in another place. A server that sends on what it got shows the key in its
# answers.
FAULTS: dict[str, dict[str, Any]] = {
    "none": {},
    "unauthorized": {"action": "answer", "status": 401, "message": "Invalid API key"},
    "forbidden": {"action": "answer", "status": 403},
    "overloaded": {"action": "answer", "status": 429, "retry_after": 1},
    "broken": {"action": "answer", "status": 500},
    "echoing": {"action": "answer", "status": 500, "message": f"got header api-key: {KEY}"},
    "refusing": {"action": "answer", "status": 400, "message": f"bad request with {KEY}"},
    "redirecting": {"action": "answer", "status": 307},
    "full": {"action": "answer", "status": 507},
    "silent": {"action": "delay", "seconds": 2, "times": 10},
    "cutting": {"action": "cut"},
    "gone": {"action": "die"},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_key_shows_in_nothing_that_a_plain_load_leaves(
    fault, options, server, dataset, tmp_path, monkeypatch, caplog, capfd
):
    monkeypatch.setenv("DESTINATION__QDRANT__CREDENTIALS__API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    if FAULTS[fault]:
        server.fault(operation="upsert|create_collection", **FAULTS[fault])
    pipeline = dlt.pipeline(
        "films",
        destination=QdrantResource(**options).destination(),
        dataset_name=dataset,
        pipelines_dir=str(tmp_path / "pipelines"),
    )
    shown = ""
    try:
        pipeline.run(films())
        assert fault == "none"
    except PipelineStepFailed as error:
        assert fault != "none"
        shown += all_texts_of(error)
    trace = pipeline.last_trace
    assert [value for value in trace.resolved_config_values if value.key == "api_key"]
    shown += trace.asstr(verbosity=2) + repr(trace)
    shown += repr(pipeline.state) + pipeline.default_schema.to_pretty_json()
    shown += repr(pipeline.destination) + str(pipeline.destination) + repr(vars(pipeline))
    output = capfd.readouterr()
    assert_hidden(shown + caplog.text + output.out + output.err)
    assert_no_file_holds(tmp_path / "pipelines")


@pytest.mark.parametrize(
    ("fault", "written_in"),
    [
        ("none", "EnvVar"),
        ("none", "code"),
        ("unauthorized", "dlt's configuration"),
        ("echoing", "code"),
        ("bad row", "EnvVar"),
        ("too large", "dlt's configuration"),
    ],
)
@pytest.mark.filterwarnings("ignore:QdrantResource")
def test_a_key_shows_in_nothing_that_a_run_of_dagster_leaves(
    fault, written_in, options, server, dataset, tmp_path, monkeypatch, caplog
):
    caplog.set_level(logging.DEBUG)
    key: Any = {"code": KEY, "EnvVar": dg.EnvVar("QDRANT_KEY")}.get(written_in)
    monkeypatch.setenv("QDRANT_KEY", KEY)
    if key is None:
        monkeypatch.setenv("DESTINATION__QDRANT__CREDENTIALS__API_KEY", KEY)
    if FAULTS.get(fault):
        server.fault(operation="upsert|create_collection", **FAULTS[fault])
    rows = {
        "bad row": BAD_ROWS,
        "too large": [{"id": 1, "title": "Shoah", "script": "word " * 40_000}],
    }.get(fault, ROWS)
    assets = build_qdrant_assets(dlt_source=films(rows), dataset_name=dataset)
    logs = {"managed_python_loggers": ["root"], "python_log_level": "DEBUG"}
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(
        str(tmp_path / "dagster"), {"python_logs": logs}
    ) as instance:
        result = dg.materialize(
            [assets],
            resources={"qdrant": QdrantResource(**options, api_key=key)},
            instance=instance,
            raise_on_error=False,
        )
        assert result.success == (fault == "none")
        events = instance.all_logs(result.run_id)
        assert len(events) >= 10
        assert_hidden("".join(map(repr, events)) + caplog.text)
    assert_no_file_holds(tmp_path / "dagster")
    server.clear_faults()


@pytest.mark.parametrize("of", ["resource", "dict", "configuration"])
@pytest.mark.filterwarnings("ignore:QdrantResource")
def test_a_key_shows_in_no_object_that_holds_it(of, monkeypatch):
    url = "https://qdrant.example"
    if of == "resource":
        resource = QdrantResource(location=url, api_key=KEY)
        assert_hidden(repr(resource) + str(resource))
        destination = resource.destination()
    elif of == "dict":
        destination = qdrant({"location": url, "api_key": KEY})
    else:
        monkeypatch.setenv("DESTINATION__QDRANT__CREDENTIALS__API_KEY", KEY)
        destination = qdrant(location=url)
    config = destination.configuration(destination.spec())
    assert config.connection.api_key == KEY
    for held in (destination, config, config.credentials, config.connection):
        assert_hidden(repr(held) + str(held))
    assert_hidden(repr(vars(destination)) + repr(vars(config)) + config.fingerprint())
    with connect(config.connection) as connection:
        assert_hidden(repr(connection) + repr(vars(connection)) + str(connection.client))


@pytest.fixture
def code_location(monkeypatch, tmp_path) -> Iterator[Callable[[str], Path]]:
    """Writes a module whose `QdrantResource` has a key."""

    def code_location(api_key: str) -> Path:
        file = tmp_path / "located.py"
        file.write_text(
            "import dagster as dg, dlt\n"
            "from dagster_qdrant import QdrantResource, build_qdrant_assets, qdrant_adapter\n"
            "films = dlt.resource([{'title': 'Moon'}], name='films')\n"
            "films = qdrant_adapter(films, embed='title')\n"
            "assets = build_qdrant_assets(dlt_source=films, dataset_name='movies')\n"
            "defs = dg.Definitions(\n"
            "    assets=[assets],\n"
            "    jobs=[dg.define_asset_job('load', [assets])],\n"
            "    resources={'qdrant': QdrantResource(\n"
            f"        location='https://qdrant.example', api_key={api_key})}},\n"
            ")\n"
        )
        return file

    monkeypatch.syspath_prepend(str(tmp_path))
    yield code_location
    sys.modules.pop("located", None)


def test_a_code_location_knows_the_name_of_a_keys_variable_only(
    monkeypatch, tmp_path, code_location
):
    monkeypatch.setenv("QDRANT_KEY", KEY)
    file = code_location("dg.EnvVar('QDRANT_KEY')")
    repository = importlib.import_module("located").defs.get_repository_def()
    snapshot = dg.serialize_value(RepositorySnap.from_def(repository))
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        shown = answer_of_graphql(instance, file)
    assert "QDRANT_KEY" in snapshot
    assert "QDRANT_KEY" in shown
    assert_hidden(snapshot + shown)


@pytest.mark.filterwarnings("ignore:QdrantResource")
def test_pages_of_the_ui_show_no_key_even_if_it_is_a_literal(tmp_path, code_location):
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        shown = answer_of_graphql(instance, code_location(repr(KEY)))
    assert "https://qdrant.example" in shown
    assert "api_key" in shown
    assert_hidden(shown)


def answer_of_graphql(instance: dg.DagsterInstance, file: Path) -> str:
    """What the UI asks for to show resources, and jobs before they are launched."""
    from dagster._core.remote_origin import InProcessCodeLocationOrigin
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
    from dagster_graphql.schema import create_schema

    query = """query shown($job: PipelineSelector!) {
        repositoriesOrError { ... on RepositoryConnection { nodes { allTopLevelResourceDetails {
            name configuredValues { key value type } configFields { name defaultValueAsJson }
        } } } }
        runConfigSchemaOrError(selector: $job) { ... on RunConfigSchema {
            rootDefaultYaml
        } }
    }"""
    origin = InProcessCodeLocationOrigin(LoadableTargetOrigin(python_file=str(file)))
    job = {
        "repositoryName": "__repository__",
        "repositoryLocationName": origin.location_name,
        "pipelineName": "load",
    }
    with WorkspaceProcessContext(instance, InProcessWorkspaceLoadTarget(origin)) as process:
        context = process.create_request_context()
        asked = create_schema().execute_async(query, context=context, variables={"job": job})
        answer = asyncio.run(asked)
    assert not answer.errors
    assert "rootDefaultYaml" in repr(answer.data)
    return repr(answer.data)


# -- nowhere else sent -----------------------------------------------------------------------------


class _Recorder(BaseHTTPRequestHandler):
    """Notes what it is asked, and sends whoever asks to another place if there is one."""

    def _note(self) -> None:
        server: Any = self.server
        server.asked.append(f"{self.requestline}\n{self.headers}")
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(server.status)
        if server.elsewhere:
            self.send_header("Location", server.elsewhere + self.path)
        self.send_header("Content-Length", "0")
        self.end_headers()

    # ruff: noqa: N815 (the names are http.server's)
    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = do_CONNECT = _note

    def log_message(self, *_: Any) -> None:
        """Be quiet."""


@pytest.fixture
def recorder() -> Iterator[Any]:
    """Makes servers that note what they are asked."""
    servers: list[Any] = []

    def start(status: int = 200, elsewhere: str = "") -> Any:
        server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Recorder)
        server.asked, server.status, server.elsewhere = [], status, elsewhere
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_named(recorder, status):
    elsewhere = recorder()
    server = recorder(status, elsewhere.url)
    options = ConnectionOptions(location=server.url, api_key=KEY, max_retries=0)
    with (
        connect(options) as connection,
        pytest.raises(
            QdrantError, match=rf"{server.url} answers with a redirect \({status}\).*Set"
        ),
    ):
        connection.request(connection.client.get_collections)
    assert any(KEY in request for request in server.asked)
    assert elsewhere.asked == []


PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_what_is_for_this_machine_goes_through_no_proxy(
    recorder, server, monkeypatch, host, protocol
):
    proxy = recorder(502)
    for name in PROXIES:
        monkeypatch.setenv(name, proxy.url)
    options = ConnectionOptions(
        location=f"http://{host}:{server.port}",
        api_key=KEY,
        max_retries=0,
        prefer_grpc=protocol == "grpc",
        grpc_port=server.grpc_port,
    )
    before = threading.enumerate()
    with connect(options) as connection:
        connection.request(connection.client.get_collections)
        for thread in set(threading.enumerate()) - set(before):
            thread.join(2)  # what the client does in the background
    assert proxy.asked == []


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_a_proxy_of_another_machine_learns_no_key(recorder, monkeypatch, protocol):
    proxy = recorder(502)
    for name in PROXIES:
        monkeypatch.setenv(name, proxy.url)
    options = ConnectionOptions(
        location="https://qdrant.example",
        api_key=KEY,
        max_retries=0,
        timeout=2,
        prefer_grpc=protocol == "grpc",
    )
    with connect(options) as connection, pytest.raises(QdrantError):
        connection.request(connection.client.get_collections)
    assert any(request.startswith("CONNECT qdrant.example:") for request in proxy.asked)
    assert_hidden("".join(proxy.asked))


# -- secrets in the wrong place --------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{"timeout": 0}, {"path": "/a"}, {"https": False}])
@pytest.mark.filterwarnings("ignore:QdrantResource")
def test_a_key_shows_in_no_refusal_of_other_options(wrong):
    resource = QdrantResource(location="https://qdrant.example", api_key=KEY, **wrong)
    with pytest.raises(QdrantConfigurationError) as caught:
        resource.configuration()
    assert_hidden(repr(caught.value) + "".join(traceback.format_exception(caught.value)))


@pytest.mark.parametrize("option", ["location", "host", "credentials", "prefix"])
@pytest.mark.parametrize(
    "place",
    [
        f"http://user:{KEY}@qdrant.example",
        f"http://{KEY}@qdrant.example:6333",
        f"user:{KEY}@qdrant.example",
        f"http://user:{KEY}@qdrant.example:no-port",
        f"ftp://user:{KEY}@qdrant.example",
        f"http://user:{KEY}@[bad",
        f"https://qdrant.example?api_key={KEY}",
        f"https://qdrant.example/x?api_key={KEY}",
        f"qdrant.example#{KEY}",
    ],
)
def test_a_secret_in_a_url_is_refused_and_not_shown(option, place):
    if option == "credentials":
        destination = qdrant(place)
    else:
        destination = QdrantResource(**{option: place}).destination()
    with pytest.raises(QdrantConfigurationError, match="`api_key`.*kept secret") as caught:
        destination.configuration(destination.spec())
    assert_hidden(str(caught.value) + "".join(traceback.format_exception(caught.value)))


# -- local files -----------------------------------------------------------------------------------


def test_nobody_else_can_read_a_local_path(tmp_path, model):
    mask = os.umask(0)  # as careless as can be
    try:
        resource = QdrantResource(path=str(tmp_path / "q"), **model)
        pipeline = dlt.pipeline("films", destination=resource.destination())
        pipeline.run(films())
    finally:
        os.umask(mask)
    assert (tmp_path / "q").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "q" / ".dagster_qdrant.lock").stat().st_mode & 0o777 == 0o600


def test_rows_in_a_folder_that_others_may_read_are_their_owners_only(tmp_path):
    (tmp_path / "q").mkdir(mode=0o755)
    with connect(ConnectionOptions(path=str(tmp_path / "q"))) as connection:
        connection.client.create_collection("films", vectors_config={})
    assert (tmp_path / "q").stat().st_mode & 0o777 == 0o755  # its maker's decision
    [collection] = (tmp_path / "q" / "collection").iterdir()
    assert collection.parent.stat().st_mode & 0o777 == 0o700


def test_a_path_may_be_a_link_to_a_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    with connect(ConnectionOptions(path=str(tmp_path / "link"))) as connection:
        connection.client.create_collection("films", vectors_config={})
    assert (tmp_path / "folder" / "meta.json").exists()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("file", "is a file"),
        ("link to a file", "is a file"),
        ("link to nothing", "is a link to .*/nothing, which does not exist"),
        ("below a file", "Not a directory"),
        ("loop of links", "is a link to .*, which does not exist"),
    ],
)
def test_a_path_that_is_no_folder_is_named_with_what_to_do(tmp_path, kind, words):
    (tmp_path / "file").write_text("precious")
    path = tmp_path / "q"
    if kind == "file":
        path = tmp_path / "file"
    elif kind == "below a file":
        path = tmp_path / "file" / "q"
    else:
        path.symlink_to({"link to a file": "file", "link to nothing": "nothing"}.get(kind, "q"))
    with (
        pytest.raises(
            QdrantConfigurationError, match=f"`path` {path} .*{words}.*[Nn]ame a folder that"
        ),
        connect(ConnectionOptions(path=str(path))),
    ):
        pass
    assert (tmp_path / "file").read_text() == "precious"
    assert not (tmp_path / "nothing").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_path_that_may_not_be_written_is_named_with_what_to_do(tmp_path):
    (tmp_path / "q").mkdir(mode=0o500)
    with (
        pytest.raises(QdrantConfigurationError, match="`path` .*/q cannot be used: Permission"),
        connect(ConnectionOptions(path=str(tmp_path / "q"))),
    ):
        pass
