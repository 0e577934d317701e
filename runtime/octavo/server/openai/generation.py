"""Generation. Runs a request's prompts on the engine and hands on what they make, choice by choice.

Leaving a `Generation` early, for whatever reason, aborts what still runs: the KV blocks are free before
the engine's next step.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from octavo.bad_words import with_word_tokens
from octavo.engine.channel import EngineChannel
from octavo.engine.messages import AddRequest, TokenOutput
from octavo.engine.requests.marked_text import MarkedText
from octavo.engine.requests.output_processor import Delta, RequestState
from octavo.engine.requests.request_stream import RequestStream, merged
from octavo.engine.requests.vocabulary import Vocabulary
from octavo.errors import QueueFullError
from octavo.outputs import FinishReason, Logprob, RequestOutput
from octavo.sampling_params import SamplingParams
from octavo.server.http.key_use import current_limits, current_tenant
from octavo.server.openai.adapters import AdapterTable
from octavo.server.openai.answers import Usage
from octavo.server.openai.api_errors import ApiError, not_serving
from octavo.server.openai.engine_failures import engine_failure
from octavo.server.openai.gate import Gate
from octavo.server.openai.parsing.answer import Markup
from octavo.server.openai.parsing.reasoning_tokens import ReasoningTokens
from octavo.server.openai.prompts import Prompt
from octavo.server.openai.request_stats import RequestStats
from octavo.server.process.request_metrics import RequestMetrics
from octavo.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class PromptRun:
    """One prompt, how its completions are sampled, and who may share its cached prefix; a lower
    `priority` runs first. `count_reasoning` counts the tokens of reasoning of one completion; `adapter_id` is
    0 for the model alone."""

    prompt: Prompt
    sampling: SamplingParams
    priority: int = 0
    cache_salt: str | None = None
    count_reasoning: Callable[[], ReasoningTokens] | None = None
    adapter_id: int = 0


class Generator:
    """The engine as the routes see it. Built when the engine is ready.

    Args:
        fingerprint: The server's.
        guesses: The engine decodes speculatively: usage says how many tokens were guessed.
    """

    def __init__(
        self,
        client: EngineChannel,
        tokenizer: Tokenizer,
        end_token_ids: tuple[int, ...],
        gate: Gate,
        metrics: RequestMetrics,
        markup: Markup | None = None,
        adapters: AdapterTable | None = None,
        *,
        fingerprint: str = "",
        guesses: bool = False,
    ) -> None:
        self.client = client
        self.fingerprint = fingerprint
        self.guesses = guesses
        self.markup = Markup() if markup is None else markup
        self.tokenizer = tokenizer
        self.end_token_ids = end_token_ids
        self.gate = gate
        self.metrics = metrics
        self.vocabulary = Vocabulary(tokenizer.backend)
        self.num_active = 0
        self.adapters = AdapterTable() if adapters is None else adapters

    def encode_plain(self, text: str) -> list[int]:
        """Without special tokens."""
        return self.tokenizer.encode(text, add_special_tokens=False)

    def generate(
        self, response_id: str, request_id: str, runs: Sequence[PromptRun], *, arrival: float
    ) -> Generation:
        """To be entered with `async with`; raises `QueueFullError` there, or with its first output, when the
        queue is full.

        Args:
            arrival: When the request was there, before its prompt was tokenised (`time.time()`).
        """
        return Generation(self, response_id, request_id, runs, arrival=arrival)


class Generation:
    """The completions of one HTTP request. Choice `i * n + j` is completion j of prompt i."""

    def __init__(
        self,
        generator: Generator,
        response_id: str,
        request_id: str,
        runs: Sequence[PromptRun],
        *,
        arrival: float,
    ) -> None:
        self._generator = generator
        self._request_id = request_id
        self._runs = runs
        self._num_sequences = sum(run.sampling.n for run in runs)
        self._response_id = response_id
        self._states: list[RequestState] = []
        self._num_prompt_tokens = sum(len(run.prompt.token_ids) for run in runs)
        self._num_cached_tokens = 0
        self._num_output_tokens = 0
        self._num_reasoning_tokens: int | None = None
        self._num_accepted_tokens = 0 if generator.guesses else None
        self._reasoning: dict[int, ReasoningTokens] = {}
        self._streams: list[RequestStream] = []
        self.is_cancelled = False
        self._cause: ApiError | None = None
        self._failed: Exception | None = None
        self._tenant = current_tenant()
        self._stats = RequestStats(generator.metrics, request_id, self._num_sequences, arrival)

    async def __aenter__(self) -> Self:
        generator = self._generator
        # Before anything is counted: a word may be none.
        samplings = [with_word_tokens(run.sampling, generator.encode_plain) for run in self._runs]
        self._ticket = generator.gate.admit(self._num_sequences, self._tenant)
        try:
            self._states = [
                RequestState(
                    f"{self._response_id}-{position}",
                    run.prompt.text,
                    run.prompt.token_ids,
                    sampling,
                    generator.tokenizer.backend,
                    generator.vocabulary,
                )
                for position, (run, sampling) in enumerate(zip(self._runs, samplings, strict=True))
            ]
        except BaseException:
            generator.gate.release(self._ticket)
            raise
        self._begin_counting()
        generator.num_active += 1
        limits = current_limits()
        try:
            for state, run in zip(self._states, self._runs, strict=True):
                request = AddRequest(
                    state.request_id,
                    state.prompt_token_ids,
                    state.sampling,
                    priority=limits.priority_of(run.priority),
                    cache_salt=limits.salt_of(run.cache_salt),
                    end_token_ids=generator.end_token_ids,
                    tenant=self._tenant,
                    adapter_id=run.adapter_id,
                    ticket=self._ticket.number,
                    ticket_sequences=self._ticket.num_sequences,
                )
                self._streams.append(await generator.client.add(request))
        except BaseException:
            self._close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()
        if not isinstance(error, QueueFullError):  # else it never began
            self._stats.report(self.usage, error or self._failed, is_cancelled=self.is_cancelled)

    def _begin_counting(self) -> None:
        choice = 0
        for run in self._runs:
            for _ in range(run.sampling.n):
                if run.count_reasoning is not None:
                    self._reasoning[choice] = run.count_reasoning()
                    self._num_reasoning_tokens = 0
                choice += 1

    def cancel(self, cause: ApiError | None = None) -> None:
        """Ends the iteration early: the client hung up, or its time is over."""
        self.is_cancelled = cause is None
        self._cause = cause
        for stream in self._streams:
            stream.close()

    def fail(self, error: Exception) -> None:
        """Its answer had begun, and the client is told in its last word: none is left to raise."""
        self._failed = error

    @property
    def _is_over(self) -> bool:
        return self.is_cancelled or self._cause is not None

    @property
    def outputs(self) -> list[RequestOutput]:
        """Of each prompt, all completions as they stand."""
        return [state.to_request_output() for state in self._states]

    def marked_text(self, position: int, index: int) -> MarkedText:
        """The text of completion `index` of a prompt, with the special tokens that it leaves out."""
        return self._states[position].marked_text(index)

    def prompt_logprobs(self, position: int) -> list[dict[int, Logprob] | None] | None:
        """Of a prompt's tokens, from its first delta on; None where they were not asked for."""
        return self._states[position].prompt_logprobs

    @property
    def usage(self) -> Usage:
        """So far; counted as tokens come, for a stream may tell it with each."""
        return Usage.of(
            self._num_prompt_tokens,
            self._num_output_tokens,
            self._num_cached_tokens,
            self._num_reasoning_tokens,
            self._num_accepted_tokens,
        )

    async def deltas(self) -> AsyncIterator[list[tuple[int, Delta]]]:
        """What arrived since the last turn, with the index of its choice, until all have ended.

        Raises:
            ApiError: The engine failed on this request, or its time is over.
            InvalidParameterError: The engine refused it.
            EngineDeadError: The engine process ended.
        """
        if len(self._streams) == 1:
            get = self._streams[0].get
            while outputs := await get():
                yield self._apply(0, merged(outputs))
        else:
            async for deltas in self._arriving():
                yield deltas
        if self._cause is not None:
            raise self._cause

    async def _arriving(self) -> AsyncIterator[list[tuple[int, Delta]]]:
        """Of several prompts."""
        arrived: asyncio.Queue[tuple[int, list[TokenOutput] | BaseException]] = asyncio.Queue()
        pumps = [
            asyncio.create_task(_pump(position, stream, arrived))
            for position, stream in enumerate(self._streams)
        ]
        try:
            num_open = len(pumps)
            while num_open:
                position, item = await arrived.get()
                if isinstance(item, BaseException):
                    raise item
                if item:
                    yield self._apply(position, merged(item))
                else:
                    num_open -= 1
        finally:
            for pump in pumps:
                pump.cancel()

    def _apply(self, position: int, outputs: Sequence[TokenOutput]) -> list[tuple[int, Delta]]:
        state = self._states[position]
        first_choice = position * state.sampling.n
        deltas: list[tuple[int, Delta]] = []
        now = time.time()
        for output in outputs:
            num_cached_before = state.num_cached_tokens
            delta = state.apply(output)
            if delta is None:
                continue
            self._num_cached_tokens += state.num_cached_tokens - num_cached_before
            self._num_output_tokens += len(delta.token_ids)
            if (
                self._num_accepted_tokens is not None
            ):  # what lies behind a stop string is no part of it
                self._num_accepted_tokens += min(output.num_accepted, len(delta.token_ids))
            choice = first_choice + delta.index
            if choice in self._reasoning:
                counter = self._reasoning[choice]
                found = counter.read(delta.token_ids)
                found += 0 if delta.finish_reason is None else counter.end()
                self._num_reasoning_tokens = (self._num_reasoning_tokens or 0) + found
            if delta.abort_needed:
                self._generator.client.abort([state.request_id], [delta.index])
            self._stats.observe(choice, delta, state, now)
            if delta.finish_reason is not None:
                self._generator.gate.count_finished()
            if delta.finish_reason in (FinishReason.ERROR, FinishReason.ABORT):
                raise self._failure(delta)
            deltas.append((choice, delta))
        return deltas

    def _failure(self, delta: Delta) -> ApiError:
        if delta.finish_reason is FinishReason.ABORT:
            return not_serving("draining")
        return engine_failure(delta, self._request_id)

    def _close(self) -> None:
        for stream in self._streams:
            stream.close()
        self._generator.num_active -= 1
        self._generator.gate.release(self._ticket)


async def _pump(
    position: int,
    stream: RequestStream,
    arrived: asyncio.Queue[tuple[int, list[TokenOutput] | BaseException]],
) -> None:
    try:
        while outputs := await stream.get():
            arrived.put_nowait((position, outputs))
        arrived.put_nowait((position, []))
    except Exception as error:
        arrived.put_nowait((position, error))
