"""The factory as YAML, in a project of `dg`."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import dlt
import pytest
import yaml
from dagster.components.testing import create_defs_folder_sandbox

from dagster_qdrant import QdrantCollectionsComponent, QdrantResource
from dagster_qdrant.component import QdrantLoad

FILMS = dg.AssetKey(["movies", "films"])


@pytest.fixture(autouse=True)
def _packaged_model(model, monkeypatch):
    monkeypatch.setenv("DESTINATION__QDRANT__MODEL", model["model"])
    monkeypatch.setenv("DESTINATION__QDRANT__MODEL_PATH", model["model_path"])


@pytest.fixture
def sandbox():
    with create_defs_folder_sandbox() as sandbox:
        yield sandbox


@contextmanager
def loaded(sandbox, *loads, loads_py=None, post_processing=None, **attributes):
    """The definitions of a component with these attributes; without any, of the scaffolded one."""
    path = sandbox.scaffold_component(QdrantCollectionsComponent, defs_path="my_load")
    if loads:
        attributes = {"loads": list(loads), **attributes}
        written = {"type": "dagster_qdrant.QdrantCollectionsComponent", "attributes": attributes}
        if post_processing:
            written["post_processing"] = post_processing
        (path / "defs.yaml").write_text(yaml.safe_dump(written, sort_keys=False))
    if loads_py:
        (path / "loads.py").write_text(loads_py)
    with sandbox.load_component_and_build_defs(path) as (_, defs):
        yield defs


def load(**changes):
    return {"source": ".loads.films", "dataset_name": "movies", **changes}


def specs(defs):
    return [spec for assets in defs.assets for spec in assets.specs]


def materialize(defs, **resources):
    assets = list(defs.assets)
    dg.Definitions.validate_loadable(dg.Definitions(assets=assets, resources=resources))
    return dg.materialize(assets, resources=resources)


def test_what_is_scaffolded_runs(sandbox):
    with loaded(sandbox) as defs:
        assert materialize(defs).success
    qdrant = QdrantResource(path=str(sandbox.project_root / "qdrant"))
    [hit] = qdrant.search("movies", "films", "a danger in the sea", limit=1)
    assert hit.payload["title"] == "Jaws"


def test_scaffolding_again_leaves_the_code_alone(sandbox):
    path = sandbox.scaffold_component(QdrantCollectionsComponent, defs_path="my_load")
    (path / "loads.py").write_text("# mine")
    sandbox.scaffold_component(QdrantCollectionsComponent, defs_path="my_load")
    assert (path / "loads.py").read_text() == "# mine"


def test_a_load_takes_what_the_factory_takes(sandbox):
    given = load(
        embed={"films": "title"},
        name="load_films",
        pipeline_name="kept",
        checks="blocking",
        translation={"group_name": "search", "metadata": {"holds": "{{ collection }}"}},
    )
    with loaded(sandbox, given) as defs:
        [assets] = defs.assets
        [spec] = assets.specs
        assert (spec.key, spec.group_name) == (FILMS, "search")
        assert (spec.metadata["holds"], spec.metadata["embed"]) == ("movies_films", "title")
        assert assets.op.name == "load_films"
        assert assets.check_keys
        assert all(check.blocking for check in assets.check_specs)
        result = materialize(defs, qdrant=QdrantResource(location=":memory:component"))
        assert result.success
        assert all(check.passed for check in result.get_asset_check_evaluations())
    with QdrantResource(location=":memory:component").get_client() as client:
        [state] = client.scroll("movies__dlt_pipeline_state")[0]
    assert state.payload["pipeline_name"] == "kept"


@pytest.mark.parametrize(
    "code",
    [
        "films = dlt.resource([{'id': 1}], name='films')",
        "films = [dlt.resource([{'id': 1}], name='films')]",
        "@dlt.source\ndef films():\n    return dlt.resource([{'id': 1}], name='films')",
        "def films():\n    return dlt.resource([{'id': 1}], name='films')",
    ],
    ids=["a resource", "a list", "a source function", "a function"],
)
@pytest.mark.parametrize("path", [".loads.films", "{project}.defs.my_load.loads.films"])
def test_a_source_is_named_by_its_path(sandbox, code, path):
    source = path.format(project=sandbox.project_name)
    with loaded(sandbox, load(source=source), loads_py=f"import dlt\n{code}\n") as defs:
        assert [spec.key for spec in specs(defs)] == [FILMS]


def test_assets_that_are_post_processed_run_with_their_checks(sandbox):
    given = load(embed={"films": "title"}, checks=True)
    attributes = {"group_name": "search", "deps": ["upstream"], "owners": ["team:search"]}
    post_processing = {"assets": [{"target": "*", "attributes": attributes}]}
    with loaded(sandbox, given, post_processing=post_processing) as defs:
        [spec] = specs(defs)
        assert (spec.group_name, spec.owners) == ("search", ["team:search"])
        result = materialize(defs, qdrant=QdrantResource(location=":memory:processed"))
    [event] = result.get_asset_materialization_events()
    assert event.asset_key == FILMS
    assert len(result.get_asset_check_evaluations()) == 6


def test_two_loads_may_share_a_source(sandbox):
    loads = [load(embed={"films": "title"}), load(dataset_name="others")]
    with loaded(sandbox, *loads) as defs:
        embedded = {spec.key: spec.metadata.get("embed") for spec in specs(defs)}
    assert embedded == {FILMS: "title", dg.AssetKey(["others", "films"]): None}


def test_the_key_comes_from_an_environment_variable_and_is_not_stored(sandbox, monkeypatch):
    monkeypatch.setenv("THE_KEY", "very-secret")
    qdrant = {"location": "https://qdrant.example", "api_key": "{{ env.THE_KEY }}"}
    with loaded(sandbox, load(), qdrant=qdrant) as defs:
        [assets] = defs.assets
        stored = assets.resource_defs["qdrant"].configurable_resource_cls
        assert stored is QdrantResource
        config = assets.resource_defs["qdrant"].config_schema.default_value
    assert config["location"] == "https://qdrant.example"
    assert config["api_key"] == {"env": "THE_KEY"}


class TestMistakes:
    @staticmethod
    def refused(sandbox, *loads, **attributes) -> str:
        with (
            pytest.raises(Exception, match="my_load") as refused,
            loaded(sandbox, *loads, **attributes),
        ):
            pass
        error = refused.value
        while error.__cause__ is not None:
            error = error.__cause__
        return str(error)

    def test_a_resource_that_is_not_there(self, sandbox):
        said = self.refused(sandbox, load(embed={"actors": "name"}))
        assert "defs.yaml:7 - attributes.loads.0.embed.actors" in said
        assert "`embed` names the resource `actors`" in said
        assert "It has `films`" in said

    def test_a_source_that_is_not_there(self, sandbox):
        for source in (".loads.series", ".series.all", "nowhere", "no.such.module"):
            said = self.refused(sandbox, load(source=source))
            assert "defs.yaml:4 - attributes.loads.0.source" in said
            assert f"`source` is '{source}', which cannot be imported" in said

    def test_a_source_that_is_none(self, sandbox):
        said = self.refused(sandbox, load(source=".loads.__name__"))
        assert "defs.yaml:4 - attributes.loads.0.source" in said
        assert "`source` is a str; it must be a dlt source" in said

    def test_an_attribute_that_there_is_not(self, sandbox):
        assert "dataset" in self.refused(sandbox, {"source": ".loads.films", "dataset": "movies"})
        assert "locatoin" in self.refused(sandbox, load(), qdrant={"locatoin": "http://x"})

    def test_checks_that_there_are_not(self, sandbox):
        said = self.refused(sandbox, load(checks="always"))
        assert "defs.yaml:6 - attributes.loads.0.checks" in said
        assert 'it must be True, False or "blocking"' in said

    def test_a_key_in_the_yaml_is_refused_and_not_shown(self, sandbox):
        said = self.refused(sandbox, load(), qdrant={"api_key": "very-secret"})
        assert "`api_key` must name an environment variable" in said
        assert "defs.yaml:" in said
        assert "very-secret" not in said


def test_in_python_it_takes_the_same():
    class Searched(QdrantCollectionsComponent):
        def get_asset_spec(self, data):
            return super().get_asset_spec(data).replace_attributes(owners=["team:search"])

    from dagster.components.core.component_tree import ComponentTree

    source = dlt.resource([{"id": 1}], name="films")
    context = ComponentTree.for_test().load_context
    defs = Searched(loads=[QdrantLoad(source, "movies")]).build_defs(context)
    [spec] = specs(defs)
    assert (spec.key, spec.owners) == (FILMS, ["team:search"])
    unknown = QdrantLoad(source, "movies", embed={"actors": "name"})
    with pytest.raises(ValueError, match="`embed` names the resource `actors`"):
        Searched(loads=[unknown]).build_defs(context)


def test_dg_lists_scaffolds_and_checks_it(tmp_path):
    package = tmp_path / "src" / "cinema"
    (package / "defs").mkdir(parents=True)
    for folder in (package, package / "defs"):
        (folder / "__init__.py").touch()
    (package / "definitions.py").write_text(
        "from pathlib import Path\n"
        "from dagster import definitions, load_from_defs_folder\n\n\n"
        "@definitions\n"
        "def defs():\n"
        "    return load_from_defs_folder(path_within_project=Path(__file__).parent)\n"
    )
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "cinema"\nversion = "0"\n\n'
        '[tool.dg]\ndirectory_type = "project"\n\n'
        '[tool.dg.project]\nroot_module = "cinema"\n'
    )
    bin_folder = Path(sys.executable).parent
    environment = os.environ | {
        "PYTHONPATH": str(tmp_path / "src"),
        "PATH": os.pathsep.join([str(bin_folder), os.environ["PATH"]]),
        "DG_CLI_CONFIG": str(tmp_path / "none.toml"),
        "COLUMNS": "200",
    }

    def dg_cli(*arguments: str) -> str:
        done = subprocess.run(
            [bin_folder / "dg", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    component = "dagster_qdrant.QdrantCollectionsComponent"
    assert component in dg_cli("list", "components")
    dg_cli("scaffold", "defs", component, "my_load")
    dg_cli("check", "defs")  # it checks the YAML first
