"""Sides: the servers that are compared, each with its API process on a core of its own.

The engine process and the load generator share the other one, so that what is measured is what an API process
can do, and none steals from it. With one core nothing is bound.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.cpu.baselines import REPOSITORY
from benchmarks.cpu.models import DEMO
from benchmarks.cpu.processes import cpu_seconds, free_port
from benchmarks.running_server import RunningServer
from benchmarks.server.step_clock import VARIABLE

OCTAVO, BARE, VLLM = "octavo", "bare", "vllm"
_ENGINE_CORES = "OCTAVO_BENCHMARK_ENGINE_CORES"
_READY_SECONDS = 400


@dataclass(frozen=True, slots=True)
class Cores:
    """Of the API process, and of all others; empty: not bound."""

    api: str = ""
    others: str = ""

    @classmethod
    def divided(cls) -> Cores:
        """One for the API process; none where there is but one."""
        mine = sorted(os.sched_getaffinity(0))
        if len(mine) < 2 or shutil.which("taskset") is None:
            return cls()
        return cls(str(mine[-1]), ",".join(map(str, mine[:-1])))


class Side(RunningServer):
    """One server with a null model behind it.

    Args:
        command: Its API process, which answers `/health` on `port` when it is ready.
        clock: The step clock's file.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        port: int,
        log: Path,
        clock: Path,
        side_version: str,
        cores: Cores,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.port = port
        self.version = side_version
        bound = ["taskset", "-c", cores.api] if cores.api else []
        with log.open("w") as out:
            process = subprocess.Popen(
                [*bound, *command],
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=REPOSITORY,
                env=os.environ
                | {VARIABLE: str(clock), "PYTHONPATH": _python_path(), _ENGINE_CORES: cores.others}
                | dict(environment or {}),
            )
        super().__init__(name, process, log)
        self.wait_ready(port, "/health", _READY_SECONDS)

    def api_cpu_seconds(self) -> float:
        """Of the API process alone, since it began."""
        return cpu_seconds(self._process.pid)


def our_side(work: Path, clock: Path, max_streams: int, cores: Cores) -> Side:
    port = free_port()
    return Side(
        OCTAVO,
        [sys.executable, "-m", "benchmarks.server.null_server", str(DEMO)]
        + [str(port), str(free_port()), str(max_streams)],
        port,
        work / "octavo.log",
        clock,
        version("octavo"),
        cores,
    )


def bare_side(work: Path, clock: Path, cores: Cores) -> Side:
    port = free_port()
    return Side(
        BARE,
        [sys.executable, "-m", "benchmarks.server.bare_server", str(port)],
        port,
        work / "bare.log",
        clock,
        f"starlette {version('starlette')}, uvicorn {version('uvicorn')}",
        cores,
    )


def vllm_side(python: Path, work: Path, clock: Path, max_streams: int, cores: Cores) -> Side:
    """vLLM's API and engine process on the demo model, of which nothing runs."""
    port = free_port()
    environment = {
        "VLLM_CPU_KVCACHE_SPACE": "4",  # 2,048 sequences, none of which is to be preempted
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }
    openmp = python.parent.parent / "lib" / "libiomp5.so"
    if openmp.exists():
        environment["LD_PRELOAD"] = str(openmp)
    return Side(
        VLLM,
        [str(python.parent / "vllm"), "serve", str(DEMO), "--served-model-name", "bench"]
        + ["--host", "127.0.0.1", "--port", str(port), "--max-model-len", "2048"]
        + ["--distributed-executor-backend", "benchmarks.server.vllm_executor.NullExecutor"]
        + ["--max-num-seqs", str(max_streams)]
        + ["--max-num-batched-tokens", str(max(8192, max_streams)), "--enforce-eager"]
        + ["--no-enable-prefix-caching", "--disable-uvicorn-access-log"],
        port,
        work / "vllm.log",
        clock,
        _vllm_version(python),
        cores,
        environment,
    )


def _python_path() -> str:
    given = os.environ.get("PYTHONPATH", "")
    return f"{REPOSITORY}:{given}" if given else str(REPOSITORY)


def _vllm_version(python: Path) -> str:
    code = "import importlib.metadata as m; print(m.version('vllm'))"
    found = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
    return found.stdout.strip()
