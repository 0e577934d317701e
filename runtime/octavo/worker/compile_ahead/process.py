"""Compile process. The process that compiles a GPU's kernels ahead: `python -m
octavo.worker.compile_ahead.process`.

Standard input brings a `CompileRequest` as one line of JSON and then stays open: its end means that nobody
waits any more, and this process and its workers end. Standard output gets a `CompileReport`.

Workers are forks, made after torch is imported and the start-up is rehearsed, both of which take seconds:
up to there this process has one thread, and nothing of Triton's compiler has run.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from octavo.worker.compile_ahead.ahead import CompileReport, CompileRequest

if TYPE_CHECKING:
    from octavo.kernels.gpu.compiling.forms import Form

_STDIN = 0
_NICENESS = 10
_INDEX_BYTES = 2
_MAX_ERROR_CHARACTERS = 300
_MAX_FAILURES = 5


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one form; a line of JSON from a worker, short enough to be written at once.

    Args:
        file: In the cache; see `Form.compile_into_cache`.
    """

    index: int
    file: str = ""
    was_compiled: bool = False
    error: str = ""


def main() -> int:
    os.nice(_NICENESS)
    line = sys.stdin.buffer.readline()
    if not line:
        return 1
    request = msgspec.json.decode(line, type=CompileRequest)
    try:
        report = _answer(request)
    except AbandonedError:
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    sys.stdout.buffer.flush()
    return 0


def _answer(request: CompileRequest) -> CompileReport:
    # Imported here, because this is where torch comes in.
    import torch

    from octavo.kernels.gpu.compiling.forms import absent_driver
    from octavo.models.quantization_config import read_stored_format
    from octavo.models.registry import read_model_config
    from octavo.worker.compile_ahead.absent_gpu import Chip
    from octavo.worker.compile_ahead.rehearsal import rehearse

    started = time.monotonic()
    folder = Path(request.config.model)
    model, stored = read_model_config(folder), read_stored_format(folder)
    chip = Chip(request.capability, request.num_multiprocessors)
    forms = rehearse(request.config, model, getattr(torch, request.dtype), chip, stored)
    rehearsed = time.monotonic()
    with absent_driver(request.capability):
        outcomes = compile_forms(forms, request.num_workers, _STDIN)
    done = {outcome.index: outcome for outcome in outcomes}
    failures = [
        f"{form.name} ({done[index].error if index in done else 'its process died'})"
        for index, form in enumerate(forms)
        if index not in done or done[index].error
    ]
    return CompileReport(
        files=[outcome.file for outcome in outcomes if outcome.file],
        num_compiled=sum(outcome.was_compiled for outcome in outcomes),
        failures=failures[:_MAX_FAILURES],
        rehearsal_seconds=rehearsed - started,
        compile_seconds=time.monotonic() - rehearsed,
    )


class AbandonedError(Exception):
    """Nobody waits for the answer any more."""


def compile_forms(forms: Sequence[Form], num_workers: int, life: int) -> list[Outcome]:
    """Compiles into Triton's cache, within `absent_driver`; a form whose worker died has no outcome.

    Args:
        life: Descriptor of a pipe that nobody writes to: when it ends the workers do, each after the form
            that it is at.

    Raises `AbandonedError` then.
    """
    todo, todo_end = os.pipe()
    results, results_end = os.pipe()
    # All of them at once: workers take what the others have not.
    os.write(todo_end, b"".join(i.to_bytes(_INDEX_BYTES, "big") for i in range(len(forms))))
    os.close(todo_end)
    workers = []
    for _ in range(min(num_workers, len(forms))):
        pid = os.fork()
        if pid == 0:
            try:
                _work(forms, todo, results_end, life)
            finally:
                os._exit(0)
        workers.append(pid)
    os.close(todo)
    os.close(results_end)
    answers = _read(results, life)
    os.close(results)
    for pid in workers:
        os.waitpid(pid, 0)
    if answers is None:
        raise AbandonedError
    return [msgspec.json.decode(line, type=Outcome) for line in answers.splitlines()]


def _read(results: int, life: int) -> bytes | None:
    """All that comes, or None when `life` ends first."""
    answers = b""
    while True:
        ready, _, _ = select.select([results, life], [], [])
        if life in ready:
            return None
        part = os.read(results, 2**16)
        if not part:
            return answers
        answers += part


def _work(forms: Sequence[Form], todo: int, results: int, life: int) -> None:
    while not _has_ended(life) and (token := os.read(todo, _INDEX_BYTES)):
        index = int.from_bytes(token, "big")
        os.write(results, msgspec.json.encode(_compile(index, forms[index])) + b"\n")


def _has_ended(life: int) -> bool:
    return bool(select.select([life], [], [], 0)[0])


def _compile(index: int, form: Form) -> Outcome:
    from triton import knobs

    misses = []
    with knobs.compilation.scope():
        knobs.compilation.listener = lambda *, cache_hit, **_: misses.append(not cache_hit)
        try:
            file = form.compile_into_cache()
        except Exception as error:  # warm-up meets it again, and says so
            reason = f"{type(error).__name__}: {error}"
            return Outcome(index=index, error=reason[:_MAX_ERROR_CHARACTERS])
    return Outcome(index=index, file=str(file), was_compiled=any(misses))


if __name__ == "__main__":
    sys.exit(main())
