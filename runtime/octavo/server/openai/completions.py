"""Text completions. `POST /v1/completions`."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from octavo.engine.requests.output_processor import Delta
from octavo.generation_config import SamplingDefaults
from octavo.sampling_params import MAX_LOGPROBS, SamplingParams
from octavo.server.http.streaming import Chunks, answered, chunk_events
from octavo.server.openai.answers import (
    ChunkEncoder,
    Completion,
    CompletionChoice,
    End,
    completion_logprobs,
)
from octavo.server.openai.api_errors import invalid_value, unsupported
from octavo.server.openai.generation import Generation, Generator, PromptRun
from octavo.server.openai.output_format import output_format
from octavo.server.openai.prompts import Prompt, PromptBuilder
from octavo.server.openai.protocol import CompletionRequest

_encode = msgspec.json.Encoder().encode
_DEFAULT_MAX_TOKENS = 16


async def completion(
    request: CompletionRequest,
    generator: Generator,
    prompts: PromptBuilder,
    defaults: SamplingDefaults,
    http_request: Request,
) -> Response:
    """Answers a validated request, whole or as a stream."""
    arrival = time.time()
    _check_logprobs(request)
    given = await prompts.completions(request)
    runs = [
        PromptRun(
            prompt,
            _sampling(request, prompts, prompt, defaults),
            request.priority or 0,
            request.cache_salt,
        )
        for prompt in given
    ]
    response_id = f"cmpl-{uuid.uuid4().hex}"
    generation = generator.generate(
        response_id, http_request.scope["request_id"], runs, arrival=arrival
    )
    echoes = [_echo(request, prompts, prompt) for prompt in given]
    answer = _CompletionAnswer(request, response_id, echoes)
    return await answered(answer, generation, http_request, is_stream=bool(request.stream))


def _check_logprobs(request: CompletionRequest) -> None:
    if request.logprobs is None:
        return
    if not 0 <= request.logprobs <= MAX_LOGPROBS:
        raise invalid_value(
            "logprobs", f"logprobs is {request.logprobs}; it must lie in [0, {MAX_LOGPROBS}]."
        )
    if request.echo:
        raise unsupported("echo", "with logprobs it would need those of the prompt. Leave one out.")


def _sampling(
    request: CompletionRequest, prompts: PromptBuilder, prompt: Prompt, defaults: SamplingDefaults
) -> SamplingParams:
    default = _DEFAULT_MAX_TOKENS if defaults.max_tokens is None else defaults.max_tokens
    max_tokens = prompts.max_tokens(prompt, request.max_tokens, "prompt", default=default)
    return request.sampling_params(
        defaults,
        max_tokens=max_tokens,
        logprobs=request.logprobs,
        structured_outputs=output_format(request.response_format, request.structured_outputs),
    )


def _echo(request: CompletionRequest, prompts: PromptBuilder, prompt: Prompt) -> str:
    if not request.echo:
        return ""
    return prompts.decode(prompt.token_ids) if prompt.text is None else prompt.text


class _CompletionAnswer(Chunks):
    """What was asked for, as it shapes the answer. `echoes[i]` goes before the text of prompt i."""

    def __init__(self, request: CompletionRequest, response_id: str, echoes: list[str]) -> None:
        self._id = response_id
        self._model = request.model
        self._created = int(time.time())
        self._num_top = request.logprobs
        self._usage = request.usage_in_stream
        self._echoes = echoes
        self._n = request.n or 1

    def whole(self, generation: Generation) -> bytes:
        choices = [
            CompletionChoice(
                position * self._n + output.index,
                self._echoes[position] + output.text,
                None
                if output.logprobs is None
                else completion_logprobs(
                    output.logprobs, self._num_top or 0, output.text_offsets or []
                ),
                output.finish_reason,
                output.stop_reason,
            )
            for position, result in enumerate(generation.outputs)
            for output in result.outputs
        ]
        return _encode(
            Completion(
                id=self._id,
                created=self._created,
                model=self._model,
                choices=choices,
                usage=generation.usage,
            )
        )

    def events(self, generation: Generation) -> AsyncIterator[bytes]:
        encoder = ChunkEncoder(
            "text_completion", self._id, self._created, self._model, usage=self._usage
        )
        begun: set[int] = set()

        def chunks(index: int, delta: Delta) -> list[bytes]:
            found = []
            if index not in begun:
                begun.add(index)
                if echo := self._echoes[index // self._n]:
                    found.append(encoder.choice(index, _text_field(echo), None, None))
            chunk = self._chunk(encoder, index, delta)
            return found if chunk is None else [*found, chunk]

        return chunk_events(generation, encoder, chunks)

    def _chunk(self, encoder: ChunkEncoder, index: int, delta: Delta) -> bytes | None:
        reason, text = delta.finish_reason, delta.text
        if not text and reason is None and not delta.logprobs:
            return None
        logprobs = None
        if delta.logprobs:
            logprobs = completion_logprobs(
                delta.logprobs, self._num_top or 0, delta.text_offsets or []
            )
        end = None if reason is None else End(reason.value, delta.stop_reason)
        return encoder.choice(index, _text_field(text), end, logprobs)


def _text_field(text: str) -> bytes:
    return b'"text":' + _encode(text)
