"""Grammar trial: a stranger's grammar is compiled in a process of its own first, which may die of it.

The library counts its work and stops at a limit, but not everywhere: an `allOf` of divisors that are prime to
each other keeps it busy for longer than anybody waits. What takes the process more than `CPU_SECONDS`, or too
much memory, or ends it, is refused, and the engine never sees it; the next grammar gets a new process.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from octavo.errors import InvalidParameterError
from octavo.structured_outputs import StructuredOutputsParams

MODULE = "octavo.engine.grammars.trial_process"
CPU_SECONDS = 3
"""Of one grammar; what is meant takes a tenth of one at most."""
_log = logging.getLogger(__name__)


class TrialModel(msgspec.Struct, frozen=True):
    """The first line to the process. `folder` has the tokenizer."""

    folder: str
    vocab_size: int
    cpu_seconds: int


class TrialTask(msgspec.Struct, frozen=True):
    """A grammar; answered by a line when it is compiled or refused."""

    outputs: StructuredOutputsParams
    end_token_ids: list[int]


class GrammarTrial:
    """One process, started with the first grammar. To be used by one thread.

    Args:
        folder: Has the model's tokenizer.
        vocab_size: The model's.
    """

    def __init__(self, folder: Path, vocab_size: int, cpu_seconds: int = CPU_SECONDS) -> None:
        self._model = TrialModel(str(folder), vocab_size, cpu_seconds)
        self._encode = msgspec.json.Encoder().encode
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of the process that there is."""
        return None if self._process is None else self._process.pid

    def run(self, outputs: StructuredOutputsParams, end_token_ids: Sequence[int]) -> None:
        """Returns when the process has compiled it, or refused it for a reason that compiling gives again.

        Raises `InvalidParameterError` where the process died.
        """
        process = self._process
        if process is None or process.poll() is not None:
            process = self._process = self._start()
        is_ready = self._asked(process, None)
        if is_ready and self._asked(process, TrialTask(outputs, list(end_token_ids))):
            return
        self.close()
        name = outputs.parameter
        if not is_ready:
            raise InvalidParameterError(name, f"{name} could not be compiled. Send it again.")
        _log.warning("a grammar ended the process that compiled it")
        raise InvalidParameterError(
            name,
            f"{name} cannot be held to: compiling it takes too much time or memory. Write it more simply.",
        )

    def close(self) -> None:
        """Ends the process, if there is one."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def _start(self) -> subprocess.Popen[bytes]:
        self.close()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", MODULE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._write(process, self._model)
        return process

    def _asked(self, process: subprocess.Popen[bytes], task: TrialTask | None) -> bool:
        """Whether it answered; no task is none of its work."""
        self._write(process, task)
        assert process.stdout is not None  # noqa: S101 - it has a pipe
        return bool(process.stdout.readline())

    def _write(self, process: subprocess.Popen[bytes], message: msgspec.Struct | None) -> None:
        assert process.stdin is not None  # noqa: S101 - it has a pipe
        try:
            process.stdin.write(self._encode(message) + b"\n")
            process.stdin.flush()
        except BrokenPipeError:  # it is gone, and answers nothing
            _log.debug("the process that compiles grammars is gone")
