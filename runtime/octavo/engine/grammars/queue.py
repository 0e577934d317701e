"""Grammar queue. Requests whose grammar is compiled beside the engine's steps, until it is there."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from octavo.engine.grammars.compiler import CompiledGrammar, GrammarCompiler
from octavo.engine.grammars.trial import GrammarTrial
from octavo.engine.messages import AddRequest
from octavo.errors import InvalidParameterError
from octavo.structured_outputs import StructuredOutputsParams

_log = logging.getLogger(__name__)


class GrammarQueue:
    """One thread compiles: the first grammar reads the tokenizer, which takes a second, and a stranger's
    may take as long as its limits allow. Meanwhile the engine makes steps.

    Args:
        trial: Compiles each grammar first.

    Attributes:
        wake_fd: Readable when a request has become ready; for whoever polls.
    """

    def __init__(self, compiler: GrammarCompiler, trial: GrammarTrial | None = None) -> None:
        self._compiler = compiler
        self._trial = trial
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="grammars")
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
        future = self._thread.submit(self._compiled, outputs, request.end_token_ids)
        self._waiting[request.request_id] = request, future
        future.add_done_callback(lambda _: os.write(self._write_fd, b"!"))
        return True

    def _compiled(
        self, outputs: StructuredOutputsParams, end_token_ids: Sequence[int]
    ) -> CompiledGrammar:
        if self._trial is not None and not self._compiler.is_ready(outputs, end_token_ids):
            self._trial.run(outputs, end_token_ids)
        return self._compiler.prepare(outputs, end_token_ids)

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
