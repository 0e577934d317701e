"""Compile-ahead. Compiles a GPU's kernels while the weights are read, so that warm-up finds them in Triton's
cache.

A process of its own rehearses the start-up (`rehearsal.py`) and compiles what it would launch on as many
cores as the pod leaves, at low priority and without touching the GPU. Whatever goes wrong there costs time
alone: warm-up compiles what it does not find. When everything was compiled, a list of it is left beside the
binaries, so that the next start with the same cache starts no process.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec
import torch

from octavo.config import EngineConfig
from octavo.models.base import ModelConfig
from octavo.quantization import StoredFormat
from octavo.worker import machine

logger = logging.getLogger(__name__)

# A model has some thirty forms, of a core's second or two each: more than this would save little.
_MAX_WORKERS = 8
# One would hardly make up for the process's own start, which takes as long as ten forms.
_MIN_WORKERS = 2
# Longer than all forms take on one slow core: what is not there by then is stuck.
_PATIENCE_SECONDS = 180.0
_SOURCES = ("kernels", "layers", "models", "quantization", "sampling", "worker")
_LISTS = "octavo-start-up"


class CompileRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the process is told, as a line of JSON on its standard input.

    Args:
        dtype: Of the model, such as `bfloat16`.
        capability, num_multiprocessors: Of the GPU; see `octavo.worker.compile_ahead.absent_gpu.Chip`.
        num_workers: Forms that are compiled at once.
    """

    config: EngineConfig
    dtype: str
    capability: int
    num_multiprocessors: int
    num_workers: int


class CompileReport(msgspec.Struct, frozen=True, kw_only=True):
    """What it answers, as a line of JSON on its standard output.

    Args:
        files: Of each form that is in the cache now, relative to the cache's folder.
        num_compiled: How many of them were not there before.
        failures: What became of the others, at most a few.
    """

    files: list[str] = []
    num_compiled: int = 0
    failures: list[str] = []
    rehearsal_seconds: float = 0.0
    compile_seconds: float = 0.0


class CompilingAhead:
    """The process at work.

    Args:
        errors: What it writes to standard error.
        kept: Where the list of files is written when all is there.
    """

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes], kept: Path) -> None:
        self._process = process
        self._errors = errors
        self._kept = kept

    def wait(self, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        """Until everything is compiled, or nothing more will be; logs which. Raises nothing of its own."""
        started = time.monotonic()
        try:
            self._process.wait(patience_seconds)
            report = self._report()
        except subprocess.TimeoutExpired:
            logger.warning(
                "GPU kernels are not compiled after %.0f s more; warm-up compiles what is missing.",
                patience_seconds,
            )
            return
        except (OSError, ValueError) as error:  # msgspec's are ValueErrors
            logger.warning(
                "GPU kernels were not compiled ahead, so warm-up compiles them: %s", error
            )
            return
        logger.info(
            "GPU kernels: %d forms in the cache, %d of them compiled in %.1f s after %.1f s of rehearsal; "
            "%.1f s were waited for.%s",
            len(report.files),
            report.num_compiled,
            report.compile_seconds,
            report.rehearsal_seconds,
            time.monotonic() - started,
            f" Left to warm-up: {'; '.join(report.failures)}" if report.failures else "",
        )
        if not report.failures:
            _keep_list(self._kept, report.files)

    def end(self) -> None:
        """What still runs is stopped."""
        streams = (self._process.stdin, self._process.stdout, self._errors)
        if self._process.poll() is None:
            self._process.kill()  # its workers see the end of their standard input
            self._process.wait()
        for stream in streams:
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _report(self) -> CompileReport:
        status, answers = self._process.returncode, self._process.stdout
        if status or answers is None:
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").strip().splitlines()
            raise ValueError(
                f"the process ended with status {status}: {lines[-1] if lines else 'it said nothing'}"
            )
        # Before it there may be what a library prints.
        return msgspec.json.decode(answers.read().strip().rpartition(b"\n")[2], type=CompileReport)


@contextmanager
def compiling_ahead(
    config: EngineConfig,
    model: ModelConfig,
    dtype: torch.dtype,
    device: torch.device,
    stored: StoredFormat | None = None,
) -> Iterator[CompilingAhead | None]:
    """Starts the process, and ends it with the block.

    None where there is nothing to compile, or too few cores to compile on beside the one that loads.

    Args:
        stored: Format of the checkpoint's weights, as in `scheme_for`.
    """
    running = None
    try:
        running = _start(config, model, dtype, device, stored)
    except Exception as error:  # whatever it is, warm-up does without
        logger.warning("GPU kernels are not compiled ahead, so warm-up compiles them: %s", error)
    try:
        yield running
    finally:
        if running is not None:
            running.end()


def _start(
    config: EngineConfig,
    model: ModelConfig,
    dtype: torch.dtype,
    device: torch.device,
    stored: StoredFormat | None,
) -> CompilingAhead | None:
    workers = min(machine.available_cpus() - 1, _MAX_WORKERS)
    if workers < _MIN_WORKERS:
        return None
    major, minor = torch.cuda.get_device_capability(device)
    request = CompileRequest(
        config=config,
        dtype=str(dtype).removeprefix("torch."),
        capability=major * 10 + minor,
        num_multiprocessors=torch.cuda.get_device_properties(device).multi_processor_count,
        num_workers=workers,
    )
    kept = list_of_forms(request, model, stored)
    if is_complete(kept):
        return None
    return launch(request, kept)


def launch(request: CompileRequest, kept: Path) -> CompilingAhead:
    """Raises `OSError` when the process cannot be started."""
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",  # so that nothing can take memory of a GPU
        "TRITON_CACHE_DIR": str(kept.parent.parent),
        # Threads would not survive its forks.
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    }
    errors = tempfile.TemporaryFile()  # noqa: SIM115 (read and closed by `CompilingAhead`)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "octavo.worker.compile_ahead.process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env=environment,
    )
    running = CompilingAhead(process, errors, kept)
    if process.stdin is not None:
        # It stays open: its end tells the process that nobody waits for it any more. That the process has
        # ended is seen by who waits for it.
        with contextlib.suppress(OSError):
            process.stdin.write(msgspec.json.encode(request) + b"\n")
            process.stdin.flush()
    return running


def list_of_forms(
    request: CompileRequest, model: ModelConfig, stored: StoredFormat | None = None
) -> Path:
    """The list of the files of all that this start launches, named after everything that decides them."""
    import triton

    from octavo.kernels.gpu.compiling.forms import cache_folder

    digest = hashlib.sha256()
    parts = (
        msgspec.structs.replace(request, num_workers=0),
        model,
        stored,
        torch.__version__,
    )
    digest.update(repr((*parts, triton.__version__)).encode())
    package = Path(__file__).parents[2]
    for file in sorted(file for name in _SOURCES for file in (package / name).rglob("*.py")):
        digest.update(str(file.relative_to(package)).encode() + b"\0" + file.read_bytes() + b"\0")
    return cache_folder() / _LISTS / f"{digest.hexdigest()}.json"


def is_complete(kept: Path) -> bool:
    """Whether everything that the list names is still in the cache."""
    try:
        files = msgspec.json.decode(kept.read_bytes(), type=list[str])
    except (OSError, msgspec.MsgspecError):
        return False
    return all((kept.parent.parent / file).is_file() for file in files)


def _keep_list(kept: Path, files: list[str]) -> None:
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as file:
            file.write(msgspec.json.encode(files))
        Path(file.name).replace(kept)
    except OSError as error:
        logger.warning("The list of compiled GPU kernels cannot be written: %s", error)
