"""Messages routes. `POST /v1/messages` and `POST /v1/messages/count_tokens`."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from octavo.generation_config import SamplingDefaults
from octavo.outputs import FinishReason
from octavo.server.anthropic.as_chat import as_chat
from octavo.server.anthropic.errors import message_error
from octavo.server.anthropic.objects import (
    Event,
    MessageDelta,
    MessageOut,
    MessageStart,
    MessageStop,
    MessageUsage,
    Stop,
    TokensCount,
)
from octavo.server.anthropic.output import MessageOutput
from octavo.server.anthropic.request import CountTokensRequest, MessagesRequest
from octavo.server.http.streaming import answered
from octavo.server.openai.answer_reader import AnswerReader
from octavo.server.openai.answers import json_answer
from octavo.server.openai.api_errors import ApiError
from octavo.server.openai.chat import chat_run
from octavo.server.openai.field_names import FieldNames
from octavo.server.openai.generation import Generation, Generator
from octavo.server.openai.parsing.answer import AnswerParser
from octavo.server.openai.prompts import PromptBuilder
from octavo.server.openai.protocol import ChatCompletionRequest
from octavo.server.openai.tool_choice import read_tool_use


async def create_message(
    request: MessagesRequest,
    generator: Generator,
    prompts: PromptBuilder,
    defaults: SamplingDefaults,
    http_request: Request,
) -> Response:
    """Answers a validated request, whole or as a stream."""
    arrival = time.time()
    chat, names = as_chat(request)
    with names.told():
        asked = await chat_run(chat, generator, prompts, defaults)
        message_id = f"msg_{uuid.uuid4().hex}"
        request_id = http_request.scope["request_id"]
        generation = generator.generate(message_id, request_id, [asked.run], arrival=arrival)
        answer = MessageAnswer(chat, asked.new_parser(), names, message_id, request_id)
        return await answered(answer, generation, http_request, is_stream=bool(request.stream))


async def count_tokens(request: CountTokensRequest, prompts: PromptBuilder) -> Response:
    """Of the prompt that a message would be made of."""
    chat, names = as_chat(request)
    with names.told():
        prompt = await prompts.chat(
            chat, read_tool_use(chat).told, instead="give /tokenize a prompt"
        )
    return json_answer(TokensCount(len(prompt.token_ids)))


class MessageAnswer:
    """What was asked for, as it shapes the answer."""

    def __init__(
        self,
        chat: ChatCompletionRequest,
        parser: AnswerParser | None,
        names: FieldNames,
        message_id: str,
        request_id: str,
    ) -> None:
        self._names = names
        self._request_id = request_id
        self._id = message_id
        self._model = chat.model
        self._output = MessageOutput()
        self._reader = AnswerReader(parser, self._output)

    def whole(self, generation: Generation) -> bytes:
        (output,) = generation.outputs[0].outputs
        is_cut = output.finish_reason == FinishReason.LENGTH.value
        self._reader.read_whole(generation.marked_text(0, 0), is_cut=is_cut)
        stop = self._stop(output.finish_reason or "stop", output.stop_reason)
        return msgspec.json.encode(
            MessageOut(
                id=self._id,
                model=self._model,
                content=self._output.blocks,
                stop_reason=stop.stop_reason,
                stop_sequence=stop.stop_sequence,
                usage=MessageUsage.of(generation.usage),
            )
        )

    async def events(self, generation: Generation) -> AsyncIterator[bytes]:
        """The first of them come with the first token: an error until then is an ordinary answer."""
        due: list[Event] = []
        is_begun = False
        stop = Stop("end_turn", None)
        with self._names.told():
            async for deltas in generation.deltas():
                if not is_begun:
                    is_begun = True
                    due.append(MessageStart(self._begun(generation)))
                for _, delta in deltas:
                    due += self._reader.read(delta.marked)
                    if delta.finish_reason is not None:
                        is_cut = delta.finish_reason is FinishReason.LENGTH
                        due += self._reader.end(is_cut=is_cut)
                        stop = self._stop(delta.finish_reason.value, delta.stop_reason)
                if due:
                    yield _encoded(due)
                    due = []
        yield _encoded([MessageDelta(stop, MessageUsage.of(generation.usage)), MessageStop()])

    def last_word(self) -> bytes:
        """An event has said it."""
        return b""

    def failure(self, error: ApiError) -> bytes:
        return b"event: error\ndata: " + message_error(error, self._request_id) + b"\n\n"

    def _begun(self, generation: Generation) -> MessageOut:
        usage = msgspec.structs.replace(MessageUsage.of(generation.usage), output_tokens=0)
        return MessageOut(id=self._id, model=self._model, content=[], usage=usage)

    def _stop(self, finish_reason: str, stop_reason: int | str | None) -> Stop:
        if finish_reason == FinishReason.LENGTH.value:
            return Stop("max_tokens", None)
        if isinstance(stop_reason, str):
            return Stop("stop_sequence", stop_reason)
        return Stop("tool_use" if self._output.has_calls else "end_turn", None)


def _encoded(events: Sequence[Event]) -> bytes:
    return b"".join(
        b"event: %b\ndata: %b\n\n"
        % (str(type(event).__struct_config__.tag).encode(), msgspec.json.encode(event))
        for event in events
    )
