"""Completion answer. What `/v1/completions` makes of a generation: whole, and as chunks of a stream."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import msgspec

from octavo.engine.requests.output_processor import Delta
from octavo.outputs import CompletionOutput, RequestOutput
from octavo.server.http.streaming import Chunks, chunk_events
from octavo.server.openai.answers import (
    ChunkEncoder,
    Completion,
    CompletionChoice,
    CompletionLogprobs,
    End,
)
from octavo.server.openai.generation import Generation
from octavo.server.openai.logprobs import Position, completion_logprobs, prompt_logprobs
from octavo.server.openai.protocol import CompletionRequest

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Echo:
    """What goes before the text of a prompt's completions; without `echo` nothing.

    Args:
        offsets: Of each of the prompt's tokens, the characters of `text` before it; where their
            log-probabilities are told.
        first_token: The text of the first one, which has no log-probability.
    """

    text: str = ""
    offsets: Sequence[int] = ()
    first_token: str = ""


class CompletionAnswer(Chunks):
    """What was asked for, as it shapes the answer.

    Args:
        fingerprint: The server's.
        echoes: Of each prompt.
        prompt_token_ids: The same; they are told where the request asks for them.
    """

    def __init__(
        self,
        request: CompletionRequest,
        response_id: str,
        fingerprint: str,
        echoes: Sequence[Echo],
        prompt_token_ids: Sequence[list[int]],
    ) -> None:
        self._id = response_id
        self._fingerprint = fingerprint
        self._model = request.model
        self._created = int(time.time())
        self._num_top = request.logprobs
        self._num_prompt_top = request.prompt_logprobs
        self._usage = request.usage_in_stream
        self._has_ids = bool(request.return_token_ids)
        self._names_ids = bool(request.return_tokens_as_token_ids)
        self._echoes = echoes
        self._prompt_token_ids = prompt_token_ids
        self._n = request.n or 1

    def whole(self, generation: Generation) -> bytes:
        choices = [
            self._choice(position, number, output, result)
            for position, result in enumerate(generation.outputs)
            for number, output in enumerate(_best(result.outputs, self._n))
        ]
        return _encode(
            Completion(
                id=self._id,
                created=self._created,
                model=self._model,
                choices=choices,
                system_fingerprint=self._fingerprint,
                usage=generation.usage,
            )
        )

    def _choice(
        self, position: int, number: int, output: CompletionOutput, result: RequestOutput
    ) -> CompletionChoice:
        echo = self._echoes[position]
        logprobs = None
        if self._num_top is not None and output.logprobs is not None:
            offsets = [len(echo.text) + offset for offset in output.text_offsets or ()]
            of_echo = (result.prompt_logprobs or []) if echo.offsets else []
            logprobs = self._logprobs(echo, [*of_echo, *output.logprobs], [*echo.offsets, *offsets])
        told = None
        if self._num_prompt_top is not None:
            told = prompt_logprobs(result.prompt_logprobs or [], self._num_prompt_top)
        has_ids = self._has_ids
        return CompletionChoice(
            position * self._n + number,
            echo.text + output.text,
            logprobs,
            output.finish_reason,
            output.stop_reason,
            prompt_logprobs=msgspec.UNSET if told is None else told,
            prompt_token_ids=result.prompt_token_ids if has_ids else msgspec.UNSET,
            token_ids=output.token_ids if has_ids else msgspec.UNSET,
        )

    def _logprobs(
        self, echo: Echo, positions: Sequence[Position], offsets: Sequence[int]
    ) -> CompletionLogprobs:
        return completion_logprobs(
            positions, self._num_top or 0, offsets, echo.first_token, names_ids=self._names_ids
        )

    def events(self, generation: Generation) -> AsyncIterator[bytes]:
        encoder = ChunkEncoder(
            "text_completion",
            self._id,
            self._created,
            self._model,
            self._fingerprint,
            usage=self._usage,
        )
        begun: set[int] = set()

        def chunks(index: int, delta: Delta) -> list[bytes]:
            found = []
            if index not in begun:
                begun.add(index)
                if (first := self._first_chunk(encoder, index, generation)) is not None:
                    found.append(first)
            chunk = self._chunk(encoder, index, delta)
            return found if chunk is None else [*found, chunk]

        return chunk_events(generation, encoder, chunks)

    def _first_chunk(
        self, encoder: ChunkEncoder, index: int, generation: Generation
    ) -> bytes | None:
        """What is told of the prompt."""
        position = index // self._n
        echo = self._echoes[position]
        field, logprobs = _text_field(echo.text), None
        if echo.offsets:
            positions = generation.prompt_logprobs(position)
            logprobs = self._logprobs(echo, positions or [], echo.offsets)
        if self._has_ids:
            ids = _encode(self._prompt_token_ids[position])
            field = b'"prompt_token_ids":' + ids + b',"token_ids":[],' + field
        elif not echo.text and logprobs is None:
            return None
        return encoder.choice(index, field, None, logprobs)

    def _chunk(self, encoder: ChunkEncoder, index: int, delta: Delta) -> bytes | None:
        reason, text = delta.finish_reason, delta.text
        is_told = delta.logprobs or (self._has_ids and delta.token_ids)
        if not text and reason is None and not is_told:
            return None
        logprobs = None
        if self._num_top is not None and delta.logprobs:
            echo = self._echoes[index // self._n]
            offsets = [len(echo.text) + offset for offset in delta.text_offsets or ()]
            logprobs = self._logprobs(echo, delta.logprobs, offsets)
        field = _text_field(text)
        if self._has_ids:
            field = b'"token_ids":' + _encode(delta.token_ids) + b"," + field
        end = None if reason is None else End(reason.value, delta.stop_reason)
        return encoder.choice(index, field, end, logprobs)


def _best(outputs: Sequence[CompletionOutput], count: int) -> Sequence[CompletionOutput]:
    """Of `best_of` completions those with the highest log-probability per token."""
    if len(outputs) == count:
        return outputs
    return sorted(outputs, key=_logprob_per_token, reverse=True)[:count]


def _logprob_per_token(output: CompletionOutput) -> float:
    return (output.cumulative_logprob or 0.0) / max(1, len(output.token_ids))


def _text_field(text: str) -> bytes:
    return b'"text":' + _encode(text)
