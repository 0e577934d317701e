"""Starting pod: what answers on its ops port, at an address of the loopback that nothing else has."""

from __future__ import annotations

import errno
import http.server
import json
import random
import threading
from typing import Any, Self

import pytest

from octavo_operator.names import OPS_PORT

GIB = 2**30


def report(
    phase: str, seconds: float, done: int = 0, total: int = 0, *, ended: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The body of `/startupz` in one phase after others; tests/contract holds it to the runtime's own."""
    current: dict[str, Any] = {"name": phase, "seconds": seconds, "done": False}
    if total:
        speed = round(done / seconds)
        current |= {"bytes": done, "bytes_total": total, "bytes_per_second": speed}
    before = [{"name": each, "seconds": 1.0, "done": True} for each in ended]
    return {
        "status": "starting",
        "started": False,
        "seconds": seconds + len(ended),
        "phases": [*before, current],
    }


class StartingPod:
    """An HTTP server on the ops port. `answer` is sent as it is; None: nothing is, until it is one."""

    def __init__(self) -> None:
        self.status, self.headers = 503, {"Content-Type": "application/json"}
        self.answer: bytes | None = b""
        self.asked: list[str] = []
        self._ends = threading.Event()
        pod = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                pod.asked.append(self.path)
                if pod.answer is None:
                    pod._ends.wait()
                    return
                self.send_response(pod.status)
                for name, value in pod.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(pod.answer)))
                self.end_headers()
                self.wfile.write(pod.answer)

            def log_message(self, *_: object) -> None:
                pass

        self.address = (
            f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"  # noqa: S311
        )
        try:
            self._server = http.server.ThreadingHTTPServer((self.address, OPS_PORT), Handler)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            pytest.skip(f"something listens on port {OPS_PORT} of every address of this machine")
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def says(self, report: dict[str, Any]) -> None:
        self.answer = json.dumps(report).encode()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._server.shutdown()
        self._server.server_close()
