"""What is said to embedding services and how their answers are read: two APIs, one form."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from dagster_qdrant.embedding.service_client import RequestRefusedError, ServiceClient
from dagster_qdrant.errors import EmbeddingError

if TYPE_CHECKING:
    import httpx
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

logger = logging.getLogger(__name__)

_PROBE = "What is it about?"

Sleep = Callable[[float], None]


@dataclass(frozen=True)
class Answer:
    """What a service made of some texts.

    Args:
        vectors: An array with a row for each text, in their order.
        tokens: How many tokens the texts have, as far as the service says.
    """

    vectors: Vectors
    tokens: int


class ServiceApi(Protocol):
    """How a service is talked to."""

    usual_texts: int
    """How many texts suit it at once."""
    cuts: bool
    """Whether it cuts a text that is too long where it is asked to, and only then."""
    most_texts: int | None
    """How many texts it takes at once; None if that is not known."""
    max_tokens: int | None
    """How many tokens of a text it takes; None if that is not known."""

    def probe(self, sleep: Sleep) -> int:
        """See that the service has this API and the model; the size of its vectors."""

    def embed(self, texts: Sequence[str], sleep: Sleep, *, cut: bool = False) -> Answer:
        """Embed texts in one request."""


def api_of(client: ServiceClient, model: str) -> ServiceApi:
    """How the service at a client's end is talked to."""
    if client.options.api == "tei":
        return TeiApi(client, model)
    return OpenAiApi(client, model)


class OpenAiApi:
    """OpenAI's `/v1/embeddings`, which most services have.

    Not all of them know `encoding_format` and `dimensions`, so it is tried once what is taken.

    Args:
        client: The way to the service.
        model: The service's name for the model.
    """

    # OpenAI takes 2,048 texts and 300,000 tokens. Smaller requests go on at the same time.
    usual_texts = 128
    cuts = False
    most_texts: int | None = None
    max_tokens: int | None = None

    def __init__(self, client: ServiceClient, model: str) -> None:
        self._client = client
        self._model = model
        self._extras: dict[str, Any] = {}

    def probe(self, sleep: Sleep) -> int:
        """See that the service has this API and the model; the size of its vectors."""
        encoding: dict[str, Any] = {"encoding_format": "base64"}
        wanted = self._client.options.dimensions
        dimensions: dict[str, Any] = {"dimensions": wanted} if wanted else {}
        # A model of a fixed size refuses `dimensions`, and has them perhaps all the same.
        variants = [encoding | dimensions, dimensions, *([encoding, {}] if wanted else [])]
        for number, extras in enumerate(variants):
            self._extras = extras
            try:
                answer = self._client.post(self._body([_PROBE]), sleep)
            except RequestRefusedError as error:
                if number == 0:
                    refusal = error
                continue
            self._refuse_another_model(answer)
            return int(self._read(answer, 1).vectors.shape[1])
        raise refusal

    def embed(self, texts: Sequence[str], sleep: Sleep, *, cut: bool = False) -> Answer:
        """Embed texts in one request; this API has no word for cutting them."""
        return self._read(self._client.post(self._body(texts), sleep), len(texts))

    def _body(self, texts: Sequence[str]) -> dict[str, Any]:
        return {"model": self._model, "input": list(texts), **self._extras}

    def _refuse_another_model(self, response: httpx.Response) -> None:
        """Say it where a service has one model only, and takes any name for it."""
        named = self._client.options.hide_key(str(_json(response, self._client).get("model") or ""))
        if named and _short(named) != _short(self._model):
            logger.warning(
                "`model` is %r, and the embedding service at %s answers with %r. If that is "
                "another one, set `model` to it.",
                self._model,
                self._client.options,
                named,
            )

    def _read(self, response: httpx.Response, count: int) -> Answer:
        read = _openai_vectors(_json(response, self._client))
        if read is None:
            raise _not_of_this_api(response, self._client)
        vectors, tokens = read
        # In the order of the texts, whatever the order of the answer.
        by_place = dict(vectors)
        if sorted(by_place) != list(range(count)) or len(vectors) != count:
            raise _wrong_count(len(vectors), count, self._client)
        return Answer(_array([by_place[place] for place in range(count)], self._client), tokens)


class TeiApi:
    """The own API of Text Embeddings Inference: `/embed`, and what `/info` says beside it.

    Args:
        client: The way to the service.
        model: The name of the model, which the service has to have been started with.
    """

    usual_texts = 32
    cuts = True

    def __init__(self, client: ServiceClient, model: str) -> None:
        self.most_texts: int | None = None  # until it is asked
        self.max_tokens: int | None = None
        self._client = client
        self._model = model
        self._extras: dict[str, Any] = {}

    def probe(self, sleep: Sleep) -> int:
        """See that the service has this API and the model; the size of its vectors."""
        self._read_info(sleep)
        if wanted := self._client.options.dimensions:
            self._extras = {"dimensions": wanted}
            try:
                return int(self.embed([_PROBE], sleep).vectors.shape[1])
            except RequestRefusedError:  # a model of a fixed size, perhaps of this one
                self._extras = {}
        return int(self.embed([_PROBE], sleep).vectors.shape[1])

    def embed(self, texts: Sequence[str], sleep: Sleep, *, cut: bool = False) -> Answer:
        """Embed texts in one request, and refuse those that are too long unless they may be cut."""
        body = {"inputs": list(texts), "truncate": cut, **self._extras}
        response = self._client.post(body, sleep)
        said = _json(response, self._client, list)
        if len(said) != len(texts):
            raise _wrong_count(len(said), len(texts), self._client)
        tokens = response.headers.get("x-compute-tokens", "")
        return Answer(_array(said, self._client), int(tokens) if tokens.isdecimal() else 0)

    def _read_info(self, sleep: Sleep) -> None:
        """What the service says of itself, unless something that stands before it hides that."""
        options = self._client.options
        try:
            info = self._client.get(f"{options.endpoint.removesuffix('/embed')}/info", sleep)
            said = _json(info, self._client)
            served = str(said["model_id"])
        except (EmbeddingError, KeyError):
            return
        self.most_texts = _number(said.get("max_client_batch_size"))
        self.max_tokens = _number(said.get("max_input_length"))
        # A folder's name says nothing of what is in it.
        if served[:1] not in "./" and _short(served) != _short(self._model):
            raise EmbeddingError(
                f"The embedding service at {options} has the model {served!r}, but `model` is "
                f"{self._model!r}. Set `model` to the former, or `embedding_url` to a service that "
                "has the latter."
            )


def _number(said: Any) -> int | None:
    return said if isinstance(said, int) and said > 0 else None


def _short(model: str) -> str:
    return model.rsplit("/", 1)[-1].lower()


# An answer that is none may repeat the key. So no function raises an error that holds it in a
# variable, which tools show with an error.


def _json(response: httpx.Response, client: ServiceClient, kind: type = dict) -> Any:
    read = _parsed(response, kind)
    if read is None:
        raise _not_of_this_api(response, client)
    return read


def _parsed(response: httpx.Response, kind: type) -> Any:
    try:
        said = response.json()
    except ValueError:
        return None
    return said if isinstance(said, kind) else None


def _openai_vectors(said: dict[str, Any]) -> tuple[list[tuple[int, Any]], int] | None:
    """Vectors with the places of their texts, and the number of tokens; None if it has none."""
    try:
        vectors = [
            (place if entry.get("index") is None else int(entry["index"]), entry["embedding"])
            for place, entry in enumerate(said["data"])
        ]
        return vectors, int((said.get("usage") or {}).get("prompt_tokens") or 0)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _array(vectors: list[Any], client: ServiceClient) -> Vectors:
    """Vectors, each as a list of numbers or as the bytes of them in base64."""
    import numpy as np

    try:
        rows = [
            np.frombuffer(base64.b64decode(vector, validate=True), dtype="<f4")
            if isinstance(vector, str)
            else np.asarray(vector, dtype=np.float32)
            for vector in vectors
        ]
        array: Vectors = np.stack(rows).astype(np.float32, copy=False)
    except (ValueError, TypeError):
        array = np.empty(0, dtype=np.float32)
    if array.ndim != 2 or not array.shape[1]:
        raise EmbeddingError(
            f"The embedding service at {client.options} gave something that is no vector, "
            "or vectors of different sizes. See its log."
        )
    return array


def _wrong_count(given: int, wanted: int, client: ServiceClient) -> EmbeddingError:
    return EmbeddingError(
        f"The embedding service at {client.options} gave {given} vectors for {wanted} texts, or "
        "did not say of which. None of them is used. See what it logs."
    )


def _not_of_this_api(response: httpx.Response, client: ServiceClient) -> EmbeddingError:
    names = {"openai": "OpenAI's API", "tei": "Text Embeddings Inference"}
    said = client.options.hide_key(response.text.strip()[:200])
    return EmbeddingError(
        f"The embedding service at {client.options} gave an answer that is not that of "
        f"{names[client.options.api]}: {said!r}. Let `embedding_url` end with `/v1` or "
        "`/embeddings` for OpenAI's API, with `/embed` for Text Embeddings Inference."
    )
