"""Responses routes. `POST /v1/responses` and `POST /v1/responses/input_tokens`."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from octavo.generation_config import SamplingDefaults
from octavo.outputs import FinishReason, Logprob
from octavo.sampling_params import SamplingParams
from octavo.server.http.streaming import answered
from octavo.server.openai.answer_reader import AnswerReader
from octavo.server.openai.answers import TokenLogprob, chat_logprobs, json_answer
from octavo.server.openai.api_errors import ApiError
from octavo.server.openai.chat import chat_run
from octavo.server.openai.field_names import FieldNames
from octavo.server.openai.generation import Generation, Generator
from octavo.server.openai.parsing.answer import AnswerParser
from octavo.server.openai.prompts import PromptBuilder
from octavo.server.openai.protocol import ChatCompletionRequest
from octavo.server.openai.responses_api.as_chat import as_chat
from octavo.server.openai.responses_api.events import (
    Completed,
    Created,
    ErrorEvent,
    Event,
    EventEncoder,
    Failed,
    Incomplete,
    InProgress,
)
from octavo.server.openai.responses_api.objects import (
    IncompleteDetails,
    InputTokens,
    ResponseError,
    ResponseObject,
    ResponseUsage,
)
from octavo.server.openai.responses_api.output import ResponseOutput
from octavo.server.openai.responses_api.request import ResponsesRequest
from octavo.server.openai.tool_choice import read_tool_use


async def create_response(
    request: ResponsesRequest,
    generator: Generator,
    prompts: PromptBuilder,
    defaults: SamplingDefaults,
    http_request: Request,
) -> Response:
    """Answers a validated request, whole or as a stream."""
    arrival = time.time()
    chat, names = as_chat(request)
    with names.told():
        asked = await chat_run(chat, generator, prompts, defaults, "input")
        response_id = f"resp_{uuid.uuid4().hex}"
        generation = generator.generate(
            response_id, http_request.scope["request_id"], [asked.run], arrival=arrival
        )
        standing = _standing(request, response_id, asked.run.sampling)
        answer = ResponseAnswer(chat, asked.new_parser(), names, standing)
        return await answered(answer, generation, http_request, is_stream=bool(request.stream))


async def count_input_tokens(request: ResponsesRequest, prompts: PromptBuilder) -> Response:
    """Of the prompt that a response would be made of."""
    chat, names = as_chat(request)
    with names.told():
        prompt = await prompts.chat(
            chat, read_tool_use(chat).told, instead="give /tokenize a prompt"
        )
    return json_answer(InputTokens(len(prompt.token_ids)))


def _standing(
    request: ResponsesRequest, response_id: str, sampling: SamplingParams
) -> ResponseObject:
    """The response before anything is in it."""
    text: dict[str, Any] = {"format": {"type": "text"}, "verbosity": "medium"}
    reasoning: dict[str, Any] = {"effort": None, "summary": None}
    if request.text is not None:
        text |= request.text.model_dump(by_alias=True, exclude_none=True)
    if request.reasoning is not None:
        reasoning |= request.reasoning.model_dump(exclude_none=True)
    return ResponseObject(
        id=response_id,
        created_at=int(time.time()),
        status="in_progress",
        model=request.model,
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        max_tool_calls=request.max_tool_calls,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_logprobs=request.top_logprobs or 0,
        tools=[tool.as_sent for tool in request.tools or []],
        tool_choice=request.tool_choice or "auto",
        parallel_tool_calls=request.parallel_tool_calls is not False,
        text=text,
        reasoning=reasoning,
        metadata=request.metadata or {},
        user=_if_sent(request.user),
        safety_identifier=_if_sent(request.safety_identifier),
        prompt_cache_key=_if_sent(request.prompt_cache_key),
    )


class ResponseAnswer:
    """What was asked for, as it shapes the answer."""

    def __init__(
        self,
        chat: ChatCompletionRequest,
        parser: AnswerParser | None,
        names: FieldNames,
        standing: ResponseObject,
    ) -> None:
        self._names = names
        self._standing = standing
        self._num_top = chat.requested_logprobs
        self._output = ResponseOutput()
        self._reader = AnswerReader(parser, self._output)
        self._encoder = EventEncoder()
        self._generation: Generation | None = None

    def whole(self, generation: Generation) -> bytes:
        (output,) = generation.outputs[0].outputs
        logprobs, offsets = self._logprobs(output.logprobs), output.text_offsets
        is_cut = output.finish_reason == FinishReason.LENGTH.value
        text = generation.marked_text(0, 0)
        self._reader.read_whole(text, logprobs, offsets or [], is_cut=is_cut)
        return msgspec.json.encode(self._ended(generation, is_cut=is_cut))

    async def events(self, generation: Generation) -> AsyncIterator[bytes]:
        """The first of them come with the first token: an error until then is an ordinary answer."""
        self._generation = generation
        due: list[Event] = [Created(response=self._standing), InProgress(response=self._standing)]
        is_cut = False
        with self._names.told():
            async for deltas in generation.deltas():
                for _, delta in deltas:
                    logprobs, offsets = self._logprobs(delta.logprobs), delta.text_offsets or []
                    due += self._reader.read(delta.marked, logprobs, offsets)
                    is_cut = is_cut or delta.finish_reason is FinishReason.LENGTH
                if due:
                    yield self._encoded(due)
                    due = []
        due += self._reader.end(is_cut=is_cut)
        ended = self._ended(generation, is_cut=is_cut)
        due.append(Incomplete(response=ended) if is_cut else Completed(response=ended))
        yield self._encoded(due)

    def last_word(self) -> bytes:
        """An event has said it."""
        return b""

    def failure(self, error: ApiError) -> bytes:
        told = error.detail
        usage = (
            msgspec.UNSET if self._generation is None else ResponseUsage.of(self._generation.usage)
        )
        failed = msgspec.structs.replace(
            self._standing,
            status="failed",
            error=ResponseError(_openai_code(error.status), told.message),
            output=self._output.standing(),
            usage=usage,
        )
        event = ErrorEvent(code=told.code, message=told.message, param=told.param)
        return self._encoded([event, Failed(response=failed)])

    def _encoded(self, events: list[Event]) -> bytes:
        return b"".join(map(self._encoder, events))

    def _ended(self, generation: Generation, *, is_cut: bool) -> ResponseObject:
        return msgspec.structs.replace(
            self._standing,
            status="incomplete" if is_cut else "completed",
            completed_at=None if is_cut else int(time.time()),
            incomplete_details=IncompleteDetails("max_output_tokens") if is_cut else None,
            output=self._output.items,
            usage=ResponseUsage.of(generation.usage),
        )

    def _logprobs(self, positions: list[dict[int, Logprob]] | None) -> list[TokenLogprob]:
        return chat_logprobs(positions, self._num_top or 0) if positions else []


def _openai_code(status: int) -> str:
    """Of the few that a failed response may have."""
    if status == 429:
        return "rate_limit_exceeded"
    return "invalid_prompt" if status < 500 else "server_error"


def _if_sent(text: str | None) -> str | msgspec.UnsetType:
    return msgspec.UNSET if text is None else text
