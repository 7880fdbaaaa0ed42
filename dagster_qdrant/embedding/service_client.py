"""Requests to an embedding service: transient failures are retried, others explained."""

from __future__ import annotations

import email.utils
import json
import logging
import re
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dagster_qdrant.embedding.service_options import ServiceOptions
from dagster_qdrant.errors import EmbeddingError, EmbeddingServiceError
from dagster_qdrant.retrying import retrying
from dagster_qdrant.stopping import Requests, refuse_if_stopping

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_CONNECT_TIMEOUT = 10.0
# What services say of texts that are too many or too long. llama.cpp says it with the status 500.
TOO_LARGE = re.compile(
    r"too (large|long|many)|context (length|size|window)|max\w* context|maximum|must have less than"
    r"|exceeds? the|longer than|larger than|limit exceeded",
    re.IGNORECASE,
)


class RequestRefusedError(EmbeddingError):
    """The service does not take this request: its texts, their number, or what is asked for.

    Args:
        message: What happened and where.
        words: What the service said.
    """

    def __init__(self, message: str, words: str) -> None:
        super().__init__(message, words)
        self.message = message
        self.words = words

    def __str__(self) -> str:
        return self.message


class ServiceClient:
    """The way to a service. Safe to use from several threads at once.

    Args:
        options: Where it is.
        connections: The most requests at once.
    """

    def __init__(self, options: ServiceOptions, connections: int) -> None:
        import httpx

        self.options = options
        parts = urlsplit(options.url)
        here = parts.hostname in _LOCAL_HOSTS
        host = f"[{parts.hostname}]" if ":" in options.host else parts.hostname
        if options.api_key and parts.scheme == "http" and not here:
            logger.warning(
                "The embedding service's key goes to %s without TLS. Use https:// if it can.",
                options,
            )
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {options.api_key}"} if options.api_key else None,
            timeout=httpx.Timeout(
                options.timeout, connect=min(options.timeout, _CONNECT_TIMEOUT), pool=None
            ),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            # A proxy for other machines is not to see the key.
            mounts={f"all://{host}": None} if here else None,
        )
        self._requests = Requests()
        # Until then no request is sent: the service asked for time.
        self._not_before = 0.0
        self._guard = threading.Lock()

    def __repr__(self) -> str:
        return f"ServiceClient({self.options})"

    def post(self, body: dict[str, Any], sleep: Callable[[float], None]) -> httpx.Response:
        """Send something to the service's endpoint.

        Args:
            body: What to send as JSON.
            sleep: Waits for some seconds, before a further try.

        Raises:
            RequestRefusedError: If the service does not take it.
            EmbeddingError: If it refuses the key or knows no such model.
            EmbeddingServiceError: When the last try failed too.
        """
        # Half of a character, as some sources cut texts, has no form in UTF-8.
        content = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")

        def send() -> httpx.Response:
            return self._client.post(
                self.options.endpoint,
                content=content,
                headers={"Content-Type": "application/json"},
            )

        return self._request(send, sleep)

    def get(self, url: str, sleep: Callable[[float], None]) -> httpx.Response:
        """Ask the service for something beside its endpoint; raises as `post` does."""
        return self._request(lambda: self._client.get(url), sleep)

    def _request(
        self, send: Callable[[], httpx.Response], sleep: Callable[[float], None]
    ) -> httpx.Response:
        import httpx

        def attempt() -> httpx.Response:
            if (pause := self._not_before - time.monotonic()) > 0:
                sleep(pause)
            refuse_if_stopping()
            try:
                response = self._requests.answer(send, writes=False)
            except httpx.HTTPError as error:
                # Without the error itself, in whose frames the key is.
                failure = self._not_answered(error)
            else:
                if response.is_success:
                    return response
                failure = self._failure(response)
            if isinstance(failure, EmbeddingServiceError) and failure.retry_after:
                with self._guard:
                    until = time.monotonic() + min(failure.retry_after, 30.0)
                    self._not_before = max(self._not_before, until)
            raise failure

        return retrying(attempt, self.options.max_retries, sleep)

    def _not_answered(self, error: Exception) -> Exception:
        import httpx

        options = self.options
        if isinstance(error, httpx.TimeoutException) and not isinstance(
            error, httpx.ConnectTimeout
        ):
            return EmbeddingServiceError(
                f"The embedding service at {options} did not answer within {options.timeout} s. "
                "Raise `timeout`, or lower `embedding_batch_size`."
            )
        words = options.hide_key(str(error)) or type(error).__name__
        if isinstance(error, httpx.TransportError):
            return EmbeddingServiceError(
                f"No embedding service could be reached at {options}: {words}. Start it, or set "
                "`embedding_url` to its URL."
            )
        return EmbeddingError(f"The embedding service at {options} cannot be used: {words}")

    def _failure(self, response: httpx.Response) -> Exception:
        options, status = self.options, response.status_code
        words = options.hide_key(words_of(response))
        who = f"The embedding service at {options}"
        if 300 <= status < 400:
            return EmbeddingError(
                f"{who} answers with a redirect ({status}), which is not followed, since texts "
                "and key must go nowhere else. Set `embedding_url` to the service's own URL."
            )
        if status in (401, 403):
            given = "the key it was given" if options.api_key else "a request without a key"
            return EmbeddingError(
                f"{who} refused {given} ({status}): {words}. Set `embedding_api_key` to one that "
                "may embed."
            )
        if status in (404, 405):
            return EmbeddingError(
                f"{who} knows no such model, or has no such API ({status}): {words}. Set `model` "
                "to the service's own name for it, and see whether `embedding_url` is right."
            )
        if "insufficient_quota" in response.text:
            return EmbeddingError(f"{who} has no quota left for this key ({status}): {words}")
        if status in (400, 413, 422) or (status == 500 and TOO_LARGE.search(words)):
            return RequestRefusedError(f"{who} refused a request ({status}): {words}.", words)
        if status in (408, 424, 425, 429) or status >= 500:
            return EmbeddingServiceError(
                f"{who} answered {status}: {words or response.reason_phrase}.",
                _seconds(response.headers.get("retry-after")),
            )
        return EmbeddingError(f"{who} answered {status}: {words}")


def words_of(response: httpx.Response) -> str:
    """What a service said of a failure, without its wrapping."""
    try:
        said = response.json()
        for name in ("error", "message", "detail"):
            said = said.get(name, said) if isinstance(said, dict) else said
        return str(said)[:500]
    except ValueError:
        return response.text.strip()[:500]


def _seconds(retry_after: str | None) -> float | None:
    """What a service asks to wait: seconds, or a time."""
    if not retry_after:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None
