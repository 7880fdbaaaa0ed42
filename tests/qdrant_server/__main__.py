"""`python -m tests.qdrant_server --data FOLDER`: serve until told to stop."""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

# It starts in half the time without what the client would embed with and print with.
for name in ("fastembed", "rich"):
    sys.modules[name] = None  # type: ignore[assignment]
gc.disable()  # while much is imported that stays: see `main`

from .engine import Storage  # noqa: E402
from .rest import RestServer  # noqa: E402
from .rpc import RpcServer  # noqa: E402
from .traffic import Keys, Traffic  # noqa: E402


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="qdrant_server", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder for the collections")
    parser.add_argument("--port", type=int, default=0, help="REST's port; 0 takes a free one")
    parser.add_argument("--grpc-port", type=int, default=0, help="gRPC's port; 0 takes a free one")
    parser.add_argument("--api-key", help="key that may do everything")
    parser.add_argument("--read-only-api-key", help="key that may only read")
    parser.add_argument("--strict", action="store_true", help="new collections in strict mode")
    parser.add_argument("--max-body", type=int, default=32 * 1024 * 1024, help="REST's, in bytes")
    parser.add_argument("--max-message", type=int, help="gRPC's, in bytes; no limit by default")
    parser.add_argument("--with-parent", action="store_true", help="exit when stdin is closed")
    return parser.parse_args()


def _exit_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """Serve; print the ports as a line of JSON as soon as both are open."""
    gc.freeze()
    gc.enable()
    given = _arguments()
    if given.with_parent:
        threading.Thread(target=_exit_with_parent, daemon=True).start()
    storage = Storage(given.data, strict_mode=given.strict)
    traffic = Traffic()
    shared = storage, traffic, Keys(given.api_key, given.read_only_api_key)
    ports = {"port": given.port, "grpc_port": given.grpc_port}
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True
        threading.Thread(target=traffic.close_listeners).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    while not stopped:
        rest = RestServer(ports["port"], *shared, given.max_body)
        rpc = RpcServer(ports["grpc_port"], *shared, given.max_message)
        ports = {"port": rest.server_port, "grpc_port": rpc.port}
        traffic.close_listeners = rest.shutdown
        print(json.dumps(ports), flush=True)
        rest.serve_forever(poll_interval=0.05)
        rest.server_close()
        rpc.close()
        time.sleep(traffic.away)
    storage.close()
    os._exit(0)  # nothing is left to do, and a tidy exit takes longer


if __name__ == "__main__":
    main()
