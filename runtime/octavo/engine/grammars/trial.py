"""Grammar trial: a stranger's grammar is compiled in a process of its own first, which may die of it.

The library counts its work and stops at a limit, but not everywhere: an `allOf` of divisors that are prime to
each other keeps it busy for longer than anybody waits. What takes a process more time than it is given, or
too much memory, or ends it, never reaches the engine. The processes are forks of one that has read the
tokenizer, so that each grammar has its own at once, whatever became of the others.
"""

from __future__ import annotations

import enum
import logging
import queue
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from octavo.errors import InvalidParameterError
from octavo.structured_outputs import StructuredOutputsParams

MODULE = "octavo.engine.grammars.trial_process"
_log = logging.getLogger(__name__)


class Outcome(enum.Enum):
    """What became of a grammar. `COMPILED`: or refused for a reason that compiling gives again. `KILLED`: for
    no reason of its own."""

    COMPILED = b"y"
    TIME = b"t"
    MEMORY = b"m"
    CRASHED = b"c"
    KILLED = b"k"


class TrialModel(msgspec.Struct, frozen=True):
    """What the process is started with. `folder` has the tokenizer; `lanes` are its ends of sockets."""

    folder: str
    vocab_size: int
    lanes: list[int]


class TrialTask(msgspec.Struct, frozen=True):
    """A grammar, as a line; answered by the value of an `Outcome`. `cpu_seconds` is what it may take."""

    outputs: StructuredOutputsParams
    end_token_ids: list[int]
    cpu_seconds: float


class GrammarTrial:
    """Starts with the first grammar, and anew where it was killed. Safe to use from several threads.

    Args:
        folder: Has the model's tokenizer.
        vocab_size: The model's.
        num_lanes: How many may be tried at once.
    """

    def __init__(self, folder: Path, vocab_size: int, num_lanes: int) -> None:
        self._folder = str(folder)
        self._vocab_size = vocab_size
        self._num_lanes = num_lanes
        self._starting = threading.Lock()
        self._server: _Server | None = None

    @property
    def pid(self) -> int | None:
        """Of the process that there is."""
        return None if self._server is None else self._server.process.pid

    def run(
        self, outputs: StructuredOutputsParams, end_token_ids: Sequence[int], cpu_seconds: float
    ) -> Outcome:
        """Raises `InvalidParameterError` where there is no process to try it."""
        task = msgspec.json.encode(TrialTask(outputs, list(end_token_ids), cpu_seconds)) + b"\n"
        name, again = outputs.parameter, "Send it again."
        for _ in range(2):  # it may have been killed since it was last asked
            try:
                server = self._running()
            except OSError as error:  # no more processes, files or memory
                again = f"There is no process to try it in: {error}."
                continue
            answer = server.ask(task)
            if answer:
                return Outcome(answer)
        raise InvalidParameterError(name, f"{name} could not be compiled. {again}")

    def close(self) -> None:
        """Ends the process, if there is one."""
        with self._starting:
            if self._server is not None:
                self._server.close()
                self._server = None

    def _running(self) -> _Server:
        with self._starting:
            server = self._server
            if server is None or server.process.poll() is not None:
                if server is not None:
                    server.close()
                server = self._server = _Server(self._folder, self._vocab_size, self._num_lanes)
            return server


class _Server:
    answer_seconds = 60.0

    def __init__(self, folder: str, vocab_size: int, num_lanes: int) -> None:
        pairs = [socket.socketpair() for _ in range(num_lanes)]
        theirs = [its.fileno() for _, its in pairs]
        model = TrialModel(folder, vocab_size, theirs)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", MODULE, msgspec.json.encode(model).decode()],
            stdin=subprocess.DEVNULL,
            pass_fds=theirs,
        )
        self._lanes = [ours for ours, _ in pairs]
        self.close = weakref.finalize(self, _end, self.process, self._lanes)
        self._free: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        for ours, its in pairs:
            its.close()
            self._free.put(ours)

    def ask(self, task: bytes) -> bytes:
        """Empty where it is gone. One that says nothing for `answer_seconds` is killed, and so is one whose
        answer nobody waited for (Ctrl-C)."""
        try:
            with self._lane() as lane:
                lane.settimeout(self.answer_seconds)
                lane.sendall(task)
                return lane.recv(1)
        except TimeoutError:
            _log.warning("the process that compiles grammars hangs, and is killed")
            self.process.kill()
            self.process.wait()
            return b""
        except OSError:
            _log.debug("the process that compiles grammars is gone")
            return b""
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    @contextmanager
    def _lane(self) -> Iterator[socket.socket]:
        lane = self._free.get()
        try:
            yield lane
        finally:
            self._free.put(lane)


def _end(process: subprocess.Popen[bytes], lanes: Sequence[socket.socket]) -> None:
    process.kill()
    process.wait()
    for lane in lanes:
        lane.close()
