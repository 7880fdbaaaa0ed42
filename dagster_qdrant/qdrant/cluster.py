"""What writes and reads ask of a cluster with replicas. A single node has no use for it.

Changes that several clients make to one point at the same time can reach replicas in different
orders, and then the replicas differ for good. With an ordering of at least "medium", one of them
decides on the order.
"""

from __future__ import annotations

import re
from typing import Any

from dagster_qdrant.qdrant.connection_options import ConnectionOptions

# The collections of dlt's own tables, in any naming convention: books of loads, claims and states,
# which are read and changed under conditions.
_BOOKS = re.compile(r"dlt_?(version|loads|pipeline_?state)$", re.IGNORECASE)
_ORDERED = frozenset(
    (
        "batch_update_points",
        "create_payload_index",
        "create_vector_name",
        "delete",
        "delete_payload",
        "delete_payload_index",
        "delete_vector_name",
        "delete_vectors",
        "overwrite_payload",
        "set_payload",
        "update_vectors",
        "upsert",
    )
)
_CONSISTENT = frozenset(
    ("facet", "query_batch_points", "query_points", "query_points_groups", "retrieve", "scroll")
)


def cluster_arguments(
    operation: str, collection: str, options: ConnectionOptions
) -> dict[str, Any]:
    """The arguments that a request to a server gets beside its own.

    Args:
        operation: The method of the client.
        collection: The collection that it is about.
        options: How to talk to the server.

    Example:
        >>> cluster_arguments("upsert", "films__dlt_loads", ConnectionOptions())
        {'ordering': <WriteOrdering.STRONG: 'strong'>}
    """
    from qdrant_client import models

    if operation in _ORDERED:
        ordering = "strong" if _BOOKS.search(collection) else options.write_ordering
        return {"ordering": models.WriteOrdering(ordering)}
    if operation in _CONSISTENT and options.read_consistency is not None:
        asked = options.read_consistency
        factor = int(asked) if asked.isdecimal() else models.ReadConsistencyType(asked)
        return {"consistency": factor}
    return {}
