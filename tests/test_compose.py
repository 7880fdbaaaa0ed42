"""The team's deployment fits together, as far as that can be told without containers."""

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from dagster._core.instance.ref import InstanceRef

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "deploy/Dockerfile"


def read(file: str) -> Any:
    return yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return read("compose.yaml")["services"]


def values(environment: dict[str, str]) -> dict[str, str]:
    """An environment whose secrets are set."""
    return {
        name: re.sub(r"\$\{\w+:\?.*?\}", "a-secret", value) for name, value in environment.items()
    }


def of_dagster(services: dict[str, Any]) -> dict[str, Any]:
    return {name: service for name, service in services.items() if "build" in service}


def test_services_name_each_other_and_volumes_that_there_are(services):
    volumes = set(read("compose.yaml")["volumes"])
    used = {mount.split(":")[0] for each in services.values() for mount in each["volumes"]}
    assert used == volumes
    for service in services.values():
        assert set(service.get("depends_on", ())) <= set(services)
        for name, needed in service.get("depends_on", {}).items():
            healthy = needed["condition"] == "service_healthy"
            assert healthy == ("healthcheck" in services[name])
        for port in service.get("ports", ()):  # nothing is open to other machines
            assert port.startswith("127.0.0.1:")


def test_commands_are_those_of_dagster(services, monkeypatch):
    monkeypatch.chdir(ROOT / "deploy")
    from dagster._cli import create_dagster_cli
    from dagster._daemon.cli import create_dagster_daemon_cli
    from dagster_webserver.cli import dagster_webserver

    commands: dict[str, click.Command] = {
        "dagster": create_dagster_cli(),
        "dagster-daemon": create_dagster_daemon_cli(),
        "dagster-webserver": dagster_webserver,
    }
    for service in of_dagster(services).values():
        name, *arguments = shlex.split(service["command"])
        command = commands[name]
        while isinstance(command, click.Group):
            command, arguments = command.commands[arguments[0]], arguments[1:]
        command.make_context(name, arguments)  # refuses what it does not know


def test_the_webserver_and_the_daemon_look_where_the_code_is_served(services):
    [location] = read("deploy/workspace.yaml")["load_from"]
    code = services[location["grpc_server"]["host"]]
    assert f"-p {location['grpc_server']['port']} " in code["command"]
    for service in of_dagster(services).values():
        assert set(service["volumes"]) >= {"storage:/opt/dagster/storage"}


def test_the_image_is_built_from_what_is_in_the_repository(services):
    for service in of_dagster(services).values():
        assert (ROOT / service["build"]["dockerfile"]) == DOCKERFILE
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (.*)$", DOCKERFILE.read_text(), flags=re.MULTILINE):
        *sources, _ = line.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert f"!{source.split('/')[0]}" in ignored


def test_dagsters_settings_are_valid(services, monkeypatch):
    settings = InstanceRef.from_dir(str(ROOT / "deploy"))
    storage = settings.storage_data.config_dict["postgres_db"]
    for name in re.findall(r"env: (\w+)", (ROOT / "deploy/dagster.yaml").read_text()):
        assert all(name in service["environment"] for service in of_dagster(services).values())
    assert storage["username"] == services["postgres"]["environment"]["POSTGRES_USER"]
    assert storage["db_name"] == services["postgres"]["environment"]["POSTGRES_DB"]


def test_the_example_reads_the_environment_of_its_service(services, monkeypatch, tmp_path):
    given = values(services["code"]["environment"])
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("EXAMPLE_DATA_DIR", str(tmp_path))
    from example_project.settings import data_dir, qdrant_resource

    connection = qdrant_resource().configuration().connection
    assert str(connection) == "http://qdrant:6333"
    assert data_dir() == tmp_path
    mounts = dict(mount.split(":") for mount in services["code"]["volumes"])
    assert mounts["data"] == given["EXAMPLE_DATA_DIR"]
    asked = services["qdrant"]["environment"]["QDRANT__SERVICE__API_KEY"]
    assert services["code"]["environment"]["QDRANT_API_KEY"] == asked
