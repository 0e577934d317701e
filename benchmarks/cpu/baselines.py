"""Baselines. What Octavo is compared with: processes that load a model and answer lines of JSON on stdin.

A baseline that waits for its next job blocks on stdin and uses no CPU, so all of them can stay loaded
while the others run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cpu.models import BenchmarkModel, GGUFTypes, peers_dtype

REPOSITORY = Path(__file__).resolve().parents[2]

_LLAMA_CPP_PADS_TO = 256  # tokens of context
IN_PROCESS = "octavo in process"


class Baseline:
    """One process; `run` returns output tokens per second.

    Args:
        name: Column of the table. Of several baselines with one name the fastest counts.
        command: Prints a line when it is ready, then one for each job.
        environment: Beside this process's own.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._log = log
        with log.open("w") as stderr:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                cwd=REPOSITORY,
                env=os.environ | dict(environment or {}),
            )
        self.version = str(self._read().get("version", ""))

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"the {self.name} baseline ended with {self._process.wait()}: "
                f"{self._log.read_text()[-2000:]}"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """What it answers to a job."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return self._read()

    def run(self, prompts: Sequence[Sequence[int]], output_tokens: int) -> float:
        answer = self.ask({"prompts": prompts, "output_tokens": output_tokens})
        return float(answer["tokens"] / answer["seconds"])

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def in_process(model: BenchmarkModel, work: Path) -> Baseline:
    """Octavo itself, without a server."""
    return Baseline(
        IN_PROCESS,
        [sys.executable, "-m", "benchmarks.cpu.in_process", str(model.folder)]
        + ["dummy" if model.dummy_weights else "real"]
        + [str(model.max_model_len), model.quantization.value],
        work / f"in-process-{model.name}.log",
    )


def transformers_baseline(model: BenchmarkModel, dtype: str, threads: int, work: Path) -> Baseline:
    weights = "dummy" if model.dummy_weights else "real"
    return Baseline(
        "transformers",
        [sys.executable, "-m", "benchmarks.cpu.baseline", str(model.folder), dtype, weights]
        + [str(threads)],
        work / f"transformers-{model.name}-{dtype}-{threads}.log",
    )


def llama_cpp_baseline(
    model: BenchmarkModel, gguf: GGUFTypes, python: Path, threads: int, work: Path
) -> Baseline:
    """Writes the model as GGUF into `work` first; `python` is the interpreter that has llama.cpp."""
    context = (
        -(-(max(model.prompt_tokens) + model.output_tokens) // _LLAMA_CPP_PADS_TO)
        * _LLAMA_CPP_PADS_TO
    )
    return Baseline(
        "llama.cpp",
        [str(python), "-m", "benchmarks.cpu.llama_cpp_baseline"]
        + [str(model.folder / "config.json"), gguf.matrices, gguf.head]
        + [str(work / f"{model.name}-{gguf}.gguf"), str(threads)]
        + [str(max(model.concurrencies)), str(context)],
        work / f"llama-cpp-{model.name}.log",
    )


def vllm_baseline(model: BenchmarkModel, python: Path, work: Path) -> Baseline:
    return Baseline(
        "vllm",
        [str(python), "-m", "benchmarks.cpu.vllm_baseline", str(model.folder)]
        + ["dummy" if model.dummy_weights else "real"]
        + [str(model.max_model_len), str(max(model.concurrencies))],
        work / f"vllm-{model.name}.log",
        vllm_environment(python),
    )


def vllm_environment(python: Path) -> dict[str, str]:
    """With a thread bound to each core, as its guide has it for speed: left alone it computes on one."""
    cores = sorted(os.sched_getaffinity(0))
    environment = {
        "OMP_NUM_THREADS": str(len(cores)),
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cores)),
        "VLLM_CPU_KVCACHE_SPACE": "3",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    # A package that vLLM's CPU build depends on.
    openmp = python.parent.parent / "lib" / "libiomp5.so"
    if openmp.exists():
        environment["LD_PRELOAD"] = str(openmp)
    return environment


def openvino_baseline(model: BenchmarkModel, python: Path, threads: int, work: Path) -> Baseline:
    """Writes the model in OpenVINO's form into `work` first."""
    return Baseline(
        "openvino",
        [str(python), "-m", "benchmarks.cpu.openvino_baseline", str(model.folder)]
        + ["dummy" if model.dummy_weights else "real", str(work / f"{model.name}-openvino")]
        + [str(threads), str(max(model.concurrencies)), peers_dtype()],
        work / f"openvino-{model.name}.log",
    )


@dataclass(frozen=True, slots=True)
class Peer:
    """A program that is installed in an environment of its own, or not at all.

    Args:
        modules: What its interpreter must be able to import.
    """

    name: str
    option: str
    modules: tuple[str, ...]
    packages: str

    def find(self, python: Path | None) -> Path | None:
        """The interpreter that has it: `python`, else this one; None where it lacks a module.

        Raises:
            FileNotFoundError: `python` was named and does not exist.
        """
        if python is not None and not python.exists():
            raise FileNotFoundError(f"{self.option} {python} does not exist; name an interpreter.")
        interpreter = python or Path(sys.executable)
        # Found, not imported: that alone takes half a minute of some.
        code = "import importlib.util, sys; sys.exit(not all(map(importlib.util.find_spec, sys.argv[1:])))"
        probe = subprocess.run(
            [str(interpreter), "-c", code, *self.modules], capture_output=True, check=False
        )
        return interpreter if probe.returncode == 0 else None


LLAMA_CPP = Peer("llama.cpp", "--llama-cpp-python", ("llama_cpp", "gguf"), "llama-cpp-python gguf")
VLLM = Peer("vllm", "--vllm-python", ("vllm",), "vllm-cpu")
OPENVINO = Peer(
    "openvino",
    "--openvino-python",
    ("openvino_genai", "optimum.intel"),
    "openvino-genai optimum-intel nncf",
)
