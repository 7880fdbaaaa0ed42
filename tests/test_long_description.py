"""What a package index shows: the README, with links and pictures that work there."""

import re
from pathlib import Path

import pytest

from hatch_build import ReadmeHook, long_description

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def shown(metadata):
    ReadmeHook(str(ROOT), {}).update(metadata)
    return metadata["readme"]["text"]


@pytest.mark.parametrize("address", ["https://git.example/us/it", "https://git.example/us/it/"])
def test_links_and_pictures_lead_to_the_repository_that_the_project_names(address):
    text = shown({"urls": {"Repository": address}})
    assert "[Tutorial](https://git.example/us/it/blob/HEAD/docs/tutorial.md)" in text
    assert "](https://git.example/us/it/raw/HEAD/docs/vector_map.png)" in text
    assert "[Dagster](https://dagster.io)" in text
    assert all(target.startswith("https://") for target in re.findall(r"\]\(([^)]+)\)", text))


def test_without_an_address_the_texts_stay_and_nothing_leads_nowhere():
    text = shown({})
    assert "| Tutorial |" in text
    assert ".png" not in text
    assert "[Dagster](https://dagster.io)" in text
    assert all(target.startswith("https://") for target in re.findall(r"\]\(([^)]+)\)", text))


def test_code_stays_as_it_is():
    code = re.findall(r"```.*?```", README, flags=re.DOTALL)
    assert code
    assert all(block in long_description(README, None) for block in code)
