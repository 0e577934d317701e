"""Grammar queue. Requests whose grammar is compiled beside the engine's steps, until it is there."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor

from octavo.engine.grammars.compiled import CompiledGrammar
from octavo.engine.grammars.compiler import GrammarCompiler
from octavo.engine.grammars.limits import MOST_SECONDS
from octavo.engine.grammars.trial import GrammarTrial
from octavo.engine.grammars.tried import TriedGrammars
from octavo.engine.messages import AddRequest
from octavo.errors import InvalidParameterError
from octavo.structured_outputs import StructuredOutputsParams

_log = logging.getLogger(__name__)


NUM_QUICK = 2
NUM_LANES = NUM_QUICK + 1
QUICK_SECONDS = 0.25
"""Of a CPU, for one grammar; what is meant takes a tenth of one at most. Others have `MOST_SECONDS`."""


class GrammarQueue:
    """Threads compile: the first grammar reads the tokenizer, which takes a second, and a stranger's may take
    as long as its limits allow. Meanwhile the engine makes steps, and a grammar that is not quick waits for
    others of its kind alone.

    Args:
        trial: Compiles each grammar first; of `NUM_LANES`.

    Attributes:
        wake_fd: Readable when a request has become ready; for whoever polls.
    """

    def __init__(
        self,
        compiler: GrammarCompiler,
        trial: GrammarTrial | None = None,
        *,
        quick_seconds: float = QUICK_SECONDS,
        most_seconds: float = MOST_SECONDS,
    ) -> None:
        self._compiler = compiler
        self._tried = TriedGrammars(compiler, trial, most_seconds=most_seconds)
        self._quick_seconds = quick_seconds
        self._quick = ThreadPoolExecutor(NUM_QUICK, thread_name_prefix="grammars")
        self._slow = ThreadPoolExecutor(1, thread_name_prefix="slow-grammars")
        self._waiting: dict[str, tuple[AddRequest, Future[CompiledGrammar]]] = {}
        self.wake_fd, self._write_fd = os.pipe()
        os.set_blocking(self.wake_fd, False)

    def must_wait(self, request: AddRequest) -> bool:
        """Takes a request that wants a grammar; `ready` gives it back."""
        outputs = request.sampling.structured_outputs
        if outputs is None or request.request_id in self._waiting:
            return False
        if self._compiler.is_ready(outputs, request.end_token_ids):
            return False
        future = Future[CompiledGrammar]()
        self._waiting[request.request_id] = request, future
        future.add_done_callback(lambda _: os.write(self._write_fd, b"!"))
        self._quick.submit(self._compile, future, outputs, request.end_token_ids, is_quick=True)
        return True

    def _compile(
        self,
        future: Future[CompiledGrammar],
        outputs: StructuredOutputsParams,
        end_token_ids: Sequence[int],
        *,
        is_quick: bool,
    ) -> None:
        """In a thread."""
        if future.cancelled():
            return
        try:
            if not is_quick:
                found = self._tried.prepare(outputs, end_token_ids)
            elif self._tried.takes(outputs, end_token_ids, self._quick_seconds):
                found = self._compiler.prepare(outputs, end_token_ids)
            else:
                self._slow.submit(self._compile, future, outputs, end_token_ids, is_quick=False)
                return
        # Also a fault of the library, which is no `Exception`: it ends the request alone.
        except BaseException as error:
            with contextlib.suppress(InvalidStateError):  # aborted meanwhile
                future.set_exception(error)
        else:
            with contextlib.suppress(InvalidStateError):
                future.set_result(found)

    def has(self, request_id: str) -> bool:
        """It waits for its grammar."""
        return request_id in self._waiting

    def ready(self) -> list[tuple[AddRequest, InvalidParameterError | None]]:
        """In order of arrival, with why a grammar cannot be had."""
        with contextlib.suppress(BlockingIOError):  # also of those that were aborted: else it stays
            os.read(self.wake_fd, 4096)  # readable, and whoever polls it never rests
        done = [name for name, (_, future) in self._waiting.items() if future.done()]
        found: list[tuple[AddRequest, InvalidParameterError | None]] = []
        for name in done:
            request, future = self._waiting.pop(name)
            found.append((request, _refusal(request, future.exception())))
        return found

    def abort(self, request_ids: Iterable[str]) -> int:
        """Nobody waits for these any more. Returns how many sequences they would have been."""
        dropped = 0
        for request_id in request_ids:
            if (waiting := self._waiting.pop(request_id, None)) is not None:
                request, future = waiting
                future.cancel()
                dropped += request.sampling.n
        return dropped


def _refusal(request: AddRequest, error: BaseException | None) -> InvalidParameterError | None:
    if error is None or isinstance(error, InvalidParameterError):
        return error
    # A stranger's grammar found a fault of the library or of ours: that ends the request alone.
    _log.error("a grammar failed to compile", exc_info=error)
    outputs = request.sampling.structured_outputs
    name = "structured_outputs" if outputs is None else outputs.parameter
    return InvalidParameterError(name, f"{name} could not be compiled. Write it more simply.")
