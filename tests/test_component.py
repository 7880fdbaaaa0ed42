"""The factory as YAML, in a project of `dg`."""

import json
import os
from contextlib import contextmanager
from unittest.mock import patch

import dagster as dg
import dlt
import pytest
import yaml
from dagster.components.testing import create_defs_folder_sandbox

from dagster_qdrant import QdrantCollectionsComponent, QdrantResource, build_qdrant_checks
from dagster_qdrant.component import QdrantLoad

pytestmark = pytest.mark.in_memory

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
        deps={"films": "raw/films"},
        translation={"group_name": "search", "metadata": {"holds": "{{ collection }}"}},
    )
    with loaded(sandbox, given) as defs:
        [assets] = defs.assets
        [spec] = assets.specs
        assert [dep.asset_key.path for dep in spec.deps] == [["raw", "films"]]
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
    checked = {check.check_name for check in result.get_asset_check_evaluations()}
    assert {"all_rows_present", "search_finds_row"} < checked


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
        [stored] = [assets.resource_defs[key] for key in assets.op.required_resource_keys]
        assert stored.configurable_resource_cls is QdrantResource
        config = stored.config_schema.default_value
    assert config["location"] == "https://qdrant.example"
    assert config["api_key"] == {"env": "THE_KEY"}


class TestStores:
    """Each component has its own; several are one project."""

    @staticmethod
    def write(sandbox, folder, *documents):
        path = sandbox.scaffold_component(QdrantCollectionsComponent, defs_path=folder)
        written = [
            {"type": "dagster_qdrant.QdrantCollectionsComponent", "attributes": attributes}
            for attributes in documents
        ]
        (path / "defs.yaml").write_text(yaml.safe_dump_all(written, sort_keys=False))

    @staticmethod
    def films_in(location):
        with QdrantResource(location=location).get_client() as client:
            return {
                entry.name
                for entry in client.get_collections().collections
                if "films" in entry.name
            }

    def test_components_and_the_project_have_stores_of_their_own(self, sandbox):
        place = f":memory:{sandbox.project_name}"

        def attributes(name, **more):
            return {
                "loads": [load(dataset_name=name, embed={"films": "title"}, checks=True)],
                **more,
            }

        self.write(sandbox, "one", attributes("one", qdrant={"location": f"{place}-one"}))
        self.write(
            sandbox,
            "t-w/o",  # two in one file, and a name that Dagster allows for no resource
            attributes("two", qdrant={"location": f"{place}-two"}),
            attributes("three", qdrant={"location": f"{place}-three"}),
        )
        self.write(sandbox, "four", attributes("four"))
        self.write(sandbox, "five", attributes("five", resource_key="archive"))
        resources = {
            "qdrant": QdrantResource(location=f"{place}-project"),
            "archive": QdrantResource(location=f"{place}-archive"),
        }
        with sandbox.build_all_defs() as loaded_defs:
            defs = dg.Definitions.merge(loaded_defs, dg.Definitions(resources=resources))
            dg.Definitions.validate_loadable(defs)
            result = defs.resolve_implicit_global_asset_job_def().execute_in_process()
        assert result.success
        assert all(check.passed for check in result.get_asset_check_evaluations())
        stores = {
            "one": "one",
            "two": "two",
            "three": "three",
            "four": "project",
            "five": "archive",
        }
        for dataset, store in stores.items():
            assert self.films_in(f"{place}-{store}") == {f"{dataset}_films"}

    def test_checks_apart_ask_the_store_of_the_component(self, sandbox):
        with loaded(sandbox, load(), qdrant={"location": ":memory:checked-apart"}) as defs:
            checks = build_qdrant_checks(list(defs.assets))
            result = dg.materialize([*defs.assets, *checks])
        evaluations = result.get_asset_check_evaluations()
        assert evaluations
        assert all(check.passed for check in evaluations)

    def test_two_resources_for_one_component_are_refused(self):
        load = QdrantLoad(dlt.resource([{"id": 1}], name="films"), "movies")
        with pytest.raises(ValueError, match="`qdrant` and `resource_key` both name the resource"):
            QdrantCollectionsComponent(
                loads=[load], qdrant=QdrantResource(path="a"), resource_key="archive"
            )


def test_a_load_takes_what_the_adapter_takes(sandbox):
    given = load(
        embed={"films": "title"},
        keywords={"films": {"language": "german"}},
        index={"films": {"id": "integer", "title": {"type": "text", "lowercase": True}}},
        chunk={"films": {"tokens": 200, "kind": "markdown"}},
        collection={"films": {"on_disk": True, "hnsw_config": {"m": 24}}},
        vectors={"films": {"title": "title", "both": {"columns": ["id"], "distance": "Dot"}}},
    )
    with loaded(sandbox, given) as defs:
        [spec] = specs(defs)
    assert json.loads(spec.metadata["keywords"])["language"] == "german"
    assert json.loads(spec.metadata["chunk"]) == {"tokens": 200, "kind": "markdown", "overlap": 0}
    assert json.loads(spec.metadata["collection"]) == {"on_disk": True, "hnsw_config": {"m": 24}}
    assert json.loads(spec.metadata["vectors"]) == {
        "title": {"columns": ["title"]},
        "both": {"columns": ["id"], "distance": "Dot"},
    }
    assert json.loads(spec.metadata["index"]) == {
        "id": {"type": "integer"},
        "title": {"type": "text", "lowercase": True},
    }


def test_a_load_takes_what_dagster_knows_of_ops_and_partitions(sandbox):
    given = load(
        group_name="search",
        pool="qdrant",
        op_tags={"team": "search"},
        partitions_def={"type": "daily", "start_date": "2026-01-01"},
        backfill_policy={"type": "multi_run", "max_partitions_per_run": 5},
        retry_policy={"max_retries": 3, "delay": 0.5, "backoff": "exponential", "jitter": "full"},
    )
    with loaded(sandbox, given) as defs:
        [assets] = defs.assets
    [spec] = assets.specs
    assert spec.group_name == "search"
    assert spec.partitions_def == dg.DailyPartitionsDefinition("2026-01-01")
    assert assets.backfill_policy == dg.BackfillPolicy.multi_run(5)
    assert (assets.op.pool, assets.op.tags["team"]) == ("qdrant", "search")
    assert assets.op.retry_policy == dg.RetryPolicy(
        max_retries=3, delay=0.5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.FULL
    )


def test_a_load_names_its_workers(sandbox):
    given = load(workers=3, worker_tags={"gpu": "1"}, io_manager_key="bucket", pool="qdrant")
    with loaded(sandbox, given) as defs:
        [assets] = defs.assets
    steps = {step.name: step for step in assets.node_def.node_defs}
    assert len(assets.node_def.node_dict) == 5
    assert steps["load"].tags == {"gpu": "1"}
    assert {step.pool for step in steps.values()} == {"qdrant"}
    assert steps["extract"].output_def_named("part_3").io_manager_key == "bucket"


def test_a_load_takes_these_as_templates(sandbox):
    given = load(partitions_def="{{ years }}", retry_policy="{{ often }}")
    path = sandbox.scaffold_component(QdrantCollectionsComponent, defs_path="my_load")
    (path / "vars.py").write_text(
        "import dagster as dg\n\n\n"
        "@dg.template_var\ndef years():\n"
        "    return dg.StaticPartitionsDefinition(['1982'])\n\n\n"
        "@dg.template_var\ndef often():\n    return dg.RetryPolicy(max_retries=7)\n"
    )
    written = {
        "type": "dagster_qdrant.QdrantCollectionsComponent",
        "template_vars_module": ".vars",
        "attributes": {"loads": [given]},
    }
    (path / "defs.yaml").write_text(yaml.safe_dump(written, sort_keys=False))
    with sandbox.load_component_and_build_defs(path) as (_, defs):
        [assets] = defs.assets
    assert assets.partitions_def == dg.StaticPartitionsDefinition(["1982"])
    assert assets.op.retry_policy.max_retries == 7


OF_A_YEAR = """
import dlt

def rows(year):
    yield {"id": int(year), "title": f"A film of {year}"}
"""


@pytest.mark.parametrize(
    "code",
    [
        "def films(year):\n    return dlt.resource(rows(year), name='films', **hints)",
        "@dlt.source\ndef films(year):\n    return dlt.resource(rows(year), name='films', **hints)",
        "@dlt.resource(**hints)\ndef films(year):\n    yield from rows(year)",
    ],
    ids=["a function", "a source function", "a resource"],
)
def test_a_source_may_be_made_from_the_key_of_a_partition(sandbox, code):
    hints = "hints = {'write_disposition': 'replace', 'primary_key': 'id'}"
    location = f":memory:{sandbox.project_name}"
    given = load(
        embed={"films": "title"},
        partitions_def={"type": "static", "partition_keys": ["1982", "2009"]},
    )
    with loaded(
        sandbox,
        given,
        loads_py=f"{OF_A_YEAR}\n{hints}\n\n{code}\n",
        qdrant={"location": location},
    ) as defs:
        [assets] = defs.assets
        assert assets.keys == {FILMS}
        for year in ("1982", "2009", "1982"):
            assert dg.materialize([assets], partition_key=year).success
    with QdrantResource(location=location).get_client() as client:
        points, _ = client.scroll("movies_films", with_vectors=True)
    assert sorted(point.payload["id"] for point in points) == [1982, 2009]
    assert all(point.vector for point in points)


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

    @pytest.mark.parametrize("hint", ["keywords", "chunk", "index", "collection", "vectors"])
    def test_what_is_said_of_a_resource_that_is_not_there(self, sandbox, hint):
        said = self.refused(sandbox, load(**{hint: {"actors": {"language": "english"}}}))
        assert f"defs.yaml:7 - attributes.loads.0.{hint}.actors" in said
        assert f"`{hint}` names the resource `actors`" in said

    def test_a_source_that_is_not_there(self, sandbox):
        for source in (".loads.series", ".series.all", "nowhere", "no.such.module"):
            said = self.refused(sandbox, load(source=source))
            assert "defs.yaml:4 - attributes.loads.0.source" in said
            assert f"`source` is '{source}', which cannot be imported" in said

    def test_a_source_that_is_none(self, sandbox):
        said = self.refused(sandbox, load(source=".loads.__name__"))
        assert "defs.yaml:4 - attributes.loads.0.source" in said
        assert "`source` is of type str; it must be a dlt source" in said

    @pytest.mark.parametrize(
        ("hints", "place", "said"),
        [
            ({"index": {"films": {"year": "int"}}}, "7:index.films", "Did you mean 'integer'?"),
            (
                {"embed": {"films": "title"}, "keywords": {"films": "englsh"}},
                "9:keywords.films",
                "Did you mean 'english'?",
            ),
            ({"embed": {"films": []}}, "7:embed.films", "`embed` must name the columns"),
        ],
    )
    def test_a_hint_that_cannot_be_is_named_at_its_line(self, sandbox, hints, place, said):
        line, path = place.split(":")
        error = self.refused(sandbox, load(**hints))
        assert f"defs.yaml:{line} - attributes.loads.0.{path}" in error
        assert said in error

    @pytest.mark.parametrize(
        ("fields", "line", "said"),
        [
            ({"path": "a", "location": "http://q"}, "location", "`location` and `path` are both"),
            ({"model": "BAAI/bge-smal-en"}, "model", "Did you mean BAAI/bge-small-en"),
            ({"keep_former": True}, "keep_former", "Set `replace_strategy` to 'swap' too"),
            (
                {"path": "a", "api_key": "{{ env.NOT_SET_HERE }}"},
                "api_key",
                "`api_key` cannot take effect with local mode",
            ),
        ],
    )
    def test_options_are_checked_with_the_definitions(
        self, sandbox, monkeypatch, fields, line, said
    ):
        monkeypatch.setenv("DAGSTER_IS_DEFS_VALIDATION_CLI", "1")
        error = self.refused(sandbox, load(), qdrant=fields)
        assert f" - attributes.qdrant.{line}: " in error
        assert "defs.yaml:" in error
        assert said in error

    @pytest.mark.parametrize(
        ("attributes", "place", "said"),
        [
            (
                {"loads": [load(datset=1)]},
                "6:loads.0.datset",
                "no key `datset` here. Did you mean `data",
            ),
            (
                {"lods": [], "loads": [load()]},
                "3:lods",
                "no key `lods` here. Did you mean `loads`?",
            ),
            (
                {"qdrant": {"locatoin": "very-secret"}, "loads": [load()]},
                "4:qdrant.locatoin",
                "no key `locatoin` here. Did you mean `location`?",
            ),
            (
                {"loads": [load(), load(translation={"group": "a"})]},
                "9:loads.1.translation.group",
                "no key `group` here. Did you mean `group_name`?",
            ),
            (
                {"loads": [load(partitions_def={"type": "daily", "start": "2026-01-01"})]},
                "8:loads.0.partitions_def.start",
                "no key `start` here. Did you mean `start_date`?",
            ),
            (
                {"loads": [load(retry_policy={"retries": 3})]},
                "7:loads.0.retry_policy.retries",
                "no key `retries` here. Did you mean `max_retries`?",
            ),
            ({"loads": [{"dataset_name": "movies"}]}, "4:loads.0.source", "Field required"),
            (
                {"qdrant": {"port": [1], "api_key": "very-secret"}, "loads": [load()]},
                "4:qdrant.port",
                "Input should be a valid integer",
            ),
            ({"loads": [load(dataset_name=["very"])]}, "5:loads.0.dataset_name", "a valid string"),
        ],
    )
    def test_what_a_file_may_not_hold_is_named_at_its_line(self, sandbox, attributes, place, said):
        line, path = place.split(":")
        loads = attributes.pop("loads")
        error = self.refused_in(sandbox, {**attributes, "loads": loads})
        assert f"`attributes.{path} at " in error
        assert f"defs.yaml:{line}`" in error
        assert said in error
        assert error.startswith("1 validation error")
        assert "very-secret" not in error

    @staticmethod
    def refused_in(sandbox, attributes) -> str:
        path = sandbox.scaffold_component(QdrantCollectionsComponent, defs_path="my_load")
        written = {"type": "dagster_qdrant.QdrantCollectionsComponent", "attributes": attributes}
        (path / "defs.yaml").write_text(yaml.safe_dump(written, sort_keys=False))
        with (
            pytest.raises(Exception, match="my_load") as refused,
            sandbox.load_component_and_build_defs(path),
        ):
            pass
        return str(refused.value.__cause__)

    def test_a_function_of_a_partition_without_partitions(self, sandbox):
        code = "def films(year):\n    ..."
        said = self.refused(sandbox, load(), loads_py=code)
        assert "defs.yaml:4 - attributes.loads.0.source" in said
        assert "takes the key of a partition. Set `partitions_def`" in said

    def test_checks_that_there_are_not(self, sandbox):
        said = self.refused(sandbox, load(checks="always"))
        assert "defs.yaml:6 - attributes.loads.0.checks" in said
        assert 'it must be True, False or "blocking"' in said

    def test_a_key_in_the_yaml_is_refused_and_not_shown(self, sandbox):
        for name in ("api_key", "embedding_api_key"):
            said = self.refused(sandbox, load(), qdrant={name: "very-secret"})
            assert f"`{name}` must name an environment variable" in said
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


def test_dg_lists_scaffolds_and_checks_it(tmp_path, monkeypatch):
    from click.testing import CliRunner
    from dagster_dg_cli.cli import create_dg_cli

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
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    monkeypatch.setenv("DG_CLI_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("COLUMNS", "200")

    def dg_cli(*arguments: str, fails: bool = False) -> str:
        with patch.dict(os.environ):  # it marks the process as one that validates definitions
            done = CliRunner().invoke(create_dg_cli(), arguments)
        assert (done.exit_code != 0) is fails, done.output
        return done.output

    component = "dagster_qdrant.QdrantCollectionsComponent"
    assert component in dg_cli("list", "components")
    dg_cli("scaffold", "defs", component, "my_load")
    dg_cli("check", "defs")  # it checks the YAML first
    defs_yaml = package / "defs" / "my_load" / "defs.yaml"
    written = yaml.safe_load(defs_yaml.read_text())
    written["attributes"]["loads"][0]["datset"] = "movies"
    written["attributes"]["qdrant"]["pth"] = "here"
    defs_yaml.write_text(yaml.safe_dump(written, sort_keys=False))
    said = dg_cli("check", "yaml", fails=True)
    assert "('datset' was unexpected)" in said
    assert "('pth' was unexpected)" in said
    assert "not valid under any of the given schemas" not in said
