"""`QdrantResource`: its fields, its secrets, and what it opens."""

import warnings

import dagster as dg
import dlt
import pytest
from dagster import EnvVar

from dagster_qdrant import QdrantConfigurationError, QdrantResource
from dagster_qdrant.destination.configuration import QdrantDestinationConfiguration
from tests.targets import Target

SECRET = "very-secret-key"


def test_every_option_of_the_destination_is_a_described_field():
    fields = QdrantResource.model_fields
    assert all(field.description for field in fields.values())
    options = set(QdrantDestinationConfiguration.get_resolvable_fields())
    of_dlt = {
        "credentials",
        "destination_name",
        "environment",
        "staging_dataset_name_layout",
        "enable_dataset_name_normalization",
        "info_tables_query_threshold",
        "options",
        "qd_location",
        "qd_path",
        "destination_type",
        # bound by a pipeline
        "dataset_name",
        "partition",
        "default_schema_name",
        "legacy_db_path",
        "local_dir",
        "pipeline_name",
        "pipeline_working_dir",
    }
    assert options - of_dlt <= set(fields)


def test_each_field_reaches_the_destination():
    resource = QdrantResource(
        location="q.example",
        api_key="k",
        port=1,
        grpc_port=2,
        prefer_grpc=True,
        https=False,
        prefix="p",
        timeout=3,
        lock_timeout=4,
        dataset_separator="-",
        model="BAAI/bge-base-en",
        cache_dir="/c",
        local_files_only=True,
        threads=5,
        providers=["CPUExecutionProvider"],
        embedding_batch_size=6,
        embedding_parallelism=7,
        upload_batch_size=8,
        upload_parallelism=9,
        upload_max_retries=10,
    )
    config = resource.configuration()
    connection, embedding = config.connection, config.embedding
    assert connection.url == "http://q.example:1"
    assert (connection.api_key, connection.grpc_port, connection.prefer_grpc) == ("k", 2, True)
    assert (connection.prefix, connection.timeout, connection.lock_timeout) == ("p", 3, 4)
    assert (connection.max_retries, config.dataset_separator) == (10, "-")
    assert (embedding.model, embedding.cache_dir) == ("BAAI/bge-base-en", "/c")
    assert (embedding.local_files_only, embedding.threads) == (True, 5)
    assert embedding.providers == ("CPUExecutionProvider",)
    assert (embedding.batch_size, embedding.parallelism) == (6, 7)
    assert (config.upload_batch_size, config.upload_parallelism) == (8, 9)
    gpus = QdrantResource(cuda=True, device_ids=[1, 0]).configuration().embedding
    assert (gpus.cuda, gpus.device_ids) == (True, (1, 0))
    assert QdrantResource(host="h").configuration().connection.url == "http://h:6333"
    assert QdrantResource(model_path="/m").configuration().embedding.model_path == "/m"
    assert QdrantResource(path="/p").configuration().connection.path == "/p"


def test_what_is_for_dagsters_pages_is_kept_from_the_destination():
    destination = QdrantResource(location="http://a", preview=False, vector_map=False).destination()
    assert repr(destination) == "qdrant(location='http://a')"


def test_fields_that_are_not_set_fall_through_to_dlts_configuration(monkeypatch):
    monkeypatch.setenv("DESTINATION__QDRANT__LOCATION", "https://from-dlt.example")
    monkeypatch.setenv("DESTINATION__QDRANT__CREDENTIALS__API_KEY", SECRET)
    monkeypatch.setenv("DESTINATION__QDRANT__OPTIONS__PORT", "7000")
    monkeypatch.setenv("DESTINATION__QDRANT__MODEL", "BAAI/bge-base-en")
    config = QdrantResource(timeout=9).configuration()
    assert config.connection.url == "https://from-dlt.example:7000"
    assert (config.connection.api_key, config.connection.timeout) == (SECRET, 9)
    assert config.model == "BAAI/bge-base-en"


def test_a_field_wins_over_dlts_configuration(monkeypatch):
    monkeypatch.setenv("DESTINATION__QDRANT__LOCATION", "https://from-dlt.example")
    config = QdrantResource(location="http://mine.example").configuration()
    assert config.connection.url == "http://mine.example:6333"


def test_the_client_is_closed_at_the_end_also_of_a_failure(qdrant_target: Target):
    resource = QdrantResource(**qdrant_target.options)
    with pytest.raises(ZeroDivisionError), resource.get_client() as client:
        client.get_collections()
        _ = 1 / 0
    if qdrant_target.kind == "rest":
        with pytest.raises(Exception, match="client has been closed"):
            client.get_collections()
    if qdrant_target.kind == "path":
        from qdrant_client import QdrantClient

        QdrantClient(path=qdrant_target.options["path"]).close()


def test_location_and_path_together_are_refused():
    with (
        pytest.raises(QdrantConfigurationError, match="`location` and `path` are both set"),
        QdrantResource(location="http://a", path="/b").get_client(),
    ):
        pass


def test_an_environment_variable_is_read_in_a_plain_script(monkeypatch):
    monkeypatch.setenv("QDRANT_KEY", SECRET)
    monkeypatch.setenv("QDRANT_PORT", "7000")
    resource = QdrantResource(
        host="a", api_key=EnvVar("QDRANT_KEY"), port=EnvVar.int("QDRANT_PORT")
    )
    assert resource.configuration().connection.api_key == SECRET
    assert resource.configuration().connection.port == 7000


def test_a_key_shows_in_no_text_of_the_resource(monkeypatch):
    assert SECRET not in repr(QdrantResource(location="http://a", api_key=SECRET))
    assert SECRET not in str(QdrantResource(location="http://a", api_key=SECRET))
    assert SECRET not in repr(QdrantResource(location="http://a", api_key=SECRET).destination())


@dg.asset
def collections(qdrant: QdrantResource) -> int:
    with qdrant.get_client() as client:
        return len(client.get_collections().collections)


def test_a_literal_key_warns_and_an_environment_variable_does_not(monkeypatch):
    with pytest.warns(UserWarning, match=r"api_key=EnvVar\('QDRANT_API_KEY'\)"):
        dg.Definitions(
            assets=[collections],
            resources={"qdrant": QdrantResource(location="http://a", api_key=SECRET)},
        ).get_repository_def()
    monkeypatch.setenv("QDRANT_KEY", SECRET)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        dg.Definitions(
            assets=[collections],
            resources={"qdrant": QdrantResource(location="http://a", api_key=EnvVar("QDRANT_KEY"))},
        ).get_repository_def()


def test_it_works_in_assets_ops_and_sensors(qdrant_target: Target):
    @dg.op
    def count(qdrant: QdrantResource) -> int:
        with qdrant.get_client() as client:
            return len(client.get_collections().collections)

    @dg.job
    def counting():
        count()

    @dg.sensor(job=counting)
    def watch(qdrant: QdrantResource):
        with qdrant.get_client() as client:
            yield dg.SkipReason(f"{len(client.get_collections().collections)} collections")

    resources = {"qdrant": QdrantResource(**qdrant_target.options)}
    assert dg.materialize([collections], resources=resources).success
    assert counting.execute_in_process(resources=resources).success
    context = dg.build_sensor_context(resources=resources)
    assert "collections" in watch.evaluate_tick(context).skip_message


def test_its_destination_serves_pipelines_of_ones_own(resource, dataset, qdrant_target, tmp_path):
    pipeline = dlt.pipeline(
        "own",
        destination=resource.destination(),
        dataset_name=dataset,
        pipelines_dir=str(tmp_path),
    )
    pipeline.run(dlt.resource([{"title": "Moon"}], name="films"))
    assert qdrant_target.rows(f"{dataset}_films") == [{"title": "Moon"}]
