"""Chat completions. `POST /v1/chat/completions`."""

from __future__ import annotations

import functools
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from octavo.engine.requests.marked_text import MarkedText
from octavo.engine.requests.output_processor import Delta
from octavo.generation_config import SamplingDefaults
from octavo.outputs import CompletionOutput, FinishReason, Logprob
from octavo.server.http.streaming import Chunks, answered, chunk_events
from octavo.server.openai.answers import (
    AssistantMessage,
    ChatChoice,
    ChatCompletion,
    ChatLogprobs,
    ChunkEncoder,
    End,
    chat_logprobs,
)
from octavo.server.openai.beams import check_beams, generate
from octavo.server.openai.call_fields import CallFields, FunctionCallFields, calls_of
from octavo.server.openai.functions import CALLED, told_as_functions, with_function_call
from octavo.server.openai.generation import Generation, Generator, PromptRun
from octavo.server.openai.logprobs import (
    check_prompt_logprobs,
    check_prompt_scores,
    prompt_logprobs,
)
from octavo.server.openai.parsing.answer import AnswerParser
from octavo.server.openai.parsing.pieces import Arguments, CallBegin, Piece, Reasoning, merged
from octavo.server.openai.prompts import PromptBuilder
from octavo.server.openai.protocol import ChatCompletionRequest
from octavo.server.openai.tool_choice import answer_format, read_tool_use

_encode = msgspec.json.Encoder().encode
_ROLE_FIELD = b'"delta":{"role":"assistant","content":""}'
_EMPTY_FIELD = b'"delta":{}'


async def chat_completion(
    request: ChatCompletionRequest,
    generator: Generator,
    prompts: PromptBuilder,
    defaults: SamplingDefaults,
    http_request: Request,
) -> Response:
    """Answers a validated request, whole or as a stream."""
    arrival = time.time()
    check_beams(request)
    check_prompt_logprobs(request.prompt_logprobs, is_stream=bool(request.stream))
    with told_as_functions(request.functions, len(request.messages)):
        chat = await chat_run(request, generator, prompts, defaults)
    check_prompt_scores("prompt_logprobs", request.prompt_logprobs, len(chat.run.prompt.token_ids))
    response_id = f"chatcmpl-{uuid.uuid4().hex}"
    name, runs = http_request.scope["request_id"], [chat.run]
    generation = generate(request, generator, response_id, name, runs, arrival=arrival)
    answer = ChatAnswer(
        request, chat.new_parser, response_id, generator.fingerprint, chat.run.prompt.token_ids
    )
    return await answered(answer, generation, http_request, is_stream=bool(request.stream))


@dataclass(frozen=True, slots=True)
class ChatRun:
    """What the engine runs for a conversation, and what reads the text of each of its completions; None
    where all of it is content."""

    run: PromptRun
    new_parser: Callable[[], AnswerParser | None]


async def chat_run(
    request: ChatCompletionRequest,
    generator: Generator,
    prompts: PromptBuilder,
    defaults: SamplingDefaults,
    parameter: str = "messages",
) -> ChatRun:
    """Of a conversation that the client wrote into `parameter`.

    Raises: `ApiError` or `InvalidParameterError` for what contradicts itself or cannot be promised.
    """
    num_top = request.requested_logprobs
    markup = generator.markup
    use = read_tool_use(request)
    # What the template leaves out, no way to read calls would help.
    prompt = await prompts.chat(request, use.told, parameter)
    wanted = answer_format(request, use, markup.calls, generator.vocabulary.special)
    max_tokens = prompts.max_tokens(
        prompt, request.requested_max_tokens, parameter, default=defaults.max_tokens
    )
    text = markup.begin_of_answer(prompt.text or "", request.said)
    wanted, is_held = markup.behind_reasoning(wanted, text), wanted is not None
    sampling = request.sampling_params(
        defaults,
        max_tokens=max_tokens,
        logprobs=num_top,
        prompt_logprobs=request.prompt_logprobs,
        structured_outputs=wanted,
    )
    run = PromptRun(
        prompt,
        sampling,
        request.priority or 0,
        request.cache_salt,
        markup.reasoning_tokens(text, generator.vocabulary, use.callable, is_held=is_held),
        generator.adapters.id_of(request.model),
    )
    new_parser = functools.partial(
        markup.parser,
        text,
        use.callable,
        use.max_calls,
        known_ids=request.call_ids,
        tells_reasoning=request.include_reasoning is not False,
        is_held=is_held,
    )
    return ChatRun(run, new_parser)


class ChatAnswer(Chunks):
    """What was asked for, as it shapes the answer.

    Args:
        fingerprint: The server's.
        prompt_token_ids: They are told where the request asks for them.
    """

    def __init__(
        self,
        request: ChatCompletionRequest,
        new_parser: Callable[[], AnswerParser | None],
        response_id: str,
        fingerprint: str,
        prompt_token_ids: list[int],
    ) -> None:
        self._id = response_id
        self._fingerprint = fingerprint
        self._model = request.model
        self._created = int(time.time())
        self._num_top = request.requested_logprobs
        self._new_parser = new_parser
        self._usage = request.usage_in_stream
        self._num_prompt_top = request.prompt_logprobs
        self._prompt_token_ids = prompt_token_ids if request.return_token_ids else None
        self._has_functions = bool(request.functions)
        self._names_ids = bool(request.return_tokens_as_token_ids)
        self._calls = FunctionCallFields() if self._has_functions else CallFields()

    def whole(self, generation: Generation) -> bytes:
        choices = [
            self._choice(output, generation.marked_text(0, output.index))
            for output in generation.outputs[0].outputs
        ]
        told = None
        if self._num_prompt_top is not None:
            told = prompt_logprobs(generation.prompt_logprobs(0) or [], self._num_prompt_top)
        ids = self._prompt_token_ids
        return _encode(
            ChatCompletion(
                id=self._id,
                created=self._created,
                model=self._model,
                choices=choices,
                system_fingerprint=self._fingerprint,
                usage=generation.usage,
                prompt_logprobs=msgspec.UNSET if told is None else told,
                prompt_token_ids=msgspec.UNSET if ids is None else ids,
            )
        )

    def _choice(self, output: CompletionOutput, text: MarkedText) -> ChatChoice:
        message, num_calls = AssistantMessage(content=output.text), 0
        if (parser := self._new_parser()) is not None:
            is_cut = output.finish_reason == FinishReason.LENGTH.value
            message = _message([*parser.push(text), *parser.flush(is_cut=is_cut)])
            num_calls = parser.num_calls
        if self._has_functions:
            message = with_function_call(message)
        logprobs = None
        if output.logprobs is not None:
            logprobs = self._logprobs(output.logprobs)
        return ChatChoice(
            output.index,
            message,
            logprobs,
            self._finish_reason(output.finish_reason or "stop", num_calls),
            output.stop_reason,
            msgspec.UNSET if self._prompt_token_ids is None else output.token_ids,
        )

    def _finish_reason(self, reason: str, num_calls: int) -> str:
        if not num_calls or reason != "stop":
            return reason
        return CALLED if self._has_functions else "tool_calls"

    def _logprobs(self, positions: list[dict[int, Logprob]]) -> ChatLogprobs:
        return ChatLogprobs(chat_logprobs(positions, self._num_top or 0, names_ids=self._names_ids))

    def events(self, generation: Generation) -> AsyncIterator[bytes]:
        encoder = ChunkEncoder(
            "chat.completion.chunk",
            self._id,
            self._created,
            self._model,
            self._fingerprint,
            usage=self._usage,
        )
        parsers: dict[int, AnswerParser | None] = {}

        def chunks(index: int, delta: Delta) -> list[bytes]:
            role = []
            if index not in parsers:
                parsers[index] = self._new_parser()
                role.append(self._role_chunk(encoder, index))
            return role + self._chunks(encoder, index, delta, parsers[index])

        return chunk_events(generation, encoder, chunks)

    def _role_chunk(self, encoder: ChunkEncoder, index: int) -> bytes:
        if self._prompt_token_ids is None:
            return encoder.choice(index, _ROLE_FIELD, None, None)
        beside = b'"prompt_token_ids":' + _encode(self._prompt_token_ids)
        return encoder.choice(index, self._with_ids(_ROLE_FIELD, []), None, None, beside)

    def _with_ids(self, field: bytes, token_ids: list[int]) -> bytes:
        if self._prompt_token_ids is None:
            return field
        return b'"token_ids":' + _encode(token_ids) + b"," + field

    def _chunks(
        self, encoder: ChunkEncoder, index: int, delta: Delta, parser: AnswerParser | None
    ) -> list[bytes]:
        fields: list[bytes] = []
        ids = [] if self._prompt_token_ids is None else delta.token_ids
        if parser is None:
            if (text := delta.text) or delta.logprobs:
                fields.append(_content_field(text))
        else:
            pieces = [*parser.push(delta.marked)]
            if delta.finish_reason is not None:
                pieces += parser.flush(is_cut=delta.finish_reason is FinishReason.LENGTH)
            number = parser.num_calls - sum(isinstance(piece, CallBegin) for piece in pieces) - 1
            for piece in merged(pieces):
                if isinstance(piece, str):
                    fields.append(_content_field(piece))
                elif isinstance(piece, Reasoning):
                    fields.append(_reasoning_field(piece.text))
                elif isinstance(piece, CallBegin):
                    number += 1
                    fields.append(self._calls.begin(piece, number))
                elif isinstance(piece, Arguments):
                    fields.append(self._calls.arguments(piece.text, number))
        if not fields and (delta.logprobs or (ids and delta.finish_reason is None)):
            fields.append(_content_field(""))
        # Log-probabilities and ids belong to the tokens of this delta: they go with its first chunk.
        logprobs = self._logprobs(delta.logprobs) if delta.logprobs else None
        chunks = []
        for field in fields:
            chunks.append(encoder.choice(index, self._with_ids(field, ids), None, logprobs))
            logprobs, ids = None, []
        if delta.finish_reason is not None:
            num_calls = 0 if parser is None else parser.num_calls
            reason = self._finish_reason(delta.finish_reason.value, num_calls)
            end = End(reason, delta.stop_reason)
            chunks.append(encoder.choice(index, self._with_ids(_EMPTY_FIELD, ids), end, None))
        return chunks


def _message(pieces: Sequence[Piece]) -> AssistantMessage:
    content = "".join(piece for piece in pieces if isinstance(piece, str))
    reasoning = "".join(piece.text for piece in pieces if isinstance(piece, Reasoning))
    calls = calls_of(pieces)
    return AssistantMessage(
        content=content or (None if calls or reasoning else ""),
        reasoning=reasoning or msgspec.UNSET,
        reasoning_content=reasoning or msgspec.UNSET,
        tool_calls=calls or msgspec.UNSET,
    )


def _content_field(text: str) -> bytes:
    return b'"delta":{"content":' + _encode(text) + b"}"


def _reasoning_field(text: str) -> bytes:
    encoded = _encode(text)
    return b'"delta":{"reasoning":' + encoded + b',"reasoning_content":' + encoded + b"}"
