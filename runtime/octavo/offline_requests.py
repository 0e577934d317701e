"""Offline requests: what an `LLM` asks the engine in its own process, from their numbers to whole answers.

A call is checked whole before anything of it runs; then the engine is driven until all is answered, and what
comes is put together for each request.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from octavo.bad_words import with_word_tokens
from octavo.engine.driving import drive
from octavo.engine.grammars.tried import TriedGrammars
from octavo.engine.messages import AddRequest, TokenOutput
from octavo.engine.requests.output_processor import RequestState
from octavo.engine.requests.vocabulary import Vocabulary
from octavo.errors import OctavoError
from octavo.outputs import FinishReason, RequestOutput
from octavo.sampling_params import SamplingParams
from octavo.tokenizer import Tokenizer

if TYPE_CHECKING:
    from octavo.engine.core import EngineCore


@dataclass(frozen=True, slots=True)
class TextRequest:
    """A prompt to be completed: its text, where it was one, and its token ids."""

    text: str | None
    token_ids: list[int]
    sampling: SamplingParams
    priority: int
    adapter_id: int


class OfflineRequests:
    """Of one `LLM`, whose requests they number.

    Args:
        end_token_ids: Each of these ends a completion.
        grammars: Compiles what completions are to follow; closed by `close`.
    """

    def __init__(
        self, tokenizer: Tokenizer, end_token_ids: tuple[int, ...], grammars: TriedGrammars
    ) -> None:
        self._tokenizer = tokenizer
        self._end_token_ids = end_token_ids
        self._grammars = grammars
        self._vocabulary = Vocabulary(tokenizer.backend)
        self._numbers = itertools.count()

    def close(self) -> None:
        """Nothing is asked afterwards. Safe to repeat."""
        self._grammars.close()

    def next_id(self) -> str:
        return str(next(self._numbers))

    def complete(self, core: EngineCore, given: Iterable[TextRequest]) -> list[RequestOutput]:
        """The completions of every prompt, in their order.

        Raises:
            InvalidParameterError: A prompt or its parameters cannot be run; nothing was.
            OctavoError: The engine failed at one; the others are dropped.
        """
        states: dict[str, RequestState] = {}
        requests: list[AddRequest] = []
        for each in given:
            name = self.next_id()
            request = AddRequest(
                name,
                each.token_ids,
                with_word_tokens(each.sampling, self._encode_plain),
                priority=each.priority,
                end_token_ids=self._end_token_ids,
                adapter_id=each.adapter_id,
            )
            self._grammars.check(request)
            core.check(request)
            requests.append(request)
            states[name] = RequestState(
                name,
                each.text,
                each.token_ids,
                each.sampling,
                self._tokenizer.backend,
                self._vocabulary,
            )
        drive(core, requests, _taker(core, states))
        return [state.to_request_output() for state in states.values()]

    def pooled(
        self, token_ids: list[int], second_segment: int | None = None, *, adapter_id: int = 0
    ) -> AddRequest:
        """A request for the vector of a prompt.

        Args:
            second_segment: Where the second text of a pair begins, or None.
        """
        return AddRequest(
            self.next_id(),
            token_ids,
            SamplingParams(temperature=0.0, max_tokens=1),
            is_pooled=True,
            second_segment=second_segment,
            adapter_id=adapter_id,
        )

    def pool(self, core: EngineCore, requests: Sequence[AddRequest]) -> list[list[float]]:
        """The vector of each of `pooled`, in their order. Raises as `complete`."""
        found: dict[str, list[float]] = {}

        def take(output: TokenOutput) -> None:
            if output.embedding is None:
                raise OctavoError(f"Prompt {output.request_id} failed: {output.error}")
            found[output.request_id] = output.embedding

        for request in requests:
            core.check(request)
        drive(core, requests, take)
        return [found[request.request_id] for request in requests]

    def _encode_plain(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False)


def _taker(core: EngineCore, states: dict[str, RequestState]) -> Callable[[TokenOutput], None]:
    def take(output: TokenOutput) -> None:
        delta = states[output.request_id].apply(output)
        if delta is None:
            return
        if delta.finish_reason is FinishReason.ERROR:
            raise OctavoError(f"Prompt {output.request_id} failed: {delta.error}")
        if delta.abort_needed:
            core.abort([output.request_id], [delta.index])

    return take
