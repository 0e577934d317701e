"""Server process. A real `octavo serve`, started as its users start it and driven over HTTP."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.cpu.models import BenchmarkModel
from benchmarks.running_server import RunningServer
from octavo.client import Client

_READY_SECONDS = 180
_CPU_CLOCK = 2  # CPUCLOCK_SCHED of Linux: all threads of a process, in nanoseconds


def cpu_seconds(pid: int) -> float:
    """Of a process since it began, without its children."""
    return time.clock_gettime((~pid << 3) | _CPU_CLOCK)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server(RunningServer):
    """`octavo serve` as its users start it; `run` returns output tokens per second over HTTP.

    `api_cpu_share` is what the API process used of all cores in the last run.
    """

    def __init__(self, model: BenchmarkModel, log: Path, extra: Sequence[str] = ()) -> None:
        self.port, self.ops_port = free_port(), free_port()
        self.api_cpu_share = 0.0
        self._log = log.open("w")
        flags = ["--load-format", "dummy"] if model.dummy_weights else []
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "octavo", "serve", str(model.folder)]
            + ["--served-model-name", "bench", "--host", "127.0.0.1", "--port", str(self.port)]
            + ["--ops-port", str(self.ops_port), "--max-model-len", str(model.max_model_len)]
            # Rounds repeat their prompts: a cached one would not be computed, and the baselines compute it.
            + ["--no-enable-prefix-caching", *flags, *extra],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        super().__init__("octavo serve", process, log)
        self.wait_ready(self.ops_port, "/readyz", _READY_SECONDS)
        self.startup_seconds = time.perf_counter() - started

    def metrics(self) -> dict[str, float]:
        """Unlabelled sums of every sample on /metrics."""
        sums: dict[str, float] = {}
        # The standard library's client: a thread samples, and nothing streams.
        url = f"http://127.0.0.1:{self.ops_port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            for family in text_string_to_metric_families(answer.read().decode()):
                for sample in family.samples:
                    sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
        return sums

    def run(self, prompts: Sequence[Sequence[int]], output_tokens: int) -> float:
        start, used = time.perf_counter(), cpu_seconds(self._process.pid)
        tokens = asyncio.run(self._burst(prompts, output_tokens))
        seconds = time.perf_counter() - start
        used = cpu_seconds(self._process.pid) - used
        self.api_cpu_share = used / (seconds * len(os.sched_getaffinity(0)))
        return tokens / seconds

    async def _burst(self, prompts: Sequence[Sequence[int]], output_tokens: int) -> int:
        async with Client(f"http://127.0.0.1:{self.port}", timeout_seconds=900) as client:
            answers = await asyncio.gather(
                *(client.stream("completions", _body(prompt, output_tokens)) for prompt in prompts)
            )
        return sum(answer.completion_tokens for answer in answers)

    def close(self) -> None:
        super().close()
        self._log.close()


def _body(prompt: Sequence[int], output_tokens: int) -> dict[str, Any]:
    return {
        "model": "bench",
        "prompt": list(prompt),
        "max_tokens": output_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream_options": {"include_usage": True},
    }
