"""What a request can end in other than a result."""

from __future__ import annotations


class ApiError(Exception):
    """An answer other than 200, in HTTP's terms; gRPC translates the status."""

    def __init__(self, status: int, message: str, *, retry_after: int | None = None) -> None:
        """Say what to answer."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after


class UpdateError(ApiError):
    """An update that failed when it was applied: only who waits for it learns of it."""


class ConnectionCut(Exception):
    """The client gets no answer."""
