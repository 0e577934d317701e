"""Beam search over HTTP, by vLLM's names: `use_beam_search`, `n` beams, `length_penalty`.

A beam is a request of its own per token, which finds its prefix in the engine's cache (see
`LLM.beam_search`); the client sees one request, counted as `n` completions.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol, Self

from octavo.beam_search import MAX_BEAM_WIDTH, Beam, BeamSearch, BeamSearchParams
from octavo.engine.messages import AddRequest, TokenOutput
from octavo.engine.requests.detokenizer import IncrementalDetokenizer
from octavo.engine.requests.marked_text import MarkedText
from octavo.engine.requests.output_processor import Delta
from octavo.outputs import CompletionOutput, FinishReason, RequestOutput
from octavo.sampling_params import SamplingParams, check_number
from octavo.server.http.key_use import current_limits
from octavo.server.openai.answers import Usage
from octavo.server.openai.api_errors import quoted, unsupported
from octavo.server.openai.engine_failures import engine_failure
from octavo.server.openai.generation import Generation, Generator, PromptRun

# Beams are ranked by the model's own probabilities: what would shape them is refused. What says how tokens
# are drawn (temperature, seed, …) is of no meaning, for none is.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "allowed_token_ids": (None,),
    "bad_words": (None, []),
    "best_of": (None,),
    "frequency_penalty": (None, 0),
    "functions": (None, []),
    "logit_bias": (None, {}),
    "logprobs": (None, False),
    "min_tokens": (None, 0),
    "presence_penalty": (None, 0),
    "prompt_logprobs": (None,),
    "repetition_penalty": (None, 1),
    "response_format": (None,),
    "return_token_ids": (None, False),
    "stop": (None, []),
    "stop_token_ids": (None, []),
    "stream": (None, False),
    "structured_outputs": (None,),
    "suffix": (None, ""),
    "tools": (None, []),
}


class BeamRequest(Protocol):
    """The fields of vLLM's that a request shares with others."""

    n: int | None
    use_beam_search: bool | None
    length_penalty: float | None
    ignore_eos: bool | None
    max_tokens: int | None


def check_beams(request: BeamRequest) -> None:
    """Raises `ApiError` or `InvalidParameterError` for what cannot be had together with beams, or without."""
    if not request.use_beam_search:
        if request.length_penalty not in (None, 1.0):
            raise unsupported("length_penalty", "it ranks beams. Set use_beam_search.")
        return
    check_number("n", 1 if request.n is None else request.n, 1, MAX_BEAM_WIDTH, is_whole=True)
    if request.max_tokens == 0:
        raise unsupported("max_tokens", "it is 0, and use_beam_search is set. Leave one out.")
    if request.length_penalty is not None:
        check_number("length_penalty", request.length_penalty, -10.0, 10.0)
    for name, neutral in _NEUTRAL.items():
        value = getattr(request, name, None)
        if value not in neutral:
            raise unsupported(
                name, f"it is {quoted(value)}, and use_beam_search is set. Leave one out."
            )


def generate(
    request: BeamRequest,
    generator: Generator,
    response_id: str,
    request_id: str,
    runs: Sequence[PromptRun],
    *,
    arrival: float,
) -> Generation:
    """By beams where the checked request asks for them, else by drawing tokens."""
    if request.use_beam_search:
        return BeamGeneration(generator, response_id, request_id, runs, request, arrival=arrival)
    return generator.generate(response_id, request_id, runs, arrival=arrival)


class BeamGeneration(Generation):
    """The beams of one HTTP request's prompts. Nothing of them is known before the search has ended."""

    def __init__(
        self,
        generator: Generator,
        response_id: str,
        request_id: str,
        runs: Sequence[PromptRun],
        request: BeamRequest,
        *,
        arrival: float,
    ) -> None:
        super().__init__(generator, response_id, request_id, runs, arrival=arrival)
        self._searches = [
            BeamSearch(
                BeamSearchParams(
                    beam_width=request.n or 1,
                    max_tokens=run.sampling.max_tokens or 1,
                    length_penalty=1.0
                    if request.length_penalty is None
                    else request.length_penalty,
                    ignore_eos=bool(request.ignore_eos),
                ),
                generator.end_token_ids,
                room=run.sampling.max_tokens or 1,
            )
            for run in runs
        ]
        self._num_steps = 0

    async def __aenter__(self) -> Self:
        self._ticket = self._generator.gate.admit(self._num_sequences, self._tenant)
        self._generator.num_active += 1
        return self

    async def _arriving(self) -> AsyncIterator[list[tuple[int, Delta]]]:
        """A turn for each token; there is nothing to be told of it."""
        while not self._is_over and not all(search.is_done for search in self._searches):
            await self._extend()
            yield []
        self._measure_all()

    @property
    def outputs(self) -> list[RequestOutput]:
        return [
            RequestOutput(
                f"{self._response_id}-{position}",
                run.prompt.text,
                run.prompt.token_ids,
                [self._output(run, index, beam) for index, beam in enumerate(search.best)],
                finished=search.is_done,
                num_cached_tokens=self._num_cached_tokens,
            )
            for position, (run, search) in enumerate(zip(self._runs, self._searches, strict=True))
        ]

    def marked_text(self, position: int, index: int) -> MarkedText:
        beam = self._searches[position].best[index]
        return MarkedText(self._text(self._runs[position], beam))

    @property
    def usage(self) -> Usage:
        made = sum(len(beam.token_ids) for search in self._searches for beam in search.best)
        return Usage.of(self._num_prompt_tokens, made, self._num_cached_tokens)

    def _output(self, run: PromptRun, index: int, beam: Beam) -> CompletionOutput:
        return CompletionOutput(
            index=index,
            text=self._text(run, beam),
            token_ids=list(beam.token_ids),
            cumulative_logprob=beam.logprob,
            finish_reason=beam.finish_reason.value,
        )

    def _text(self, run: PromptRun, beam: Beam) -> str:
        """Behind its prompt, which says how the first token is written."""
        detokenizer = IncrementalDetokenizer(
            self._generator.tokenizer.backend,
            run.prompt.token_ids,
            skip_special_tokens=run.sampling.skip_special_tokens,
        )
        special = self._generator.vocabulary.special if run.sampling.skip_special_tokens else {}
        shown = [one for one in beam.text_token_ids if one not in special]
        return "".join(map(detokenizer.push, shown)) + detokenizer.flush()

    async def _extend(self) -> None:
        """One more token for every live beam of every prompt."""
        going_on = [
            (run, search)
            for run, search in zip(self._runs, self._searches, strict=True)
            if not search.is_done
        ]
        requests = [
            self._request(run, search, beam, number)
            for number, (run, search, beam) in enumerate(
                (run, search, beam) for run, search in going_on for beam in search.live
            )
        ]
        self._num_steps += 1
        self._streams = []
        for request in requests:
            self._streams.append(await self._generator.client.add(request))
        found = [await self._candidates(await stream.get()) for stream in self._streams]
        if self._is_over:
            return
        for _, search in going_on:
            count = len(search.live)
            search.advance(found[:count])
            found = found[count:]

    def _request(self, run: PromptRun, search: BeamSearch, beam: Beam, number: int) -> AddRequest:
        return AddRequest(
            f"{self._response_id}-{self._num_steps}-{number}",
            [*run.prompt.token_ids, *beam.token_ids],
            SamplingParams(temperature=0.0, max_tokens=1, logprobs=search.num_candidates),
            priority=current_limits().priority_of(run.priority),
            cache_salt=current_limits().salt_of(run.cache_salt),
            tenant=self._tenant,
            adapter_id=run.adapter_id,
            ticket=self._ticket.number,
            ticket_sequences=self._ticket.num_sequences,
        )

    async def _candidates(self, outputs: list[TokenOutput]) -> dict[int, float]:
        """The best tokens of one beam. Nothing of a request that was cancelled."""
        if not outputs:
            return {}
        (output,) = outputs
        if output.finish_reason is FinishReason.ERROR or not output.logprobs:
            raise engine_failure(output, self._request_id)
        if self._num_steps == 1:
            self._num_cached_tokens += output.num_cached_tokens
        (position,) = output.logprobs
        return dict(zip(position.token_ids, position.logprobs, strict=True))

    def _measure_all(self) -> None:
        if self._is_over:
            return
        self._stats.observe_first_token(time.time())
        ended = [beam for search in self._searches for beam in search.best]
        for choice, beam in enumerate(ended):
            self._stats.count_finished(choice, beam.finish_reason.value)
            self._generator.gate.count_finished()
