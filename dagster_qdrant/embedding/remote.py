"""Turn texts into vectors with a service: in batches, several at once, each answer checked."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dagster_qdrant.embedding.batching import Batching
from dagster_qdrant.embedding.options import EmbeddingOptions
from dagster_qdrant.embedding.service_api import Answer, Sleep, api_of
from dagster_qdrant.embedding.service_client import TOO_LARGE, RequestRefusedError, ServiceClient
from dagster_qdrant.embedding.silent_cuts import SilentCuts
from dagster_qdrant.errors import EmbeddingError
from dagster_qdrant.stopping import pause, wait_for

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

logger = logging.getLogger(__name__)

_REQUESTS_AT_ONCE = 8
_TICK = 0.1  # seconds between two looks whether anybody waits
# Some 50,000 tokens, and in no language more than OpenAI's 300,000.
_REQUEST_CHARACTERS = 200_000
# What is left of a text that is refused: a little less than what seems to fit, less with each try.
_A_LITTLE_LESS = 0.95


@dataclass
class _Embedded:
    """What came of a batch: vectors, tokens, and tokens cut off by the place of their text."""

    vectors: Vectors
    tokens: int
    cut: dict[int, int] = field(default_factory=dict)


class TextsInService:
    """Texts that a service embeds.

    Args:
        jobs: Batches, as the positions of their texts, each with what comes of it.
        shape: Number of texts, size of their vectors.
        silent_cuts: What the service cuts without a word, when that is known.
        cancelled: Set when nobody waits for them any longer.
    """

    def __init__(
        self,
        jobs: Sequence[tuple[list[int], Future[_Embedded]]],
        shape: tuple[int, int],
        silent_cuts: Future[dict[int, int]] | None,
        cancelled: threading.Event,
    ) -> None:
        self.jobs = jobs
        self.tokens = 0
        self.cut: dict[int, int] = {}
        self._shape = shape
        self._silent_cuts = silent_cuts
        self._cancelled = cancelled

    def result(self) -> Vectors:
        """Wait for the vectors, in the order of the texts.

        Raises:
            EmbeddingError: If the service refuses them, or gives something else.
            EmbeddingServiceError: If it failed, also after all retries.
            QdrantStoppedError: If told to stop meanwhile.
        """
        import numpy as np

        vectors: Vectors = np.empty(self._shape, dtype=np.float32)
        self.tokens, self.cut = 0, {}
        for batch, job in self.jobs:
            embedded = wait_for(job)
            vectors[batch] = embedded.vectors
            self.tokens += embedded.tokens
            self.cut |= {batch[place]: lost for place, lost in embedded.cut.items()}
        if self._silent_cuts:
            silently: dict[int, int] = wait_for(self._silent_cuts)
            self.cut |= silently
        return vectors

    def cancel(self) -> None:
        """Send no further request; one that is under way is not waited for again."""
        self._cancelled.set()
        for _, job in self.jobs:
            job.cancel()
        if self._silent_cuts:
            self._silent_cuts.cancel()


class RemoteEmbedder:
    """A service with a pool of threads. Safe to use from several threads at once.

    Args:
        options: The service, and the model's name there.

    Raises:
        EmbeddingError: If the service refuses the key, knows no such model, or is none.
        EmbeddingServiceError: If it cannot be reached, or fails.

    Example:
        >>> service = ServiceOptions("http://localhost:8080/embed")
        >>> embedder = RemoteEmbedder(EmbeddingOptions("BAAI/bge-small-en", service=service))
        >>> embedder.embed(["a text", "another"]).shape
        (2, 384)
    """

    def __init__(self, options: EmbeddingOptions) -> None:
        if options.service is None:
            raise EmbeddingError("`embedding_url` is not set.")
        self.options = options
        self.has_changed = False
        self._service = options.service
        workers = options.parallelism or _REQUESTS_AT_ONCE
        # One more, for a question that somebody asks while texts are embedded.
        self._api = api_of(ServiceClient(self._service, workers + 1), options.model)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="embed")
        self.vector_size = self._api.probe(_wait)
        wanted = self._service.dimensions
        if wanted and wanted != self.vector_size:
            raise EmbeddingError(
                f"The embedding service at {self._service} gives vectors of {self.vector_size} "
                f"dimensions for the model {options.model!r}, and `embedding_dimensions` is "
                f"{wanted}. Set it to the former, or remove it."
            )
        self._batching = Batching(
            texts=self._texts_at_once(),
            tokens=_REQUEST_CHARACTERS,
            workers=workers,
            alike=0,
        )
        self._silent_cuts = None if self._api.cuts else SilentCuts(self._request)
        # As the service says, at first or when it refuses a text.
        self.max_tokens = self._api.max_tokens

    def _texts_at_once(self) -> int:
        wanted, most = self.options.batch_size, self._api.most_texts
        if wanted and most and wanted > most:
            logger.warning(
                "`embedding_batch_size` is %d, but the embedding service at %s takes %d texts at "
                "most, so it gets these.",
                wanted,
                self._service,
                most,
            )
        texts = wanted or most or self._api.usual_texts
        return min(texts, most) if most else texts

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed texts.

        Args:
            texts: Any number of texts; keep them to a few thousand to bound memory.

        Returns:
            An array of shape (len(texts), vector_size), in the order of the texts.
        """
        return self.start(texts).result()

    def start(self, texts: Sequence[str]) -> TextsInService:
        """Begin to embed texts, behind those that were begun before.

        Args:
            texts: As `embed` takes them.

        Returns:
            The way to their vectors.
        """
        cancelled = threading.Event()

        def sleep(seconds: float) -> None:
            _wait(seconds, cancelled)

        jobs = [
            (batch, self._pool.submit(self._embed, [texts[i] for i in batch], sleep))
            for batch in self._batching.cut([len(text) for text in texts])
        ]
        silent_cuts = None
        if self._silent_cuts and self._silent_cuts.is_possible(texts):
            silent_cuts = self._pool.submit(self._silent_cuts.find, list(texts), sleep)
        return TextsInService(jobs, (len(texts), self.vector_size), silent_cuts, cancelled)

    def embed_query(self, text: str) -> Vectors:
        """Embed what somebody searches for.

        Returns:
            An array of shape (vector_size,).
        """
        vector: Vectors = self._embed([text], _wait).vectors[0]
        return vector

    def _embed(self, texts: list[str], sleep: Sleep) -> _Embedded:
        """Embed a batch, in halves if the service does not take it as a whole."""
        import numpy as np

        try:
            answer = self._request(texts, sleep)
            return _Embedded(answer.vectors, answer.tokens)
        except RequestRefusedError as error:
            if len(texts) == 1:
                return self._embed_shortened(texts[0], error, sleep)
        middle = len(texts) // 2
        one, other = self._embed(texts[:middle], sleep), self._embed(texts[middle:], sleep)
        cut = one.cut | {middle + place: lost for place, lost in other.cut.items()}
        if not cut:
            self._take_no_more_than(len(texts) - middle)
        return _Embedded(
            np.concatenate([one.vectors, other.vectors]), one.tokens + other.tokens, cut
        )

    def _take_no_more_than(self, texts: int) -> None:
        """Send no such batch again: it was refused for the number of its texts."""
        if texts < self._batching.texts:
            logger.warning(
                "The embedding service at %s does not take %d texts at once. From now on it gets "
                "%d; set `embedding_batch_size`.",
                self._service,
                self._batching.texts,
                texts,
            )
            self._batching = Batching(
                texts, self._batching.tokens, self._batching.workers, self._batching.alike
            )

    def _embed_shortened(self, text: str, refusal: RequestRefusedError, sleep: Sleep) -> _Embedded:
        """Embed as much of a text as the service takes."""
        if not TOO_LARGE.search(refusal.words):
            raise EmbeddingError(f"{refusal} It was about the text {_preview(text)}.") from None
        limit, given = _limits(refusal.words)
        if limit and "token" in refusal.words:
            self.max_tokens = limit
        if self._api.cuts:
            answer = self._request([text], sleep, cut=True)
            return _Embedded(answer.vectors, answer.tokens, {0: max(1, given - limit)})
        kept, less = text, _A_LITTLE_LESS
        while len(kept) > 1:
            share = limit / given if given else 0.5
            kept = kept[: int(len(kept) * share * less)] or kept[:1]
            less *= less
            try:
                answer = self._request([kept], sleep)
            except RequestRefusedError as error:
                limit, given = _limits(error.words)
                continue
            each = len(kept) / max(1, answer.tokens)  # characters a token
            lost = int((len(text) - len(kept)) / each) if answer.tokens else 0
            return _Embedded(answer.vectors, answer.tokens, {0: max(1, lost)})
        raise EmbeddingError(f"{refusal} It was about the text {_preview(text)}.") from None

    def _request(self, texts: Sequence[str], sleep: Sleep, *, cut: bool = False) -> Answer:
        import numpy as np

        answer = self._api.embed(texts, sleep, cut=cut)
        size = answer.vectors.shape[1]
        if size != self.vector_size:
            self.has_changed = True
            raise EmbeddingError(
                f"The embedding service at {self._service} gave vectors of {size} dimensions for "
                f"the model {self.options.model!r}, where it gave {self.vector_size} before. Has "
                "it another model now? None of them is used. Run the load again when it has the "
                "right one."
            )
        finite = np.isfinite(answer.vectors).all(axis=1)
        if not finite.all():
            text = texts[int(np.argmin(finite))]
            raise EmbeddingError(
                f"The embedding service at {self._service} gave a vector with numbers that are "
                f"not finite, for the text {_preview(text)}. Half precision (float16) does that to "
                "some models: start the service with float32."
            )
        return answer


def _limits(words: str) -> tuple[int, int]:
    """What a service says it takes and was given, of whatever it counts; zeros if it does not."""
    numbers = [int(number) for number in re.findall(r"\b\d{2,}\b", words)]
    return (min(numbers), max(numbers)) if len(numbers) > 1 else (0, 0)


def _wait(seconds: float, cancelled: threading.Event | None = None) -> None:
    """Wait before a further try, until told to stop or nobody waits for the texts any longer."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if cancelled and cancelled.is_set():
            raise CancelledError
        pause(min(left, _TICK))


def _preview(text: str) -> str:
    return repr(text if len(text) <= 100 else f"{text[:100]}...")
