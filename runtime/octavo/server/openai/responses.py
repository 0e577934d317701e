"""Responses. OpenAI's answers as msgspec structs, and the bytes of streamed chunks.

A chunk is sent for every token of every stream, so its constant parts are encoded once per stream and
only the text is encoded per token.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from octavo.outputs import Logprob

DONE = b"data: [DONE]\n\n"


class PromptTokensDetails(msgspec.Struct, frozen=True):
    cached_tokens: int = 0


class Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails

    @classmethod
    def of(cls, prompt_tokens: int, completion_tokens: int, cached_tokens: int) -> Usage:
        return cls(
            prompt_tokens,
            completion_tokens,
            prompt_tokens + completion_tokens,
            PromptTokensDetails(cached_tokens),
        )


class UsageInStream(enum.Enum):
    """`AT_END` is a chunk of its own, and null in the others, as OpenAI has it."""

    NEVER = "never"
    AT_END = "at_end"
    ALWAYS = "always"


class TopLogprob(msgspec.Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(msgspec.Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChatLogprobs(msgspec.Struct, frozen=True):
    content: list[TokenLogprob]
    refusal: None = None


class FunctionOut(msgspec.Struct, frozen=True):
    name: str
    arguments: str


class ToolCallOut(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    type: str = "function"
    function: FunctionOut


class AssistantMessage(msgspec.Struct, frozen=True, kw_only=True):
    role: str = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[ToolCallOut] | msgspec.UnsetType = msgspec.UNSET


class ChatChoice(msgspec.Struct, frozen=True):
    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: str


class ChatCompletion(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: str = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str | None = None


class CompletionLogprobs(msgspec.Struct, frozen=True):
    """Parallel lists, one entry per token; `text_offset` counts characters from the text's begin."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


class CompletionChoice(msgspec.Struct, frozen=True):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: str | None


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: str = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage
    system_fingerprint: str | None = None


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: str = "model"
    created: int
    owned_by: str = "octavo"
    root: str
    max_model_len: int


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    object: str = "list"
    data: list[ModelCard]


def chat_logprobs(positions: Sequence[dict[int, Logprob]], num_top: int) -> list[TokenLogprob]:
    """`positions[i]` holds the sampled token first; `num_top` of the best ones are shown."""
    return [
        TokenLogprob(
            sampled.decoded_token,
            sampled.logprob,
            _bytes(sampled),
            [
                TopLogprob(best.decoded_token, best.logprob, _bytes(best))
                for best in _best(position, num_top)
            ],
        )
        for position in positions
        for sampled in (next(iter(position.values())),)
    ]


def completion_logprobs(
    positions: Sequence[dict[int, Logprob]], num_top: int, first_offset: int
) -> CompletionLogprobs:
    """`first_offset`: characters of text before the first of these tokens."""
    sampled = [next(iter(position.values())) for position in positions]
    offsets, offset = [], first_offset
    for logprob in sampled:
        offsets.append(offset)
        offset += len(logprob.decoded_token)
    top = [
        {best.decoded_token: best.logprob for best in _best(position, num_top)}
        for position in positions
    ]
    return CompletionLogprobs(
        tokens=[logprob.decoded_token for logprob in sampled],
        token_logprobs=[logprob.logprob for logprob in sampled],
        top_logprobs=top if num_top else None,
        text_offset=offsets,
    )


def _best(position: dict[int, Logprob], num_top: int) -> list[Logprob]:
    ranked = sorted(position.values(), key=lambda logprob: logprob.rank)
    return [logprob for logprob in ranked if logprob.rank <= num_top]


def _bytes(logprob: Logprob) -> list[int]:
    return list(logprob.decoded_token.encode())


class ChunkEncoder:
    """Encodes the server-sent events of one stream.

    Args:
        kind: `object` of every chunk; this, `id`, `created` and `model` are constant.
        usage: Where it is told.
    """

    __slots__ = ("_head", "_tail", "_usage")

    def __init__(
        self, kind: str, response_id: str, created: int, model: str, *, usage: UsageInStream
    ) -> None:
        head = {
            "id": response_id,
            "object": kind,
            "created": created,
            "model": model,
            "system_fingerprint": None,
        }
        self._usage = usage
        self._head = b"data: " + msgspec.json.encode(head)[:-1] + b',"choices":['
        self._tail = b"]}\n\n" if usage is UsageInStream.NEVER else b'],"usage":null}\n\n'

    def advance(self, read_usage: Callable[[], Usage]) -> None:
        """To be called before the chunks of what arrived are encoded."""
        if self._usage is UsageInStream.ALWAYS:
            self._tail = b'],"usage":' + msgspec.json.encode(read_usage()) + b"}\n\n"

    def choice(self, index: int, field: bytes, finish_reason: str | None, logprobs: Any) -> bytes:
        """A chunk with one choice; `field` is the encoded `"delta":…` or `"text":…`."""
        return b"".join(
            (
                self._head,
                b'{"index":%d,' % index,
                field,
                b',"logprobs":',
                b"null" if logprobs is None else msgspec.json.encode(logprobs),
                b',"finish_reason":',
                b"null" if finish_reason is None else msgspec.json.encode(finish_reason),
                b"}",
                self._tail,
            )
        )

    def end(self, usage: Usage) -> bytes:
        """The chunk without choices that tells the usage; nothing where nobody asked for it."""
        if self._usage is UsageInStream.NEVER:
            return b""
        return self._head + b'],"usage":' + msgspec.json.encode(usage) + b"}\n\n"


def error_event(body: bytes) -> bytes:
    """An error after the stream began: the status line is gone, so the event tells it."""
    return b"data: " + body + b"\n\n"
