"""The REST interface, one thread a connection: the engine holds the interpreter's lock anyway."""

from __future__ import annotations

import re
import socket
import sys
import time
import traceback
from contextlib import suppress
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import orjson
from pydantic import ValidationError

from .engine import Storage
from .errors import ApiError, ConnectionCut
from .faults import Fault
from .operations import OPERATIONS, Call, Operation
from .traffic import Keys, Traffic

_ROUTES = [
    (re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", operation.route)), operation)
    for operation in OPERATIONS.values()
]


@lru_cache(maxsize=10_000)
def _route(request: str) -> tuple[Operation, dict[str, str]] | None:
    for pattern, operation in _ROUTES:
        if match := pattern.fullmatch(request):
            return operation, {key: unquote(value) for key, value in match.groupdict().items()}
    return None


def _parse(operation: Operation, content: bytes) -> Any:
    """The body as the model that the client itself would have made."""
    try:
        return operation.body.validate_python(orjson.loads(content or b"null"))
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"Format error in JSON body: {error}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise ApiError(422, f"Validation error in JSON body: [{where}: {problem['msg']}]") from None


def _set_fields(answer: Any) -> dict[str, Any]:
    """The fields of a model that have a value. Older clients refuse fields they don't know."""
    return {name: value for name, value in vars(answer).items() if value is not None}


class RestServer(ThreadingHTTPServer):
    """Listens on the loopback interface only."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, port: int, storage: Storage, traffic: Traffic, keys: Keys, max_body: int
    ) -> None:
        """Open the port; 0 takes a free one."""
        self.storage, self.traffic, self.keys, self.max_body = storage, traffic, keys, max_body
        super().__init__(("127.0.0.1", port), _Handler)

    def server_bind(self) -> None:
        """Bind, and look up no name for the address."""
        TCPServer.server_bind(self)
        self.server_port = self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            traceback.print_exc()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RestServer
    wbufsize = -1  # one packet an answer
    disable_nagle_algorithm = True

    def _handle(self) -> None:
        started = time.perf_counter()
        try:
            if self.path.startswith("/_test/"):
                self._control()
            else:
                self._serve()
        except ApiError as error:
            self._refuse(error, started)
        except ConnectionCut:
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
        except Exception as error:
            traceback.print_exc()
            self._refuse(ApiError(500, f"Service internal error: {error!r}"), started)

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _handle

    def _content(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _serve(self) -> None:
        url = urlsplit(self.path)
        request = f"{self.command} {url.path}"
        found = _route(request)
        if found is None:
            self._content()
            return self._send(404, b"")
        operation, names = found
        call = Call(
            self.server.storage,
            operation.name,
            name=names.get("name", ""),
            key=names.get("key", ""),
            wait=parse_qs(url.query).get("wait") == ["true"],
            ordering=parse_qs(url.query).get("ordering", [None])[0],
            consistency=parse_qs(url.query).get("consistency", [None])[0],
        )
        traffic = self.server.traffic
        with traffic.request(operation, "rest", request, call) as faults:
            content = self._content()
            self.server.keys.check(self._key(), operation)
            traffic.perform(faults, "before")
            if len(content) > self.server.max_body:
                size, limit = len(content), self.server.max_body
                text = f"JSON payload ({size} bytes) is larger than allowed (limit: {limit} bytes)"
                raise ApiError(400, f"Payload error: {text}.")
            call.body = _parse(operation, content)
            result = operation.run(call)
            traffic.perform(faults, "after")
            if isinstance(result, str):
                return self._send(200, result.encode(), "text/plain")
            if operation.name != "root":
                result = {"result": result, "status": "ok", "time": call.seconds}
            answer = orjson.dumps(result, default=_set_fields)
            traffic.count_bytes(len(content), len(answer))
            self._send(200, answer)

    def _key(self) -> str | None:
        bearer: str = self.headers.get("Authorization", "")
        return self.headers.get("api-key") or bearer.removeprefix("Bearer ") or None

    def _refuse(self, error: ApiError, started: float) -> None:
        if error.status == 401:
            return self._send(401, error.message.encode(), "text/plain")
        answer = {"status": {"error": error.message}, "time": time.perf_counter() - started}
        headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
        self._send(error.status, orjson.dumps(answer), headers=headers)

    def _send(
        self,
        status: int,
        content: bytes,
        kind: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _control(self) -> None:
        """The tests' own endpoints: faults, counts, and an end to collections."""
        traffic, content = self.server.traffic, self._content()
        result: Any = True
        match self.command, self.path:
            case "POST", "/_test/faults":
                traffic.add_fault(Fault(**orjson.loads(content)))
            case "GET", "/_test/faults":
                result = traffic.faults()
            case "DELETE", "/_test/faults":
                traffic.clear_faults()
            case "GET", "/_test/counts":
                result = traffic.counts()
            case "DELETE", "/_test/counts":
                traffic.reset_counts()
            case "DELETE", path if path.startswith("/_test/collections/"):
                self.server.storage.remove(path.removeprefix("/_test/collections/"))
            case _:
                return self._send(404, b"")
        self._send(200, orjson.dumps(result))

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Keep the log for what went wrong."""
