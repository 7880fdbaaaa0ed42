"""An embedding service over a real model: OpenAI's API and that of Text Embeddings Inference.

It answers as those do that it stands for, and misbehaves as it is told to.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tokenizers import Tokenizer

from dagster_qdrant.embedding.local import TextEmbedder

Answer = Callable[[dict[str, Any]], Response | None]


class Cut(Response):
    """Ends the connection in the middle of an answer."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"1000"), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"[[0.1", "more_body": True})


def answer(status: int, said: Any = None, **headers: str) -> Answer:
    """Answers a request with a status, whatever it is."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _body: JSONResponse(said or {"error": "no reason"}, status, names)


def cut(_body: dict[str, Any]) -> Response:
    return Cut()


@dataclass
class EmbeddingService:
    """A service on the loopback interface, as a context.

    Args:
        embedder: The model.
        model: Its name.
        key: The key that it asks for.
        max_tokens: How many tokens of a text it takes; at most as many as the model.
        most_texts: How many texts it takes at once.
        refuses: Whether it refuses texts that are too long; else it cuts them without a word.
        knows_base64: Whether it takes `encoding_format`.
        matryoshka: Whether its vectors may be shortened.
        half: Whether it computes in half precision, which differs from batch to batch.
        has_info: Whether it says of itself what it is.
    """

    embedder: TextEmbedder = field(repr=False)
    model: str
    max_tokens: int = 256
    key: str | None = field(default=None, repr=False)
    most_texts: int = 2048
    refuses: bool = True
    knows_base64: bool = True
    matryoshka: bool = False
    half: bool = False
    has_info: bool = True
    size: int = 384
    # The answers to the next requests for vectors, in place of the right ones; None: the right one.
    next_answers: deque[Answer | None] = field(default_factory=deque)
    # What is done with each right answer.
    spoil: Callable[[list[list[float]]], list[Any]] | None = None
    seconds: float = 0.0
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list, repr=False)
    headers: list[dict[str, str]] = field(default_factory=list, repr=False)
    at_once: int = 0
    most_at_once: int = 0

    def __post_init__(self) -> None:
        self._guard = threading.Lock()
        tokenizer = self.embedder._models[0].model.tokenizer  # type: ignore[attr-defined]
        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def __enter__(self) -> EmbeddingService:
        routes = [
            Route("/v1/embeddings", self._openai, methods=["POST"]),
            Route("/embed", self._tei, methods=["POST"]),
            Route("/info", self._info),
        ]
        config = uvicorn.Config(Starlette(routes=routes), port=0, log_level="critical")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(10)

    @property
    def openai(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def tei(self) -> str:
        return f"http://127.0.0.1:{self.port}/embed"

    @property
    def texts(self) -> list[str]:
        """The texts that came, without those that asked what the service is."""
        sent = [text for _, body in self.requests for text in body.get("input", body.get("inputs"))]
        return [text for text in sent if text != "What is it about?"]

    def tokens(self, text: str) -> int:
        return len(self._tokenizer.encode(text).ids)

    def cut_off(self, text: str) -> str:
        """As much of a text as it takes."""
        offsets = self._tokenizer.encode(text).offsets[1:-1]
        taken = offsets[: self.max_tokens - 2]
        return text[: taken[-1][1]] if taken else text

    def reset(self) -> None:
        """Behave again, as it did at first."""
        for each in fields(self):
            if each.name not in ("embedder", "model", "max_tokens"):
                made = each.default_factory
                setattr(self, each.name, each.default if made is MISSING else made())

    async def _openai(self, request: Request) -> Response:
        body = await request.json()
        if refusal := self._enter(request, body):
            return refusal
        if body["model"] != self.model:
            return _openai_error(404, f"The model `{body['model']}` does not exist.")
        if "encoding_format" in body and not self.knows_base64:
            return _openai_error(400, "Unrecognized request argument: encoding_format")
        if "dimensions" in body and not self.matryoshka:
            said = f'Model "{self.model}" does not support matryoshka representation'
            return _openai_error(400, said)
        texts = body["input"]
        if len(texts) > self.most_texts:
            return _openai_error(400, f"Input list has {len(texts)} texts, which is too many.")
        longest = max(map(self.tokens, texts))
        if self.refuses and longest > self.max_tokens:
            return _openai_error(
                400,
                f"This model's maximum context length is {self.max_tokens} tokens. However, you "
                f"requested {longest} tokens in the input for embedding generation.",
            )
        vectors = await self._vectors(texts, body.get("dimensions"))
        data = [
            {"object": "embedding", "index": index, "embedding": _encoded(vector, body)}
            for index, vector in enumerate(vectors)
        ]
        tokens = sum(min(self.tokens(text), self.max_tokens) for text in texts)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        # In another order, which `index` is for.
        return _json({"data": data[::-1], "model": self.model, "usage": usage})

    async def _tei(self, request: Request) -> Response:
        body = await request.json()
        if refusal := self._enter(request, body):
            return refusal
        texts = body["inputs"]
        if len(texts) > self.most_texts:
            said = f"batch size {len(texts)} > maximum allowed batch size {self.most_texts}"
            return JSONResponse({"error": said, "error_type": "Validation"}, 422)
        longest = max(map(self.tokens, texts))
        if not body["truncate"] and longest > self.max_tokens:
            said = f"`inputs` must have less than {self.max_tokens} tokens. Given: {longest}"
            return JSONResponse({"error": said, "error_type": "Validation"}, 413)
        if "dimensions" in body and not self.matryoshka:
            said = "`dimensions` is not supported for this model"
            return JSONResponse({"error": said, "error_type": "Validation"}, 413)
        vectors = await self._vectors(texts, body.get("dimensions"))
        tokens = sum(min(self.tokens(text), self.max_tokens) for text in texts)
        return _json(vectors, {"x-compute-tokens": str(tokens)})

    async def _info(self, request: Request) -> Response:
        if not self.has_info:
            return Response("Not Found", 404)
        return JSONResponse(
            {
                "model_id": self.model,
                "max_client_batch_size": self.most_texts,
                "max_input_length": self.max_tokens,
            }
        )

    def _enter(self, request: Request, body: dict[str, Any]) -> Response | None:
        self.requests.append((request.url.path, body))
        self.headers.append(dict(request.headers))
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            return _openai_error(401, "Incorrect API key provided.")
        following = self.next_answers.popleft() if self.next_answers else None
        return following(body) if following else None

    async def _vectors(self, texts: list[str], dimensions: int | None) -> list[Any]:
        with self._guard:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            vectors = await run_in_threadpool(self._embed, texts)
        finally:
            with self._guard:
                self.at_once -= 1
        vectors = [vector[: dimensions or self.size].tolist() for vector in vectors]
        return self.spoil(vectors) if self.spoil else vectors

    def _embed(self, texts: list[str]) -> Any:
        time.sleep(self.seconds)
        vectors = self.embedder.embed([self.cut_off(text) for text in texts])
        if self.half:
            noise = np.random.default_rng().normal(scale=1e-4, size=vectors.shape)
            vectors = (vectors + noise * np.abs(vectors)).astype(np.float16).astype(np.float32)
        return vectors


def _openai_error(status: int, message: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": "error", "code": None}}, status)


def _encoded(vector: list[Any], body: dict[str, Any]) -> Any:
    if body.get("encoding_format") != "base64":
        return vector
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()


def _json(said: Any, headers: dict[str, str] | None = None) -> Response:
    # As services do that write numbers which JSON does not have.
    return Response(json.dumps(said), headers=headers, media_type="application/json")
