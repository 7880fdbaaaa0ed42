"""The errors that this package raises, in one family. All of them can be pickled."""

from __future__ import annotations

from dlt.common.destination.exceptions import (
    DestinationException,
    DestinationTerminalException,
    DestinationTransientException,
    DestinationUndefinedEntity,
)


class QdrantError(DestinationException):
    """Any failure of this package or of the Qdrant it talks to. Carries one message."""


class QdrantTerminalError(QdrantError, DestinationTerminalException):
    """A permanent failure, which is not retried: a wrong key, a wrong option, refused data."""


class QdrantRefusedError(QdrantTerminalError):
    """The server refuses what it was asked: it cannot do it, or does not know it."""


class QdrantNotFoundError(QdrantTerminalError, DestinationUndefinedEntity):
    """The collection does not exist."""


class QdrantConflictError(QdrantTerminalError):
    """The collection exists already."""


class QdrantTooLargeError(QdrantTerminalError):
    """The request is larger than the server takes."""


class QdrantUnsendableError(QdrantTerminalError):
    """A value that the protocol cannot carry."""


class QdrantConfigurationError(QdrantTerminalError):
    """An option has a value that cannot work, or that cannot take effect."""


class QdrantTransientError(QdrantError, DestinationTransientException):
    """A failure that is retried: no connection, a time-out, an overloaded server.

    Args:
        message: What happened, where, and what to do.
        retry_after: Seconds that the server asked to wait, if it did.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after)
        self.message = message
        self.retry_after = retry_after

    def __str__(self) -> str:
        return self.message


class QdrantStoppedError(QdrantError, DestinationTransientException):
    """The process was told to stop. What is done stays, and the next load goes on from there."""


class EmbeddingServiceError(QdrantTransientError):
    """A transient failure of an embedding service: not reached, overloaded, or failed."""


class EmbeddingError(QdrantTerminalError, ValueError):
    """A model or an option for it that cannot be used; the message says which and what to do."""
