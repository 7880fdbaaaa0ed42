"""What goes when a load is complete, and what it costs to find that."""

from collections import Counter
from typing import Any

import dlt
import pytest

from dagster_qdrant.destination.loads import load_completion
from dagster_qdrant.qdrant.connection import Connection
from tests.conftest import Load
from tests.targets import Target, memory


@pytest.mark.parametrize("qdrant_kind", [memory], indirect=True)
def test_orphans_are_found_in_local_mode_with_as_many_looks_for_many_rows_as_for_few(
    load: Load, qdrant_target: Target, dataset, monkeypatch
):
    """Each look goes over all points."""
    looks: Counter[str] = Counter()
    request = Connection.request

    def counted(self: Any, operation: Any, *args: Any, **kwargs: Any) -> Any:
        looks[operation.__name__] += 1
        return request(self, operation, *args, **kwargs)

    monkeypatch.setattr(load_completion, "_PAGE", 5)
    monkeypatch.setattr(Connection, "request", counted)

    def looks_for(count: int) -> int:
        for tags in (["a", "b"], ["a"]):
            rows = [{"id": n, "tags": tags} for n in range(count)]
            looks.clear()
            load(dlt.resource(rows, name="films", write_disposition="merge", primary_key="id"))
        assert len(qdrant_target.rows(f"{dataset}_films__tags")) == count
        return looks["scroll"]

    assert looks_for(10) == looks_for(60)
