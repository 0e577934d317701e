"""Text completions. `POST /v1/completions`."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from octavo.generation_config import SamplingDefaults
from octavo.sampling_params import MAX_LOGPROBS, MAX_N, SamplingParams, check_number
from octavo.server.http.streaming import answered
from octavo.server.openai.api_errors import invalid_value, unsupported
from octavo.server.openai.beams import check_beams, generate
from octavo.server.openai.completion_answer import CompletionAnswer, Echo
from octavo.server.openai.generation import Generator, PromptRun
from octavo.server.openai.logprobs import (
    check_prompt_logprobs,
    check_prompt_scores,
    echo_offsets,
)
from octavo.server.openai.output_format import output_format
from octavo.server.openai.prompts import Prompt, PromptBuilder
from octavo.server.openai.protocol import CompletionRequest

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
    _check(request)
    given = await prompts.completions(request)
    _check_prompts(request, given)
    runs = [
        PromptRun(
            prompt,
            _sampling(request, prompts, prompt, defaults),
            request.priority or 0,
            request.cache_salt,
            adapter_id=generator.adapters.id_of(request.model),
        )
        for prompt in given
    ]
    response_id = f"cmpl-{uuid.uuid4().hex}"
    generation = generate(
        request, generator, response_id, http_request.scope["request_id"], runs, arrival=arrival
    )
    answer = CompletionAnswer(
        request,
        response_id,
        generator.fingerprint,
        [_echo(request, generator, prompts, prompt) for prompt in given],
        [prompt.token_ids for prompt in given],
    )
    return await answered(answer, generation, http_request, is_stream=bool(request.stream))


def _check(request: CompletionRequest) -> None:
    check_beams(request)
    if request.logprobs is not None:
        check_number("logprobs", request.logprobs, 0, MAX_LOGPROBS, is_whole=True)
    check_prompt_logprobs(request.prompt_logprobs, is_stream=bool(request.stream))
    if request.best_of is None:
        return
    check_number("best_of", request.best_of, 1, MAX_N, is_whole=True)
    if request.best_of < (request.n or 1):
        raise invalid_value(
            "best_of", f"best_of is {request.best_of}; it must be at least n, {request.n}."
        )
    if request.stream and _chooses(request):
        raise unsupported(
            "best_of", "the best are not known before all have ended. Leave out stream."
        )


def _check_prompts(request: CompletionRequest, prompts: Sequence[Prompt]) -> None:
    if request.echo and any(prompt.is_filled_in for prompt in prompts):
        raise unsupported(
            "echo", "of a text that is filled in it is not told where it goes. Leave one out."
        )
    num_tokens = sum(len(prompt.token_ids) for prompt in prompts) * (request.n or 1)
    check_prompt_scores("logprobs", request.logprobs if request.echo else None, num_tokens)
    check_prompt_scores("prompt_logprobs", request.prompt_logprobs, num_tokens)


def _chooses(request: CompletionRequest) -> bool:
    return request.best_of is not None and request.best_of > (request.n or 1)


def _sampling(
    request: CompletionRequest, prompts: PromptBuilder, prompt: Prompt, defaults: SamplingDefaults
) -> SamplingParams:
    default = _DEFAULT_MAX_TOKENS if defaults.max_tokens is None else defaults.max_tokens
    max_tokens = prompts.max_tokens(prompt, request.max_tokens, "prompt", default=default)
    wanted = [request.prompt_logprobs, request.logprobs if request.echo else None]
    params = request.sampling_params(
        defaults,
        max_tokens=max_tokens,
        # What is chosen is chosen by its log-probability.
        logprobs=0 if _chooses(request) and request.logprobs is None else request.logprobs,
        prompt_logprobs=max((count for count in wanted if count is not None), default=None),
        structured_outputs=output_format(request.response_format, request.structured_outputs),
    )
    if prompt.is_filled_in:
        params = replace(
            params, stop_token_ids=[*(params.stop_token_ids or ()), *prompts.middle_ends]
        )
    return params if not _chooses(request) else replace(params, n=request.best_of)


def _echo(
    request: CompletionRequest, generator: Generator, prompts: PromptBuilder, prompt: Prompt
) -> Echo:
    if not request.echo:
        return Echo()
    text, ids = prompt.text, prompt.token_ids
    if text is None:
        text = prompts.decode(ids)  # with the special tokens that the client put there
    if request.logprobs is None:
        return Echo(text)
    first = (
        f"token_id:{ids[0]}"
        if request.return_tokens_as_token_ids
        else (generator.vocabulary.text_of(ids[0]))
    )
    return Echo(text, echo_offsets(text, ids, generator.tokenizer, generator.vocabulary), first)
