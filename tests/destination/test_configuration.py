"""Options: where they may be written, what they are when they are not, and which are refused."""

import subprocess
import sys
from pathlib import Path

import dlt
import pytest
from dlt.common.destination import Destination

from dagster_qdrant import QdrantConfigurationError
from dagster_qdrant.destination import qdrant
from dagster_qdrant.destination.configuration import QdrantCredentials
from dagster_qdrant.embedding.batching import Batching, available_cores


def configuration(destination=None):
    destination = destination or qdrant()
    return destination.configuration(destination.spec())


def write_toml(name: str, text: str) -> None:
    Path(".dlt").mkdir(exist_ok=True)
    Path(".dlt", name).write_text(text)
    dlt.current.run_context().reload()


def test_nothing_set_means_a_server_on_this_machine_without_a_key():
    connection = configuration().connection
    assert connection.url == "http://localhost:6333"
    assert connection.api_key is None


def test_defaults_are_the_documented_ones():
    config = configuration()
    assert config.embedding_parallelism == 0
    batching = Batching.of(config.embedding, gpu=False)
    assert (batching.texts, batching.workers) == (32, available_cores())
    assert config.upload_batch_size == 64
    assert config.upload_parallelism == 1
    assert config.upload_max_retries == 3
    assert config.model == "BAAI/bge-small-en"
    assert config.dataset_separator == "_"
    assert config.connection.port == 6333
    assert config.connection.grpc_port == 6334
    assert config.connection.prefer_grpc is False
    assert config.connection.prefix is None
    assert config.connection.timeout == 60
    assert config.connection.write_ordering == "medium"
    assert config.connection.read_consistency is None


def test_an_environment_variable_called_path_is_not_taken_for_ours(monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.setenv("LOCATION", "somewhere")
    assert configuration().connection.url == "http://localhost:6333"


@pytest.mark.parametrize(
    ("file", "section"),
    [
        ("secrets.toml", "destination.qdrant"),
        ("secrets.toml", "destination.qdrant.credentials"),
        ("config.toml", "destination.qdrant"),  # dlt lets no credentials be in here
    ],
)
def test_the_place_can_be_written_into_toml_files(file, section):
    write_toml(file, f'[{section}]\nlocation = "https://q.example:7000"\n')
    assert configuration().connection.url == "https://q.example:7000"
    write_toml(file, f'[{section}]\npath = "/somewhere/else"\n')
    assert configuration().connection.path == "/somewhere/else"


def test_the_key_and_the_client_options_can_be_written_into_toml_files():
    write_toml(
        "secrets.toml",
        """
[destination.qdrant.credentials]
location = "q.example"
api_key = "very-secret"
[destination.qdrant.options]
port = 7000
grpc_port = 7001
prefer_grpc = true
prefix = "service/v1"
timeout = 9
[destination.qdrant]
model = "BAAI/bge-base-en"
embedding_batch_size = 8
embedding_parallelism = 3
upload_batch_size = 10
upload_parallelism = 2
upload_max_retries = 7
dataset_separator = "-"
""",
    )
    config = configuration()
    connection = config.connection
    assert connection.url == "https://q.example:7000"  # a key goes to another machine with TLS
    assert connection.api_key == "very-secret"
    assert (connection.grpc_port, connection.prefer_grpc) == (7001, True)
    assert (connection.prefix, connection.timeout, connection.max_retries) == ("service/v1", 9, 7)
    assert config.embedding.vector_name == "fast-bge-base-en"
    assert (config.embedding.batch_size, config.embedding.parallelism) == (8, 3)
    assert (config.upload_batch_size, config.upload_parallelism) == (10, 2)
    assert config.collection_name("films", "actors") == "films-actors"


@pytest.mark.parametrize("name", [None, "vectors"])
def test_an_embedding_service_can_be_written_into_toml_files(name):
    section = f"[destination.{name or 'qdrant'}]\n"
    write_toml("secrets.toml", f'{section}embedding_api_key = "very-secret"\n')
    write_toml(
        "config.toml", f'{section}embedding_url = "http://e/v1"\nembedding_dimensions = 512\n'
    )
    service = configuration(qdrant(destination_name=name)).embedding.service
    assert (service.url, service.api_key, service.dimensions) == ("http://e/v1", "very-secret", 512)


def test_a_service_that_the_code_names_wins_over_the_configuration(monkeypatch):
    monkeypatch.setenv("DESTINATION__QDRANT__EMBEDDING_URL", "http://configured/v1")
    service = configuration(qdrant(embedding_url="http://mine/v1")).embedding.service
    assert service.url == "http://mine/v1"


def test_environment_variables_of_other_programs_are_not_taken_for_a_service(monkeypatch):
    for name in ("EMBEDDING_URL", "EMBEDDING_API_KEY", "EMBEDDING_DIMENSIONS"):
        monkeypatch.setenv(name, "17")
    assert configuration().embedding.service is None


def test_options_come_from_environment_variables(monkeypatch):
    monkeypatch.setenv("DESTINATION__QDRANT__CREDENTIALS__LOCATION", "http://q.example")
    monkeypatch.setenv("DESTINATION__QDRANT__CREDENTIALS__API_KEY", "very-secret")
    monkeypatch.setenv("DESTINATION__QDRANT__OPTIONS__PORT", "7000")
    monkeypatch.setenv("DESTINATION__QDRANT__UPLOAD_BATCH_SIZE", "5")
    config = configuration()
    assert config.connection.url == "http://q.example:7000"
    assert config.upload_batch_size == 5


def test_the_place_comes_from_environment_variables(monkeypatch):
    monkeypatch.setenv("DESTINATION__QDRANT__LOCATION", "http://q.example")
    assert configuration().connection.url == "http://q.example:6333"
    monkeypatch.delenv("DESTINATION__QDRANT__LOCATION")
    monkeypatch.setenv("DESTINATION__QDRANT__OPTIONS__HOST", "q.example")
    assert configuration().connection.url == "http://q.example:6333"
    monkeypatch.delenv("DESTINATION__QDRANT__OPTIONS__HOST")
    monkeypatch.setenv("DESTINATION__QDRANT__OPTIONS__PATH", "/somewhere")
    assert configuration().connection.path == "/somewhere"


def test_names_of_dlts_own_destination_are_understood(monkeypatch):
    monkeypatch.setenv("DESTINATION__QDRANT__QD_LOCATION", "http://q.example")
    assert configuration().connection.url == "http://q.example:6333"
    monkeypatch.delenv("DESTINATION__QDRANT__QD_LOCATION")
    monkeypatch.setenv("DESTINATION__QDRANT__QD_PATH", "/somewhere")
    assert configuration().connection.path == "/somewhere"


def test_arguments_win_over_configuration(monkeypatch):
    monkeypatch.setenv("DESTINATION__QDRANT__LOCATION", "http://q.example")
    monkeypatch.setenv("DESTINATION__QDRANT__MODEL", "BAAI/bge-base-en")
    config = configuration(qdrant(location="http://other.example", model="BAAI/bge-large-en"))
    assert config.connection.url == "http://other.example:6333"
    assert config.model == "BAAI/bge-large-en"


@pytest.mark.parametrize(
    "credentials",
    [
        "http://q.example:7000",
        {"location": "http://q.example:7000"},
        QdrantCredentials(location="http://q.example:7000"),
    ],
)
def test_credentials_may_be_a_url_a_dict_or_an_object(credentials):
    assert configuration(qdrant(credentials)).connection.url == "http://q.example:7000"


def test_credentials_may_be_a_client_that_stays_open(tmp_path):
    from qdrant_client import QdrantClient

    client = QdrantClient(":memory:")
    pipeline = dlt.pipeline("films", destination=qdrant(client), pipelines_dir=str(tmp_path))
    pipeline.run(dlt.resource([{"title": "Moon"}], name="films"))
    assert client.count("films").count == 1


def test_a_relative_path_lies_in_the_working_directory(tmp_path):
    assert configuration(qdrant(path="data")).connection.path == str(tmp_path / "data")


def test_it_is_found_by_reference_and_as_a_named_destination(tmp_path):
    by_reference = Destination.from_reference("dagster_qdrant.destination.qdrant")
    assert isinstance(by_reference, qdrant)
    write_toml(
        "config.toml",
        """
[destination.films_store]
destination_type = "dagster_qdrant.destination.qdrant"
location = ":memory:named"
""",
    )
    pipeline = dlt.pipeline("films", destination="films_store", pipelines_dir=str(tmp_path))
    pipeline.run(dlt.resource([{"title": "Moon"}], name="films"))
    with pipeline.destination_client() as client:
        assert client.config.connection.location == ":memory:named"
        assert client.collections.count("films") == 1


def test_a_plain_script_without_a_main_guard_loads(tmp_path, model):
    script = tmp_path / "script.py"
    script.write_text(
        """
import sys
import dlt
from dagster_qdrant import qdrant_adapter
films = [{"title": f"Film number {n}"} for n in range(50)]
pipeline = dlt.pipeline("films", destination="dagster_qdrant.destination.qdrant")
pipeline.run(qdrant_adapter(films, embed="title"), table_name="films")
assert "dagster" not in sys.modules, "the destination imports dagster"
with pipeline.destination_client() as client:
    print("loaded", client.collections.count("films"))
"""
    )
    environment = {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PATH": "/usr/bin",
        "HOME": str(tmp_path),
        "DLT_DATA_DIR": str(tmp_path / "dlt"),  # for root, dlt has one outside of HOME
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "DESTINATION__QDRANT__PATH": str(tmp_path / "qdrant"),
        "DESTINATION__QDRANT__MODEL": model["model"],
        "DESTINATION__QDRANT__MODEL_PATH": model["model_path"],
    }
    result = subprocess.run(
        [sys.executable, script],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "loaded 50" in result.stdout, result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"location": "http://a", "path": "/b"}, "`location` and `path` are both set"),
        ({"location": "http://a", "options": {"host": "b"}}, "`location` and `host` are both set"),
        ({"location": "http://a", "options": {"https": True}}, "starts with 'http://'"),
        ({"location": "http://a:1", "options": {"port": 2}}, "names port 1 and `port` is 2"),
        ({"location": "http://a/x", "options": {"prefix": "y"}}, "and `prefix` is 'y'"),
        ({"location": "http://u:p@a"}, "holds a user name, a password"),
        ({"location": "ftp://a"}, "no URL of a server"),
        ({"location": "http://a:b"}, "no URL"),
        ({"path": "/b", "credentials": {"api_key": "k"}}, "`api_key` cannot take effect"),
        ({"path": "/b", "options": {"prefer_grpc": True}}, "`prefer_grpc` cannot take effect"),
        ({"path": "/b", "options": {"https": True}}, "`https` cannot take effect"),
        ({"path": "/b", "options": {"prefix": "x"}}, "`prefix` cannot take effect"),
        ({"path": "/b", "options": {"port": 7000}}, "`port` cannot take effect"),
        ({"path": "/b", "options": {"grpc_port": 7000}}, "`grpc_port` cannot take effect"),
        ({"path": "/b", "upload_parallelism": 2}, "`upload_parallelism` is 2, but local mode"),
        ({"location": ":memory:", "credentials": {"api_key": "k"}}, "`api_key` cannot take effect"),
        ({"options": {"timeout": 0}}, "`timeout` is 0"),
        ({"upload_max_retries": -1}, "`upload_max_retries` is -1"),
        ({"upload_batch_size": 0}, "`upload_batch_size` is 0"),
        ({"upload_parallelism": 0}, "`upload_parallelism` is 0"),
        ({"embedding_batch_size": 0}, "`embedding_batch_size` is 0"),
        ({"embedding_parallelism": -1}, "`embedding_parallelism` is -1"),
        ({"threads": 0}, "`threads` is 0"),
        ({"model_path": "/m", "cache_dir": "/c"}, "`cache_dir` cannot take effect"),
        ({"model_path": "/m", "local_files_only": True}, "`local_files_only` cannot take effect"),
        ({"cuda": True, "providers": ["CPUExecutionProvider"]}, "`cuda` and `providers` are both"),
        ({"cuda": False, "providers": ["CPUExecutionProvider"]}, "`cuda` and `providers` are both"),
        ({"device_ids": [0]}, "`device_ids` names GPUs, but `cuda` does not ask for one"),
        ({"device_ids": [0], "cuda": False}, "`device_ids` names GPUs"),
        ({"device_ids": [-1], "cuda": True}, "GPUs are counted from 0"),
        ({"write_ordering": "string"}, "`write_ordering` is 'string'; it must be 'weak'"),
        ({"read_consistency": "most"}, "`read_consistency` is 'most'; it must be 'majority'"),
        ({"read_consistency": "0"}, "`read_consistency` is '0'"),
        ({"path": "/b", "write_ordering": "strong"}, "`write_ordering` cannot take effect"),
        ({"path": "/b", "read_consistency": "all"}, "`read_consistency` cannot take effect"),
        ({"embedding_url": ""}, "`embedding_url` is empty, so it names no service"),
        ({"embedding_url": "http://a"}, "does not say by its end which API"),
        ({"embedding_url": "http://a/v1", "model_path": "/m"}, "`model_path` cannot take effect"),
        ({"embedding_url": "http://a/v1", "embedding_dimensions": 0}, "`embedding_dimensions` is"),
        ({"embedding_api_key": "k"}, "`embedding_api_key` cannot take effect without `embedding_"),
        ({"embedding_dimensions": 8}, "`embedding_dimensions` cannot take effect without"),
        ({"modle": "x"}, "has no option `modle`. Did you mean `model`.*embedding_url"),
        ({"options": {"prt": 1}}, "has no option `options.prt`.*options.port"),
        ({"credentials": {"key": "k"}}, "has no option `credentials.key`.*credentials.api_key"),
    ],
)
def test_an_option_that_cannot_work_or_take_effect_is_refused(options, message):
    with pytest.raises(QdrantConfigurationError, match=message):
        configuration(qdrant(**options))


def test_two_places_that_differ_are_refused_wherever_they_are_written(monkeypatch):
    monkeypatch.setenv("DESTINATION__QDRANT__LOCATION", "http://a")
    monkeypatch.setenv("DESTINATION__QDRANT__CREDENTIALS__LOCATION", "http://b")
    with pytest.raises(QdrantConfigurationError, match=r"`location` and `credentials.location`"):
        configuration()


def test_the_key_shows_nowhere():
    destination = qdrant(
        location="https://q.example", credentials={"api_key": "very-secret", "location": None}
    )
    config = configuration(destination)
    for text in (
        repr(config),
        str(config),
        repr(config.connection),
        str(config.connection),
        repr(config.credentials),
        repr(destination),
    ):
        assert "very-secret" not in text


def test_a_wrong_option_is_refused_where_the_type_comes_from_the_configuration(
    monkeypatch, tmp_path
):
    """dlt takes its own destination where a factory raises, and says nothing."""
    monkeypatch.setenv("DESTINATION__QDRANT__DESTINATION_TYPE", "dagster_qdrant.destination.qdrant")
    destination = dlt.destination("qdrant", modle="x")
    with pytest.raises(QdrantConfigurationError, match="has no option `modle`"):
        dlt.pipeline("films", destination=destination, pipelines_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("section", "name", "alike"),
    [
        ("destination.qdrant", "modle", "`model`"),
        ("destination.qdrant.options", "prefer_gprc", "`prefer_grpc`"),
        ("destination.qdrant.credentials", "apikey", "`api_key`"),
    ],
)
@pytest.mark.parametrize("file", ["config.toml", "secrets.toml", None])
def test_an_option_in_the_configuration_that_there_is_not_is_refused(
    monkeypatch, section, name, alike, file
):
    if file == "config.toml" and "credentials" in section:
        section, name, alike = "destination.qdrant", "credential", "`credentials`"
    if file:
        write_toml(file, f'[{section}]\n{name} = "secret"\n')
    else:
        monkeypatch.setenv(f"{section}.{name}".replace(".", "__").upper(), "secret")
    with pytest.raises(QdrantConfigurationError, match=f"sets `{name}`.*mean .*{alike}") as refused:
        configuration()
    assert (file or "DESTINATION__QDRANT__") in str(refused.value)
    assert "secret" not in str(refused.value).replace("secrets.toml", "")


def test_options_of_other_destinations_are_nobodys_mistake(monkeypatch):
    monkeypatch.setenv("DESTINATION__QDRANT_TOO__MODLE", "x")
    monkeypatch.setenv("DESTINATION__MODLE", "x")
    write_toml("config.toml", '[destination]\nmodle = "x"\n[destination.duckdb]\nmodle = "x"\n')
    assert configuration().model == "BAAI/bge-small-en"


def test_what_the_destination_can_do_is_told_without_its_options(monkeypatch):
    """dlt asks some twenty times a load, and its options take milliseconds to resolve."""
    destination = qdrant(path="data")
    monkeypatch.setattr(qdrant, "configuration", lambda *_, **__: pytest.fail("resolved"))
    assert destination.capabilities().preferred_loader_file_format == "jsonl"
