"""Server under measurement: waits until it is ready, and ends it."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

_END_SECONDS = 30


class RunningServer:
    """A process that answers over HTTP. Use it in a `with` block.

    Args:
        name: In errors.
        log: What it writes.
    """

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self._server_name = name
        self._process = process
        self._log_path = log

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def wait_ready(self, port: int, path: str, timeout_seconds: float) -> None:
        """Returns when `path` of a port of this machine answers well; who does not in time is ended.

        Raises `RuntimeError` where it ends by itself, with its last words, and `TimeoutError`.
        """
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                words = self._log_path.read_text()[-3000:]
                raise RuntimeError(
                    f"{self._server_name} ended with {self._process.returncode}: {words}"
                )
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        self.close()
        raise TimeoutError(
            f"{self._server_name} was not ready within {timeout_seconds} s; see {self._log_path}"
        )

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
