"""Server process: a real `octavo serve` on loopback ports that the kernel chooses."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

import httpx

from octavo.engine.client import ENGINE_MODULE

# Less than pytest gives a test; an idle machine takes a few.
START_SECONDS = 280.0
_NO_ENVIRONMENT = ("OCTAVO_API_KEY", "OCTAVO_TERMINATION_LOG", "OCTAVO_LOG_LEVEL")


def start_command(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """`octavo …` with its standard error piped."""
    inherited = {k: v for k, v in os.environ.items() if k not in _NO_ENVIRONMENT}
    return subprocess.Popen(
        [sys.executable, "-m", "octavo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**inherited, "OMP_NUM_THREADS": "1", **environment},
    )


class ServerProcess:
    """Started at once; `wait_ready` returns when it answers. Use it in a `with` block."""

    def __init__(self, *arguments: str, model: str = "builtin://demo", **environment: str) -> None:
        ports = ("--port", "0", "--ops-port", "0")
        defaults = ("--served-model-name", "demo", "--kv-cache-memory", "64Mi")
        self.process = start_command("serve", model, *ports, *defaults, *arguments, **environment)
        self.log: list[dict[str, Any]] = []
        self.stderr: list[str] = []
        self._events: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        threading.Thread(target=self._read_stderr, daemon=True).start()

    def wait_ready(self) -> Self:
        ready = self.wait_for("ready")
        self.url = ready["url"].removesuffix("/v1")
        self.ops_url = ready["ops_url"]
        return self

    def comes_in_time(self) -> bool:
        """Ready; False where it ended because its ranks were too slow for each other, on a busy machine."""
        try:
            self.wait_ready()
        except AssertionError:
            if "--distributed-timeout-seconds" in "".join(self.stderr):
                return False
            raise
        return True

    def wait_for(self, event: str, timeout: float = START_SECONDS) -> dict[str, Any]:
        """The next log line of that name."""
        deadline = time.monotonic() + timeout
        while True:
            line = self._events.get(timeout=max(0.01, deadline - time.monotonic()))
            assert line is not None, f"ended before {event!r}: {self.stderr}"
            if line.get("event") == event:
                return line

    def metrics(self) -> dict[str, float]:
        """Samples by name and labels, the label `model` left out."""
        text = httpx.get(f"{self.ops_url}/metrics", timeout=60).raise_for_status().text
        samples = {}
        for line in text.splitlines():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                samples[re.sub(r'\{model="demo"\}|model="demo",|,model="demo"', "", name)] = float(
                    value
                )
        return samples

    def probe(self, name: str) -> httpx.Response:
        """What the ops port answers. An engine that is idle may be too slow to show it on a busy machine:
        who waits for `readyz` waits `eventually`."""
        return httpx.get(f"{self.ops_url}/{name}", timeout=60)

    @property
    def child_pids(self) -> list[int]:
        """The engine's, and those of API processes where there are several."""
        pid = self.process.pid
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))

    @property
    def engine_pid(self) -> int:
        children = self.child_pids
        if len(children) > 1:
            children = [
                child
                for child in children
                if ENGINE_MODULE in Path(f"/proc/{child}/cmdline").read_text()
            ]
        (engine,) = children
        return engine

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = 60.0) -> int:
        return self.process.wait(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def _read_stderr(self) -> None:
        assert self.process.stderr is not None
        try:
            for text in self.process.stderr:
                self.stderr.append(text)
                try:
                    line = json.loads(text)
                except ValueError:
                    continue
                self.log.append(line)
                self._events.put(line)
        except ValueError:  # closed by the test's end
            pass
        self._events.put(None)


def eventually(condition: Any, timeout: float = 60.0) -> None:
    """Waits until `condition()` holds; no test depends on how soon."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)
