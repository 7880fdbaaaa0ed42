"""The server in a process of its own, which lives no longer than the one that started it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any

from .faults import Fault


class ServerProcess:
    """A server on the loopback interface, as a context or by `start` and `stop`.

    It keeps its ports and its data over a stop or a kill.

        with ServerProcess() as server:
            client = QdrantClient(server.url)
            server.fault("answer", status=429, retry_after=1, operation="upsert", times=2)
    """

    def __init__(
        self,
        data: Path | str | None = None,
        *,
        api_key: str | None = None,
        read_only_api_key: str | None = None,
        strict: bool = False,
        max_body: int | None = None,
        max_message: int | None = None,
    ) -> None:
        """Prepare; nothing runs yet.

        Args:
            data: The folder for data and log; by default a temporary one.
            api_key: The key that may do everything.
            read_only_api_key: The key that may only read.
            strict: Whether new collections are in strict mode: no filter without an index.
            max_body: REST's limit for a body, in bytes; by default Qdrant's 32 MiB.
            max_message: gRPC's limit for a message; by default none, as in Qdrant.
        """
        self._temporary = None
        if data is None:
            self._temporary = tempfile.TemporaryDirectory(
                prefix="qdrant-server-", ignore_cleanup_errors=True
            )
            data = self._temporary.name
        self.data = Path(data).absolute()
        self.port = 0
        self.grpc_port = 0
        self._process: subprocess.Popen[str] | None = None
        self._options = {
            "--data": self.data,
            "--api-key": api_key,
            "--read-only-api-key": read_only_api_key,
            "--max-body": max_body,
            "--max-message": max_message,
        }
        self._flags = ["--with-parent", *(["--strict"] if strict else [])]

    @property
    def url(self) -> str:
        """REST's address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What the server has written to stderr."""
        return (self.data / "server.log").read_text()

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> ServerProcess:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it, and remove its temporary folder."""
        self.stop()
        if self._temporary is not None:
            self._temporary.cleanup()

    def start(self) -> None:
        """Start, on the former ports if there were any, and wait until it listens."""
        if self.running:
            return
        assert __package__
        options = self._options | {"--port": self.port, "--grpc-port": self.grpc_port}
        given = [f"{name}={value}" for name, value in options.items() if value is not None]
        self.data.mkdir(parents=True, exist_ok=True)
        with (self.data / "server.log").open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __package__, *given, *self._flags],
                cwd=Path(__file__).parents[__package__.count(".") + 1],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout
        too_long = threading.Timer(60, self._process.kill)
        too_long.start()
        ready = self._process.stdout.readline()
        too_long.cancel()
        if not ready:
            self.kill()
            raise RuntimeError(f"The server did not start:\n{self.log}")
        ports = json.loads(ready)
        self.port, self.grpc_port = ports["port"], ports["grpc_port"]

    def stop(self) -> None:
        """Stop it as an administrator would."""
        self._end(subprocess.Popen.terminate)

    def kill(self) -> None:
        """Kill it without a warning (SIGKILL)."""
        self._end(subprocess.Popen.kill)

    def restart(self) -> None:
        """Stop it if it runs, and start it on the same ports with the same data."""
        self.stop()
        self.start()

    def _end(self, how: Any) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        how(process)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdin
        assert process.stdout
        process.stdin.close()
        process.stdout.close()

    def fault(self, action: str, **settings: Any) -> None:
        """Misbehave from now on: see `Fault` for the actions and settings."""
        Fault(action, **settings)  # type: ignore[arg-type]  # a wrong name fails here
        self._control("POST", "faults", {"action": action, **settings})

    def clear_faults(self) -> None:
        """Behave again."""
        self._control("DELETE", "faults")

    def faults(self) -> list[dict[str, Any]]:
        """The faults with how many requests each has `seen` and `struck`."""
        faults: list[dict[str, Any]] = self._control("GET", "faults")
        return faults

    def counts(self) -> dict[str, Any]:
        """What was counted since the start or the last reset."""
        counts: dict[str, Any] = self._control("GET", "counts")
        return counts

    def reset_counts(self) -> None:
        """Count from zero."""
        self._control("DELETE", "counts")

    def remove_collections(self, prefix: str) -> None:
        """Remove the collections whose names begin so, uncounted and whatever the faults."""
        self._control("DELETE", f"collections/{prefix}")

    def _control(self, method: str, what: str, body: dict[str, Any] | None = None) -> Any:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, f"/_test/{what}", json.dumps(body) if body else None)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 200:
                raise RuntimeError(content.decode())
            return json.loads(content)
        finally:
            connection.close()
