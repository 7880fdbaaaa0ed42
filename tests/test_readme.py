"""The README's code runs, and its tables name what there is."""

import importlib
import re
from pathlib import Path

import pytest

from dagster_qdrant import QdrantResource

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def text() -> str:
    return README.read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_its_code_runs_from_top_to_bottom(text, model, monkeypatch, tmp_path):
    monkeypatch.setenv("DESTINATION__QDRANT__MODEL", model["model"])
    monkeypatch.setenv("DESTINATION__QDRANT__MODEL_PATH", model["model_path"])
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) > 8
    (tmp_path / "code_of_the_readme.py").write_text("\n".join(blocks))
    monkeypatch.syspath_prepend(str(tmp_path))
    code = importlib.import_module("code_of_the_readme")
    code.test_films_can_be_found()
    assert code.result.success
    assert [definition.key for definition in code.owned.specs]
    assert code.cloud.api_key == "QDRANT_API_KEY"  # the variable's name


def test_its_table_of_options_names_every_field(text):
    table = text.split("## Options")[1].split("### Keys")[0]
    named = set(re.findall(r"^\| (`.*?) \|", table, flags=re.MULTILINE))
    fields = {name for cell in named for name in re.findall(r"`(\w+)`", cell)}
    assert fields == set(QdrantResource.model_fields)


def test_its_commands_are_in_the_makefile(text):
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    for command in re.findall(r"make (\w+)", text):
        assert re.search(rf"^{command}:", makefile, flags=re.MULTILINE)
