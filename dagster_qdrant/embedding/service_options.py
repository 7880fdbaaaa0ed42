"""Where an embedding service is and how to talk to it, checked before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from dagster_qdrant.errors import EmbeddingError

Api = Literal["openai", "tei"]

_EXAMPLES = (
    "'https://api.openai.com/v1' for OpenAI's API (vLLM, Ollama, Infinity, LiteLLM), or "
    "'http://localhost:8080/embed' for Text Embeddings Inference"
)
_NO_PLACE_FOR_KEYS = (
    "`embedding_url` holds a user name, a password or a query, which its URL has not. Put a key "
    "into `embedding_api_key` instead, where it is kept secret."
)


@dataclass(frozen=True)
class ServiceOptions:
    """Where an embedding service is and how to talk to it; checked when it is made.

    Args:
        url: Ends with `/v1` or `/embeddings` for OpenAI's API, with `/embed` for that of Text
            Embeddings Inference.
        api_key: Sent as a bearer token. Never shown.
        dimensions: Size of the vectors. Default: what the service gives.
        timeout: Seconds for one request.
        max_retries: How often a request is retried after a transient failure.

    Raises:
        EmbeddingError: For values that cannot work.

    Example:
        >>> ServiceOptions("http://localhost:11434/v1").endpoint
        'http://localhost:11434/v1/embeddings'
    """

    url: str
    api_key: str | None = field(default=None, repr=False)
    dimensions: int | None = None
    timeout: float = 60
    max_retries: int = 3

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if not set(self.url).isdisjoint("@?#"):  # not shown: it may be secret
            raise EmbeddingError(_NO_PLACE_FOR_KEYS)
        try:
            parts = urlsplit(self.url)
            _ = parts.port
        except ValueError as error:
            raise EmbeddingError(
                f"`embedding_url` is {self.url!r}, which is no URL: {error}."
            ) from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EmbeddingError(
                f"`embedding_url` is {self.url!r}, which is no URL of a service. Use {_EXAMPLES}."
            )
        if self._path.endswith("/api/embed"):
            raise EmbeddingError(
                f"`embedding_url` is {self.url!r}, Ollama's own API, which is not supported. Use "
                f"its other one: '{parts.scheme}://{parts.netloc}/v1'."
            )
        if not self._path.endswith(("/v1", "/embeddings", "/embed")):
            raise EmbeddingError(
                f"`embedding_url` is {self.url!r}, which does not say by its end which API the "
                f"service has. Use {_EXAMPLES}."
            )
        if self.dimensions is not None and self.dimensions < 1:
            raise EmbeddingError(
                f"`embedding_dimensions` is {self.dimensions}; it must be 1 or more."
            )
        if self.api_key and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise EmbeddingError(  # without the key
                "`embedding_api_key` holds a line break or another character that no key has. Was "
                "it copied or read with something beside it?"
            )

    @property
    def _path(self) -> str:
        return urlsplit(self.url).path.rstrip("/")

    @property
    def api(self) -> Api:
        """Which API the service has."""
        return "tei" if self._path.endswith("/embed") else "openai"

    @property
    def endpoint(self) -> str:
        """Where texts are sent to."""
        url = self.url.rstrip("/")
        return f"{url}/embeddings" if self._path.endswith("/v1") else url

    @property
    def host(self) -> str:
        """The machine."""
        return urlsplit(self.url).hostname or ""

    def hide_key(self, words: str) -> str:
        """A text of somebody else, say of a proxy that repeats what it got, without the key."""
        return words.replace(self.api_key, "***") if self.api_key else words

    def __str__(self) -> str:
        return self.url
