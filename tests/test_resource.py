"""`QdrantResource`: its fields, its secrets, and what it opens."""

import warnings

import dagster as dg
import dlt
import pytest
from dagster import EnvVar

from dagster_qdrant import QdrantConfigurationError, QdrantResource
from dagster_qdrant.destination.configuration import QdrantDestinationConfiguration
from tests.targets import Target

pytestmark = pytest.mark.in_memory

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
        query_prefix="question: ",
        passage_prefix="",
        embedding_batch_size=6,
        embedding_parallelism=7,
        upload_batch_size=8,
        upload_parallelism=9,
        upload_max_retries=10,
        write_ordering="strong",
        read_consistency="2",
    )
    config = resource.configuration()
    connection, embedding = config.connection, config.embedding
    assert connection.url == "http://q.example:1"
    assert (connection.api_key, connection.grpc_port, connection.prefer_grpc) == ("k", 2, True)
    assert (connection.prefix, connection.timeout, connection.lock_timeout) == ("p", 3, 4)
    assert (connection.max_retries, config.dataset_separator) == (10, "-")
    assert (embedding.model, embedding.cache_dir) == ("BAAI/bge-base-en", "/c")
    assert (embedding.local_files_only, embedding.threads) == (True, 5)
    assert embedding.prefixes == ("question: ", "")
    assert embedding.providers == ("CPUExecutionProvider",)
    assert (embedding.batch_size, embedding.parallelism) == (6, 7)
    assert (config.upload_batch_size, config.upload_parallelism) == (8, 9)
    assert (connection.write_ordering, connection.read_consistency) == ("strong", "2")
    gpus = QdrantResource(cuda=True, device_ids=[1, 0]).configuration().embedding
    assert (gpus.cuda, gpus.device_ids) == (True, (1, 0))
    served = QdrantResource(
        embedding_url="http://e/v1",
        embedding_api_key="k",
        embedding_dimensions=6,
        timeout=7,
        upload_max_retries=8,
    )
    service = served.configuration().embedding.service
    assert (service.url, service.api_key, service.dimensions) == ("http://e/v1", "k", 6)
    assert (service.timeout, service.max_retries) == (7, 8)
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


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("location", EnvVar("NOT_SET")),
        ("api_key", EnvVar("NOT_SET")),
        ("port", EnvVar.int("NOT_SET")),
        ("providers", ["CPUExecutionProvider", EnvVar("NOT_SET")]),
        ("device_ids", [EnvVar.int("NOT_SET")]),
    ],
    ids=["location", "api_key", "port", "providers", "device_ids"],
)
def test_an_environment_variable_that_is_not_set_is_named_with_its_field(field, value):
    resource = QdrantResource(**{field: value})
    for use in (
        resource.configuration,
        resource.destination,
        lambda: resource.get_client().__enter__(),
        lambda: resource.search("movies", "films", "robots"),
    ):
        with pytest.raises(QdrantConfigurationError, match=f"`{field}` .*NOT_SET.* is not set"):
            use()


def test_environment_variables_within_a_list_are_read(monkeypatch):
    monkeypatch.setenv("A_PROVIDER", "CPUExecutionProvider")
    monkeypatch.setenv("A_DEVICE", "3")
    resource = QdrantResource(
        providers=[EnvVar("A_PROVIDER")], cuda=True, device_ids=[EnvVar.int("A_DEVICE")]
    )
    given = resource._given()
    assert (given["providers"], given["device_ids"]) == (["CPUExecutionProvider"], [3])


def test_an_environment_variable_that_is_no_number_is_named_and_not_shown(monkeypatch):
    monkeypatch.setenv("QDRANT_PORT", SECRET)
    with pytest.raises(QdrantConfigurationError, match="`port` .*QDRANT_PORT.* no number") as error:
        QdrantResource(port=EnvVar.int("QDRANT_PORT")).configuration()
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("field", ["location", "path"])
def test_an_environment_variable_that_is_set_to_nothing_is_no_default(monkeypatch, field):
    monkeypatch.setenv("EMPTY", "")
    resource = QdrantResource(**{field: EnvVar("EMPTY")})
    with pytest.raises(QdrantConfigurationError, match=f"`{field}` is empty"):
        resource.configuration()
    with (
        dg.build_resources({"qdrant": resource}) as resources,
        pytest.raises(QdrantConfigurationError, match=f"`{field}` is empty"),
    ):
        resources.qdrant.configuration()


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("pth", "path"), ("url", None), ("apikey", "api_key"), ("embed_batch_size", "batch_size")],
)
def test_a_field_that_there_is_not_is_refused_with_the_nearest_one(name, nearest):
    with pytest.raises(QdrantConfigurationError, match=f"has no field `{name}`") as error:
        QdrantResource(**{name: SECRET})
    assert (nearest is None) or (f"{nearest}`?" in str(error.value))
    assert SECRET not in str(error.value)


def test_a_field_that_there_is_not_is_refused_where_the_rest_is_configured_at_launch():
    with pytest.raises(QdrantConfigurationError, match="has no field `pth`"):
        QdrantResource.configure_at_launch(pth="/b")


@pytest.mark.parametrize(
    ("resource", "key"),
    [
        (QdrantResource(location="http://q:1", api_key=dg.EnvVar("KEY_OF_A_TEST")), "real"),
        (QdrantResource(path="data"), None),
        (QdrantResource.configure_at_launch(location="http://q:1"), None),
    ],
)
def test_asterisks_of_the_launchpad_are_no_key(resource, key, monkeypatch):
    monkeypatch.setenv("KEY_OF_A_TEST", "real")

    @dg.asset
    def keys(qdrant: QdrantResource):
        return qdrant.configuration().connection.api_key

    shown = {"api_key": "********", "embedding_api_key": "********"}
    result = dg.materialize(
        [keys],
        resources={"qdrant": resource},
        run_config={"resources": {"qdrant": {"config": shown}}},
    )
    assert result.output_for_node("keys") == key


def test_fields_may_be_configured_at_launch():
    configured = {"qdrant": {"config": {"location": ":memory:launched"}}}
    result = dg.materialize(
        [collections],
        resources={"qdrant": QdrantResource.configure_at_launch(timeout=5)},
        run_config={"resources": configured},
    )
    assert result.output_for_node("collections") == 0


class Holder(dg.ConfigurableResource):
    qdrant: QdrantResource


@pytest.mark.parametrize(
    "qdrant", [QdrantResource(location=":memory:held"), QdrantResource.configure_at_launch()]
)
def test_another_resource_may_hold_it(qdrant):
    @dg.asset
    def location(holder: Holder) -> str:
        return holder.qdrant.location

    resources = {"qdrant": qdrant, "holder": Holder(qdrant=qdrant)}
    launched = {"resources": {"qdrant": {"config": {"location": ":memory:held"}}}}
    result = dg.materialize([location], resources=resources, run_config=launched)
    assert result.output_for_node("location") == ":memory:held"


def test_it_is_made_from_a_resource_context():
    context = dg.build_init_resource_context(config={"path": "/x"})
    resource = QdrantResource.from_resource_context(context)
    assert resource.configuration().connection.path == "/x"


class Cloud(QdrantResource):
    """A subclass with a field of its own, and another default."""

    team: str
    location: str = ":memory:cloud"


def test_a_subclass_with_a_field_of_its_own_works_in_and_out_of_a_run():
    cloud = Cloud(team="search")
    assert cloud.configuration().connection.location == ":memory:cloud"

    @dg.asset
    def teams(qdrant: Cloud) -> str:
        with qdrant.get_client() as client:
            client.get_collections()
        return qdrant.team

    result = dg.materialize([teams, collections], resources={"qdrant": cloud})
    assert result.output_for_node("teams") == "search"
    with pytest.raises(QdrantConfigurationError, match="`Cloud` has no field `tem`.*`team`"):
        Cloud(tem="search")


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


def test_options_are_checked_where_dagster_checks_definitions(monkeypatch):
    QdrantResource(path="a", location="http://q")  # a run says so; definitions load without a look
    monkeypatch.setenv("DAGSTER_IS_DEFS_VALIDATION_CLI", "1")
    with pytest.raises(QdrantConfigurationError, match="`location` and `path` are both set"):
        QdrantResource(path="a", location="http://q")
    with pytest.raises(QdrantConfigurationError, match="Did you mean BAAI/bge-small-en"):
        QdrantResource(model="BAAI/bge-smal-en")
    variables = {"location": EnvVar("NOT_SET"), "api_key": EnvVar("NOT_SET")}
    QdrantResource(**variables, model=EnvVar("NOT_SET"), upload_parallelism=EnvVar.int("NOT_SET"))
