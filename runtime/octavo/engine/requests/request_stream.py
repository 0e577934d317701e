"""Request stream. The tokens of one request on their way from the engine's socket to the task that waits for
them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import msgspec

from octavo.engine.messages import TokenOutput
from octavo.errors import OctavoError


def merged(outputs: Sequence[TokenOutput]) -> Sequence[TokenOutput]:
    """What piled up, as if it had come in one step: one output for each completion.

    So a server that is behind catches up, for an output costs far more than a token.
    """
    if len(outputs) == 1:
        return outputs
    of_completion: dict[int, list[TokenOutput]] = {}
    for output in outputs:
        of_completion.setdefault(output.index, []).append(output)
    return [each[0] if len(each) == 1 else _joined(each) for each in of_completion.values()]


def _joined(outputs: Sequence[TokenOutput]) -> TokenOutput:
    first, last = outputs[0], outputs[-1]
    logprobs = [each.logprobs for each in outputs if each.logprobs is not None]
    return msgspec.structs.replace(
        first,
        new_token_ids=[token_id for each in outputs for token_id in each.new_token_ids],
        finish_reason=last.finish_reason,
        stop_reason=last.stop_reason,
        logprobs=list(itertools.chain.from_iterable(logprobs)) if logprobs else None,
        error=last.error,
        fails_again=last.fails_again,
        num_accepted=sum(each.num_accepted for each in outputs),
    )


class RequestStream:
    """Collects one request's outputs; one task reads it.

    Outputs that arrive while the reader is busy pile up and are handed over together, so that a slow
    client costs fewer wake-ups instead of a growing lag.

    Use it as an async context manager: leaving it early (an error, a client that hung up, a stop string)
    aborts what still runs, which frees its KV blocks before the next step.
    """

    __slots__ = ("_abort", "_buffer", "_error", "_unfinished", "_waiter", "request_id")

    def __init__(self, request_id: str, num_completions: int, abort: Callable[[str], None]) -> None:
        self.request_id = request_id
        self._abort = abort
        self._buffer: list[TokenOutput] = []
        self._error: OctavoError | None = None
        self._unfinished = set(range(num_completions))
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_finished(self) -> bool:
        """All completions got their finish reason from the engine; nothing more will arrive."""
        return not self._unfinished

    async def get(self) -> list[TokenOutput]:
        """Waits for new outputs and takes all that arrived; `[]` once the request is finished.

        Raises:
            EngineDeadError: The engine process ended first.
            ModelAsleepError: The model was put to sleep.
            InvalidParameterError: The engine refused the request.
        """
        if not self._buffer and self._unfinished and self._error is None:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._buffer:
            outputs, self._buffer = self._buffer, []
            return outputs
        if self._error is not None:
            raise self._error
        return []

    def forget(self, index: int) -> None:
        """Completion `index` was ended on this side (a stop string): wait for it no longer."""
        self._unfinished.discard(index)
        self._wake()

    def close(self) -> None:
        """Aborts whatever still runs. Safe to repeat."""
        self._abort(self.request_id)
        self._unfinished.clear()
        self._wake()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def put(self, output: TokenOutput) -> None:
        """Called by the client's reader alone."""
        if output.refusal is not None:
            self._error = output.refusal.to_error()
        else:
            self._buffer.append(output)
        if output.finish_reason is not None:
            self._unfinished.discard(output.index)
        self._wake()

    def fail(self, error: OctavoError) -> None:
        """Called by the client alone, when the engine died or is put to sleep."""
        self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
