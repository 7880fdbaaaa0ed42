"""A code location is loaded in every process, so importing has to be light."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"fastembed", "onnxruntime", "qdrant_client", "grpc", "tokenizers", "torch"}


def modules_after(code: str) -> set[str]:
    script = (
        f"{code}\nimport sys; print('modules:', *sorted({{m.split('.')[0] for m in sys.modules}}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    [line] = [line for line in result.stdout.splitlines() if line.startswith("modules:")]
    return set(line.split()[1:])


def test_importing_the_package_imports_nothing_else():
    loaded = modules_after("import dagster_qdrant")
    assert not loaded & (HEAVY | {"dagster", "dlt", "pydantic"})


def test_the_destination_imports_no_dagster():
    loaded = modules_after(
        "from dagster_qdrant import qdrant_adapter;"
        "from dagster_qdrant.destination import job_client, qdrant; qdrant()"
    )
    assert "dagster" not in loaded
    assert not loaded & HEAVY


def test_defining_assets_imports_no_model_and_no_client():
    loaded = modules_after(
        """
import dagster as dg
from dagster_qdrant import QdrantResource, build_qdrant_assets, qdrant_adapter
films = build_qdrant_assets(
    dlt_source=qdrant_adapter([{"title": "Moon"}], embed="title"), dataset_name="films"
)
defs = dg.Definitions(assets=[films], resources={"qdrant": QdrantResource()})
dg.Definitions.validate_loadable(defs)
"""
    )
    assert not loaded & {"fastembed", "onnxruntime", "qdrant_client", "tokenizers"}


def test_dg_finds_the_component_and_imports_no_model_and_no_client():
    loaded = modules_after(
        """
from dagster.components.core.package_entry import discover_entry_point_package_objects
found = {key.to_typename() for key in discover_entry_point_package_objects()}
assert "dagster_qdrant.QdrantCollectionsComponent" in found, found
"""
    )
    assert not loaded & {"fastembed", "onnxruntime", "qdrant_client", "tokenizers"}


@pytest.mark.parametrize("name", __import__("dagster_qdrant").__all__)
def test_each_public_name_is_there(name):
    import dagster_qdrant

    assert getattr(dagster_qdrant, name).__doc__
    assert name in dir(dagster_qdrant)


def test_an_unknown_name_is_an_attribute_error():
    import dagster_qdrant

    with pytest.raises(AttributeError, match="no_such_name"):
        _ = dagster_qdrant.no_such_name
