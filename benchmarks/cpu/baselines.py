"""Baselines. What Octavo is compared with: processes that load a model and answer lines of JSON on stdin.

A baseline that waits for its next job blocks on stdin and uses no CPU, so all of them can stay loaded
while the others run.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.cpu.models import BenchmarkModel, Quantization

REPOSITORY = Path(__file__).resolve().parents[2]

GGUF_KINDS = {
    Quantization.NONE: "bf16",
    Quantization.INT8: "q8_0",
    Quantization.INT4: "q4_0",
}
_LLAMA_CPP_PADS_TO = 256  # tokens of context


class Baseline:
    """One process; `run` returns output tokens per second.

    Args:
        name: Column of the table. Of several baselines with one name the fastest counts.
        command: Prints a line when it is ready, then one for each job.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
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

    def run(self, prompts: Sequence[Sequence[int]], output_tokens: int) -> float:
        assert self._process.stdin is not None
        job = {"prompts": prompts, "output_tokens": output_tokens}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        return float(answer["tokens"] / answer["seconds"])

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def transformers_baseline(model: BenchmarkModel, dtype: str, threads: int, work: Path) -> Baseline:
    weights = "dummy" if model.dummy_weights else "real"
    return Baseline(
        "transformers",
        [sys.executable, "-m", "benchmarks.cpu.baseline", str(model.folder), dtype, weights]
        + [str(threads)],
        work / f"transformers-{model.name}-{dtype}-{threads}.log",
    )


def llama_cpp_baseline(model: BenchmarkModel, python: Path, threads: int, work: Path) -> Baseline:
    """Writes the model as GGUF into `work` first; `python` is the interpreter of `find_llama_cpp`."""
    kind = GGUF_KINDS[model.quantization]
    context = (
        -(-(model.prompt_tokens + model.output_tokens) // _LLAMA_CPP_PADS_TO) * _LLAMA_CPP_PADS_TO
    )
    return Baseline(
        "llama.cpp",
        [str(python), "-m", "benchmarks.cpu.llama_cpp_baseline"]
        + [str(model.folder / "config.json"), kind, str(work / f"{model.name}-{kind}.gguf")]
        + [str(threads), str(max(model.concurrencies)), str(context)],
        work / f"llama-cpp-{model.name}.log",
    )


def find_llama_cpp(python: Path | None) -> Path | None:
    """The interpreter that has llama-cpp-python and gguf: `python`, else this one; None if it lacks them.

    Raises:
        FileNotFoundError: `python` was named and does not exist.
    """
    if python is not None and not python.exists():
        raise FileNotFoundError(f"--llama-cpp-python {python} does not exist; name an interpreter.")
    interpreter = python or Path(sys.executable)
    probe = subprocess.run(
        [str(interpreter), "-c", "import llama_cpp, gguf"], capture_output=True, check=False
    )
    return interpreter if probe.returncode == 0 else None
