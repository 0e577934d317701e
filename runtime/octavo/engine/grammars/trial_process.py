"""Grammar trial's process: `python -m octavo.engine.grammars.trial_process`, which an engine starts with its
first grammar.

Each line of a lane is a grammar, which a fork of this process compiles: it has read the tokenizer already,
and may die of the grammar alone. It ends with its engine, its forks with the time that they were given.
"""

from __future__ import annotations

import contextlib
import os
import resource
import selectors
import signal
import socket
import sys
from pathlib import Path
from typing import BinaryIO

import msgspec

from octavo.engine.grammars.compiler import GrammarCompiler
from octavo.engine.grammars.limits import MOST_BYTES
from octavo.engine.grammars.trial import Outcome, TrialModel, TrialTask
from octavo.errors import OctavoError
from octavo.structured_outputs import StructuredOutputsParams
from octavo.tokenizer import load_tokenizer

_MOST_SECONDS = 120.0
"""By the clock: of a fork that waits for something that never comes."""
_NO_MEMORY = 1
_CRASHES = {signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV}
_PLAIN = StructuredOutputsParams(json_object=True)


class TrialServer:
    """
    Args:
        lanes: Bring one task at a time each.
    """

    def __init__(self, compiler: GrammarCompiler, lanes: list[socket.socket]) -> None:
        self._compiler = compiler
        self._decode = msgspec.json.Decoder(TrialTask).decode
        self._selector = selectors.DefaultSelector()
        self._lane_of: dict[int, socket.socket] = {}  # by the fork that has its task
        for lane in lanes:
            self._selector.register(lane, selectors.EVENT_READ, lane.makefile("rb"))
        self._ended, ended = os.pipe()
        for descriptor in (self._ended, ended):
            os.set_blocking(descriptor, False)
        self._selector.register(self._ended, selectors.EVENT_READ, None)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(ended, warn_on_full_buffer=False)

    def run(self) -> None:
        """Until a lane ends."""
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    self._answer()
                elif isinstance(key.fileobj, socket.socket) and not self._begin(
                    key.fileobj, key.data
                ):
                    return

    def _begin(self, lane: socket.socket, lines: BinaryIO) -> bool:
        line = lines.readline()
        if not line:
            return False
        task = self._decode(line)
        with contextlib.suppress(OctavoError):  # the fork says so, too
            self._compiler.prepare(_PLAIN, task.end_token_ids)  # reads the tokenizer, for all
        pid = os.fork()
        if pid == 0:
            self._compile(task)
        self._lane_of[pid] = lane
        return True

    def _answer(self) -> None:
        os.read(self._ended, 4096)
        while self._lane_of:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            with contextlib.suppress(OSError):  # nobody waits for it any more
                self._lane_of.pop(pid).sendall(outcome_of(status).value)

    def _compile(self, task: TrialTask) -> None:
        """In a fork, whose end this is."""
        try:
            signal.set_wakeup_fd(-1)
            _limit(task.cpu_seconds)
            self._compiler.prepare(task.outputs, task.end_token_ids)
        except MemoryError:
            os._exit(_NO_MEMORY)
        except BaseException:
            os._exit(0)  # the engine's own compiler tells it again
        os._exit(0)


def main(model: TrialModel) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # reaches the whole group; the engine decides
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    folder = Path(model.folder)
    compiler = GrammarCompiler(lambda: load_tokenizer(folder), model.vocab_size, max_kept=1)
    TrialServer(compiler, [socket.socket(fileno=lane) for lane in model.lanes]).run()
    return 0


def outcome_of(status: int) -> Outcome:
    """Of a fork that ended with this."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return {0: Outcome.COMPILED, _NO_MEMORY: Outcome.MEMORY}.get(code, Outcome.CRASHED)
    if -code == signal.SIGPROF:
        return Outcome.TIME
    return Outcome.CRASHED if -code in _CRASHES else Outcome.KILLED


def _limit(cpu_seconds: float) -> None:
    """From now on the kernel ends the process at so much."""
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
    signal.setitimer(signal.ITIMER_REAL, _MOST_SECONDS)
    if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        most = pages * resource.getpagesize() + MOST_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


if __name__ == "__main__":
    sys.exit(main(msgspec.json.decode(sys.argv[1], type=TrialModel)))
