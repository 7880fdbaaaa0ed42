"""Python's manual: thousands of rows, of which a second run embeds none."""

from collections.abc import Iterator
from typing import Any

import dlt
from dagster import AssetExecutionContext

from dagster_qdrant import QdrantResource, qdrant_adapter, qdrant_assets
from example_project.stdlib import documentation

DATASET = "python"
TABLE = "python_docs"


# `replace`, so that what another version of Python has no longer goes away. Rows that are there
# already keep their vectors: the key says which row it is, a fingerprint whether its text changed.
@dlt.resource(name=TABLE, primary_key="id", write_disposition="replace")
def python_docs() -> Iterator[dict[str, Any]]:
    """What the standard library of this Python documents."""
    yield from documentation()


@qdrant_assets(
    dlt_source=qdrant_adapter(python_docs, embed=["name", "summary"]),
    dataset_name=DATASET,
    name=TABLE,
    group_name="python",
)
def python_docs_assets(context: AssetExecutionContext, qdrant: QdrantResource) -> Iterator[Any]:
    """Load the manual of the interpreter that runs this step."""
    yield from qdrant.run(context)
