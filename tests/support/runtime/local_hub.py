"""Hub of models on loopback, that speaks the protocol of Hugging Face's."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from huggingface_hub import constants

COMMIT = "a" * 40


class LocalHub(BaseHTTPRequestHandler):
    """The three routes of the hub that a snapshot needs: revision info, file tree, file content."""

    files: ClassVar[dict[str, bytes]] = {
        "config.json": b"{}",
        "model.safetensors": b"weights",
        "pytorch_model.bin": b"pickle",
        "modeling_x.py": b"raise SystemExit",
        "tokenizer.json": b"{}",
    }
    is_down: ClassVar[bool] = False
    fetched: ClassVar[list[str]] = []
    num_bytes: ClassVar[int] = 0
    # Set where ranges are answered; None: at once.
    let_go: ClassVar[threading.Event | None] = None
    commits: ClassVar[list[str]] = [COMMIT]
    """Of `main`: each time that it is asked for, the next one; the last stays."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if self.is_down:
            self._answer(503, {"error": "down"})
        elif path.startswith("/api/models/org/gated"):
            self._answer(403, {"error": "gated"}, {"X-Error-Code": "GatedRepo"})
        elif path.startswith("/api/models/org/broken"):
            self._answer(418, {"error": "teapot"})
        elif not path.startswith(("/api/models/org/name", "/org/name/resolve/")):
            self._answer(404, {"error": "absent"}, {"X-Error-Code": "RepoNotFound"})
        elif "/revision/" in path and not path.endswith(("/main", COMMIT, "b" * 40, "c" * 40)):
            self._answer(404, {"error": "absent"}, {"X-Error-Code": "RevisionNotFound"})
        elif "/tree/" in path:
            tree = [
                {"type": "file", "path": name, "size": len(data), "oid": f"{i:040x}"}
                for i, (name, data) in enumerate(self.files.items())
            ]
            self._answer(200, tree)
        elif path.startswith("/api/"):
            siblings = [{"rfilename": name} for name in self.files]
            commit = self.commits.pop(0) if self.commits[1:] else self.commits[0]
            self._answer(200, {"id": "org/name", "sha": commit, "siblings": siblings})
        else:
            self._file(path.partition("/resolve/")[2].partition("/")[2])

    do_HEAD = do_GET  # noqa: N815 (the base class's spelling)

    def _file(self, name: str) -> None:
        data = self.files[name]
        if self.command == "GET":
            self.fetched.append(name)
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if span and self.let_go is not None:
            self.let_go.wait(60)
            return
        if span:
            data = data[int(span[1]) : int(span[2]) + 1]
        if self.command == "GET":
            LocalHub.num_bytes += len(data)
        self.send_response(206 if span else 200)
        self.send_header("X-Repo-Commit", self.commits[0])
        self.send_header("ETag", f'"{name}"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def _answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def local_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[LocalHub]]:
    """Every model is of it until the test ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), LocalHub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
    )
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    LocalHub.fetched.clear()
    try:
        yield LocalHub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
