"""The README's code runs, and its tables name what there is."""

import ast
import importlib
import re
from pathlib import Path

import dagster as dg
import pytest
from dagster.components.testing import create_defs_folder_sandbox

from dagster_qdrant import (
    QdrantCollectionsComponent,
    QdrantResource,
    build_qdrant_assets,
    qdrant_adapter,
)

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def text() -> str:
    return README.read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _packaged_model(model, monkeypatch):
    monkeypatch.setenv("DESTINATION__QDRANT__MODEL", model["model"])
    monkeypatch.setenv("DESTINATION__QDRANT__MODEL_PATH", model["model_path"])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_its_code_runs_from_top_to_bottom(text, monkeypatch, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) > 8
    (tmp_path / "code_of_the_readme.py").write_text("\n".join(blocks))
    monkeypatch.syspath_prepend(str(tmp_path))
    code = importlib.import_module("code_of_the_readme")
    code.test_films_can_be_found()
    assert code.result.success
    dg.Definitions.validate_loadable(code.defs)
    job = code.defs.resolve_job_def("check_films")
    checked = job.execute_in_process().get_asset_check_evaluations()
    assert len(checked) == 7
    assert all(check.passed for check in checked)
    made_by_hand = [code.film_assets, code.book_assets, code.shop_assets, code.event_assets]
    others = [code.owned, code.best_films, code.checked_assets, code.answer]
    everything = dg.Definitions(
        assets=[*made_by_hand, *others], resources={"qdrant": code.qdrant, "cloud": code.cloud}
    )
    dg.Definitions.validate_loadable(everything)
    assert [definition.key for definition in code.owned.specs]
    [books] = [key for key in code.automated.resolve_all_asset_keys() if key.path[-1] == "books"]
    assert code.automated.resolve_asset_graph().get(books).freshness_policy
    assert code.automated.resolve_implicit_global_asset_job_def().execute_in_process().success
    assert code.cloud.api_key == "QDRANT_API_KEY"  # the variable's name


def test_its_yaml_runs(text):
    [written] = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
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


def test_its_table_of_checks_names_every_check(text):
    table = text.split("### Asset checks")[1].split("### As YAML")[0]
    source = qdrant_adapter([{"title": "Moon"}], embed="title")
    checks = build_qdrant_assets(dlt_source=source, checks=True).check_keys
    assert set(re.findall(r"^\| `(\w+)`", table, flags=re.MULTILINE)) == {c.name for c in checks}


def test_its_table_of_options_names_every_field(text):
    table = text.split("## Options")[1].split("### Keys")[0]
    named = set(re.findall(r"^\| (`.*?) \|", table, flags=re.MULTILINE))
    fields = {name for cell in named for name in re.findall(r"`(\w+)`", cell)}
    assert fields == set(QdrantResource.model_fields)


def test_its_commands_are_in_the_makefile(text):
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    for command in re.findall(r"make (\w+)", text):
        assert re.search(rf"^{command}:", makefile, flags=re.MULTILINE)


def test_each_fault_in_its_table_has_a_test_that_says_the_same(text):
    table = text.split("### When something goes wrong")[1].split("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 15
    for row in rows:
        [names] = re.findall("<!-- (.*) -->", row)
        tests = "".join(source_of_test(*name.split("::")) for name in names.split())
        for words in re.findall('"(.*?)"', row):
            assert words in tests, f"{words!r} is in no test of the row: {row}"


def source_of_test(file: str, name: str) -> str:
    """The code of a test, with its decorators."""
    code = (README.parent / "tests" / file).read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            return "\n".join(code.splitlines()[first - 1 : node.end_lineno])
    raise AssertionError(f"{file} has no test {name}.")
