"""The ways in which the server can be told to misbehave."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

MESSAGES = {
    403: "Forbidden: refused by a fault",
    413: "Request Entity Too Large",
    429: "Rate limiting exceeded: Write rate limit exceeded: Operation requires more tokens "
    "than the limit allows now",
    500: "Service internal error: caused by a fault",
    502: "Bad Gateway",
    503: "Shard temporarily unavailable: caused by a fault",
    504: "Gateway Timeout",
    507: "Insufficient storage: No space left on device",
}


@dataclass
class Fault:
    """A way to misbehave, and the requests that meet it."""

    action: Literal["answer", "delay", "cut", "die", "refuse"]
    when: Literal["before", "after"] = "before"
    """Whether it strikes before or after the request is applied."""
    status: int = 503
    message: str | None = None
    retry_after: int | None = None
    seconds: float = 1.0
    """How long to delay, or to refuse connections."""
    operation: str | None = None
    """A pattern for the operation's whole name; without it and `path`, all but health checks."""
    path: str | None = None
    """A pattern to find in "PUT /collections/x/points" or, by gRPC, in "/qdrant.Points/Upsert"."""
    collection: str | None = None
    """A pattern for the whole name of the collection or alias."""
    access: Literal["read", "write"] | None = None
    protocol: Literal["rest", "grpc"] | None = None
    after: int = 0
    """How many matching requests to let through first."""
    every: int = 1
    """From then on, strike each n-th."""
    times: int | None = None
    """How often to strike at most."""
    seen: int = field(default=0, init=False)
    struck: int = field(default=0, init=False)

    def strikes(
        self, operation: str, path: str, collection: str, access: str, protocol: str
    ) -> bool:
        """Whether this request meets the fault; counts it."""
        named = self.operation is not None or self.path is not None
        if not (
            (named or operation not in ("root", "health"))
            and re.fullmatch(self.operation or ".*", operation)
            and re.search(self.path or "", path)
            and re.fullmatch(self.collection or ".*", collection)
            and self.access in (None, access)
            and self.protocol in (None, protocol)
        ):
            return False
        self.seen += 1
        turn = self.seen - self.after
        if turn < 1 or turn % self.every or self.struck == self.times:
            return False
        self.struck += 1
        return True
