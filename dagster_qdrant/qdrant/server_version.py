"""Say so where a server's version may be why it refuses what it is asked.

qdrant-client would ask for the version whenever it opens: in a thread of its own, with the API key,
past the settings that keep requests for this machine from a proxy. We ask when it is of use.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qdrant_client import QdrantClient


def version_advice(client: QdrantClient) -> str:
    """A sentence on versions that are too far apart, or "" where they fit or are not told."""
    ours = version("qdrant-client")
    try:
        theirs = client.info().version
        apart = _is_apart(ours, theirs)
    except Exception:  # whatever it is: what the server refused is what counts
        return ""
    if not apart:
        return ""
    return (
        f" (The server is version {theirs}, and qdrant-client {ours}. They may be one minor "
        "version apart: upgrade the older one.)"
    )


def _is_apart(ours: str, theirs: str) -> bool:
    our_major, our_minor, their_major, their_minor = (
        int(number) for text in (ours, theirs) for number in text.split(".")[:2]
    )
    return our_major != their_major or abs(our_minor - their_minor) > 1
