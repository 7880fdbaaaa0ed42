"""The main job in an environment with `dagster-embedded-elt`, the former name of `dagster-dlt`."""

import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_it_works_with_dagster_embedded_elt(tmp_path, model):
    environment = tmp_path / "environment"
    python = environment / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python]
    subprocess.run([*install, f"{ROOT}[embedded-elt]"], check=True)
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import dagster as dg, dlt
        from dagster_embedded_elt.dlt import DagsterDltTranslator, dlt_assets
        from dagster_qdrant import QdrantResource, build_qdrant_assets, qdrant_adapter

        films = dlt.resource([{{"title": "Moon"}}, {{"title": "Her"}}], name="films")
        assets = build_qdrant_assets(
            dlt_source=qdrant_adapter(films, embed="title"),
            dataset_name="d",
            dagster_dlt_translator=DagsterDltTranslator(),
        )
        qdrant = QdrantResource(location=":memory:", **{model!r})
        result = dg.materialize([assets], resources={{"qdrant": qdrant}})
        [event] = result.get_asset_materialization_events()
        print("rows", event.materialization.metadata["dagster/row_count"].value, dg.__version__)
        """)
    )
    done = subprocess.run(
        [python, script],
        cwd=tmp_path,
        env={"PATH": "/usr/bin", "HOME": str(tmp_path), "RUNTIME__DLTHUB_TELEMETRY": "false"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "rows 2" in done.stdout, done.stderr
