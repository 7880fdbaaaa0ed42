"""The files that `dg scaffold` writes."""

from __future__ import annotations

from dagster import Scaffolder, scaffold_component
from dagster.components.scaffold.scaffold import ScaffoldRequest


class LoadScaffolder(Scaffolder):
    """Writes a load that runs as it is."""

    def scaffold(self, request: ScaffoldRequest) -> None:
        """Write a `defs.yaml`, and a `loads.py` beside it unless there is one."""
        folder = request.target_path.parent if request.append else request.target_path
        loads = folder / "loads.py"
        if not loads.exists():
            loads.write_text(_LOADS, encoding="utf-8")
        scaffold_component(
            request,
            {
                "qdrant": {"path": "{{ context.project_root }}/qdrant"},
                "loads": [
                    {
                        "source": ".loads.films",
                        "dataset_name": "movies",
                        "embed": {"films": ["title", "plot"]},
                    }
                ],
            },
        )


_LOADS = '''"""What is loaded. Put a dlt source of your own in place of this one."""

from collections.abc import Iterator
from typing import Any

import dlt


@dlt.resource(write_disposition="merge", primary_key="id")
def films() -> Iterator[dict[str, Any]]:
    """Films, each with its plot."""
    yield {"id": 1, "title": "Moon", "plot": "A lonely miner finds out that he is a copy."}
    yield {"id": 2, "title": "Jaws", "plot": "A shark is about, and the beaches stay open."}
'''
