"""The code of the README and the docs runs, their links lead somewhere, their tables name all."""

import ast
import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import dagster as dg
import pytest
from dagster.components.testing import create_defs_folder_sandbox

import dagster_qdrant
from dagster_qdrant import (
    QdrantCollectionsComponent,
    QdrantIOManager,
    QdrantResource,
    build_qdrant_assets,
    qdrant_adapter,
)

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]
CODE = re.compile(r"```python(?: title=\"(\w+)\.py\")?\n(.*?)```", flags=re.DOTALL)


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


PAGES_WITH_CODE = [page for page in map(named, PAGES) if CODE.search(text_of(page))]


@pytest.fixture(autouse=True)
def _packaged_model(model, monkeypatch):
    monkeypatch.setenv("DESTINATION__QDRANT__MODEL", model["model"])
    monkeypatch.setenv("DESTINATION__QDRANT__MODEL_PATH", model["model_path"])


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run a page's code from top to bottom, beside the files that it or the tutorial names."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def run(page: str) -> ModuleType:
        lines = []
        files = dict(CODE.findall(text_of("docs/tutorial.md")))
        for name, code in CODE.findall(text_of(page)):
            if name:
                files[name] = code
                lines.append(f"import {name}\n")
            else:
                lines.append(code)
        for name, code in files.items():
            if name:
                (tmp_path / f"{name}.py").write_text(code)
        (tmp_path / "code_of_the_page.py").write_text("".join(lines))
        return importlib.import_module("code_of_the_page")

    yield run
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("page", PAGES_WITH_CODE)
def test_the_code_of_a_page_runs_from_top_to_bottom(page, run):
    if page == "docs/guides/readers.md":  # the other libraries are a group of their own
        pytest.importorskip("langchain_qdrant")
    code = run(page)
    files = [each for each in vars(code).values() if isinstance(each, ModuleType)]
    of_page = [each for each in files if Path(code.__file__).parent == _folder(each)]
    for module in [code, *of_page]:
        for name, value in vars(module).items():
            if name == "result":
                assert value.success
            elif name.startswith("test_"):
                value()
            elif isinstance(value, dg.Definitions):
                dg.Definitions.validate_loadable(value)
            elif isinstance(value, dg.AssetsDefinition):
                qdrant = QdrantResource(location=":memory:")
                given = {"qdrant": qdrant, "qdrant_io_manager": QdrantIOManager(qdrant=qdrant)}
                upstream = map(dg.AssetSpec, {*value.dependency_keys} - {*value.keys})
                dg.Definitions.validate_loadable(
                    dg.Definitions(assets=[value, *upstream], resources=given)
                )


def _folder(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).parent if file else None


def test_the_pages_with_code_are_found():
    assert len(PAGES_WITH_CODE) > 12
    assert sum(len(CODE.findall(text_of(page))) for page in PAGES_WITH_CODE) > 25


def test_the_scheduled_checks_of_the_docs_pass(run):
    code = run("docs/guides/checks.md")
    dg.materialize([code.film_assets], resources={"qdrant": code.qdrant})
    job = code.defs.resolve_job_def("check_films")
    checked = job.execute_in_process().get_asset_check_evaluations()
    assert len(checked) == 7
    assert all(check.passed for check in checked)


def test_the_alerts_of_the_docs_tell_of_failed_runs_and_of_checks_that_fail(run, monkeypatch):
    code = run("docs/guides/checks.md")
    told = []
    monkeypatch.setattr(code, "tell", told.append)
    cut = build_qdrant_assets(
        dlt_source=qdrant_adapter([{"text": "word " * 2000}], embed="text"),
        dataset_name="long",
        checks=True,
    )
    broken = QdrantResource(location="http://127.0.0.1:9", upload_max_retries=0)
    with dg.DagsterInstance.ephemeral() as instance:

        def context(assets, qdrant, event):
            result = dg.materialize(
                [assets], resources={"qdrant": qdrant}, instance=instance, raise_on_error=False
            )
            return dg.build_run_status_sensor_context(
                sensor_name="sensor",
                dagster_instance=instance,
                dagster_run=instance.get_run_by_id(result.run_id),
                dagster_event=instance.all_logs(result.run_id, of_type=event)[-1].dagster_event,
            )

        code.failed_checks(context(cut, code.qdrant, dg.DagsterEventType.RUN_SUCCESS))
        code.failed_runs(
            context(code.film_assets, broken, dg.DagsterEventType.RUN_FAILURE).for_run_failure()
        )
    warning, failure = told
    assert warning.startswith(":warning: long/content, no_text_cut: ")
    assert failure.startswith(":red_circle: Run ")
    assert "film_assets: No Qdrant could be reached at http://127.0.0.1:9" in failure


def test_the_automation_of_the_docs_runs(run):
    code = run("docs/guides/automation.md")
    [owned] = [key for key in code.automated.resolve_all_asset_keys() if key.path[0] == "owned"]
    spec = code.automated.resolve_asset_graph().get(owned)
    assert spec.freshness_policy
    assert (spec.group_name, list(spec.owners)) == ("search", ["team:search"])
    assert code.automated.resolve_implicit_global_asset_job_def().execute_in_process().success


def test_the_keys_of_the_docs_are_names_of_variables(run):
    code = run("docs/guides/production.md")
    assert code.cloud.api_key == "QDRANT_API_KEY"
    assert dg.Definitions(resources={"qdrant": code.cloud}).resources


def test_the_tutorial_embeds_nothing_the_second_time(run):
    code = run("docs/tutorial.md")
    again = dg.materialize([code.films.film_assets], resources={"qdrant": code.films.qdrant})
    [event] = again.asset_materializations_for_node("film_assets")
    assert event.metadata["rows_embedded"].value == 0
    assert event.metadata["points_unchanged"].value == 3


def test_the_yaml_of_the_docs_runs():
    [written] = re.findall(r"```yaml\n(.*?)```", text_of("docs/guides/yaml.md"), flags=re.DOTALL)
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(QdrantCollectionsComponent, defs_path="my_load")
        (path / "defs.yaml").write_text(written)
        with sandbox.load_component_and_build_defs(path) as (_, defs):
            dg.Definitions.validate_loadable(defs)
            assets = list(defs.assets)
            [spec] = assets[0].specs
            result = dg.materialize(assets)
    assert (spec.group_name, spec.description) == ("search", "Searchable in movies_films")
    assert result.get_asset_check_evaluations()
    assert all(check.passed for check in result.get_asset_check_evaluations())


def test_the_table_of_checks_names_every_check():
    table = text_of("docs/guides/checks.md").split("## The checks")[1].split("## ")[0]
    source = qdrant_adapter([{"title": "Moon"}], embed="title", keywords=True)
    checks = build_qdrant_assets(dlt_source=source, checks=True).check_keys
    assert set(re.findall(r"^\| `(\w+)`", table, flags=re.MULTILINE)) == {c.name for c in checks}


def test_the_table_of_options_names_every_field():
    table = text_of("docs/reference/options.md").split("## As environment")[0]
    cells = set(re.findall(r"^\| (`.*?) \|", table, flags=re.MULTILINE))
    fields = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert fields == set(QdrantResource.model_fields)


def test_the_table_of_a_materialization_names_every_entry(run):
    code = run("docs/tutorial.md")
    result = dg.materialize([code.films.film_assets], resources={"qdrant": code.films.qdrant})
    [event] = result.asset_materializations_for_node("film_assets")
    listed = set(re.findall(r"`([\w/]+)`", text_of("docs/reference/materializations.md")))
    shown = {name for name in event.metadata if not name.startswith("seconds_")}
    assert shown - listed == set()


def test_the_oldest_versions_are_those_that_the_package_asks_for():
    asked = text_of("pyproject.toml")
    table = text_of("docs/guides/upgrading.md").split("## Versions")[1]
    versions = re.findall(r"^\| `([\w-]+)` \| ([\d.]+) \|", table, flags=re.MULTILINE)
    assert len(versions) == 5
    assert all(f'"{name}>={version}"' in asked for name, version in versions)
    assert f"| Python | {re.findall('requires-python = .>=([0-9.]+)', asked)[0]} |" in table


def test_the_reference_names_every_public_name():
    listed = set(
        re.findall(r"^::: ([\w.]+)$", text_of("docs/reference/python.md"), flags=re.MULTILINE)
    )
    public = {f"dagster_qdrant.{name}" for name in dagster_qdrant.__all__}
    assert public <= listed
    for name in listed:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


def test_the_commands_of_the_docs_are_in_the_makefile():
    makefile = text_of("Makefile")
    for page in map(named, PAGES):
        for command in re.findall(
            r"make ([a-z-]+)(?=[`\s]*(?:#|$|`))", text_of(page), re.MULTILINE
        ):
            assert re.search(rf"^{command}:", makefile, flags=re.MULTILINE), (page, command)


@pytest.mark.parametrize("page", map(named, PAGES))
def test_the_links_of_a_page_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\((?!https?://)([^)\s]+)\)", text_of(page)):
        file, _, anchor = target.partition("#")
        linked = (ROOT / page).parent / file if file else ROOT / page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w\s-]", "", each).strip().lower() for each in headings]
            assert anchor in [re.sub(r"[\s-]+", "-", each) for each in slugs], target


def test_each_fault_in_the_table_has_a_test_that_says_the_same():
    table = text_of("docs/troubleshooting.md")
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 15
    for row in rows:
        [names] = re.findall("<!-- (.*) -->", row)
        tests = "".join(source_of_test(*name.split("::")) for name in names.split())
        for words in re.findall('"(.*?)"', row):
            assert words in tests, f"{words!r} is in no test of the row: {row}"


def source_of_test(file: str, name: str) -> str:
    """The code of a test, with its decorators."""
    code = text_of(f"tests/{file}")
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            return "\n".join(code.splitlines()[first - 1 : node.end_lineno])
    raise AssertionError(f"{file} has no test {name}.")
