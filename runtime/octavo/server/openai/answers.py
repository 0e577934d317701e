"""Answers of chats and completions as msgspec structs, and the bytes of streamed chunks.

A chunk is sent for every token of every stream, so its constant parts are encoded once per stream and
only the text is encoded per token.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from octavo.outputs import Logprob

DONE = b"data: [DONE]\n\n"


class PromptTokensDetails(msgspec.Struct, frozen=True):
    cached_tokens: int = 0


class CompletionTokensDetails(msgspec.Struct, frozen=True):
    """The former for models whose reasoning is read, the latter for servers that guess tokens: how many of
    the completion's came true."""

    reasoning_tokens: int | msgspec.UnsetType = msgspec.UNSET
    accepted_prediction_tokens: int | msgspec.UnsetType = msgspec.UNSET


class Usage(msgspec.Struct, frozen=True):
    """`completion_tokens_details` is there where one of its members is."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails | msgspec.UnsetType = msgspec.UNSET

    @classmethod
    def of(
        cls,
        prompt_tokens: int,
        completion_tokens: int,
        cached_tokens: int,
        reasoning_tokens: int | None = None,
        accepted_tokens: int | None = None,
    ) -> Usage:
        reasoning = msgspec.UNSET if reasoning_tokens is None else reasoning_tokens
        accepted = msgspec.UNSET if accepted_tokens is None else accepted_tokens
        has_details = reasoning_tokens is not None or accepted_tokens is not None
        return cls(
            prompt_tokens,
            completion_tokens,
            prompt_tokens + completion_tokens,
            PromptTokensDetails(cached_tokens),
            CompletionTokensDetails(reasoning, accepted) if has_details else msgspec.UNSET,
        )

    @property
    def reasoning_tokens(self) -> int | None:
        """None where reasoning isn't read."""
        details = self.completion_tokens_details
        if details is msgspec.UNSET or details.reasoning_tokens is msgspec.UNSET:
            return None
        return details.reasoning_tokens


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
    """Reasoning goes by both of vLLM's names; `function_call` answers a request with functions."""

    role: str = "assistant"
    content: str | None
    refusal: None = None
    reasoning: str | msgspec.UnsetType = msgspec.UNSET
    reasoning_content: str | msgspec.UnsetType = msgspec.UNSET
    tool_calls: list[ToolCallOut] | msgspec.UnsetType = msgspec.UNSET
    function_call: FunctionOut | msgspec.UnsetType = msgspec.UNSET


class PromptLogprob(msgspec.Struct, frozen=True):
    logprob: float
    rank: int
    decoded_token: str


PromptLogprobs = list[Mapping[int, PromptLogprob] | None]
"""vLLM's: of a prompt's tokens by id, and null for the first one."""


class ChatChoice(msgspec.Struct, frozen=True):
    """`token_ids` is vLLM's, for requests that ask for it."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: str
    stop_reason: int | str | None
    token_ids: list[int] | msgspec.UnsetType = msgspec.UNSET


class ChatCompletion(msgspec.Struct, frozen=True, kw_only=True):
    """The last two are vLLM's, for requests that ask for them. `system_fingerprint`: see `fingerprint`."""

    id: str
    object: str = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    system_fingerprint: str
    usage: Usage
    prompt_logprobs: PromptLogprobs | msgspec.UnsetType = msgspec.UNSET
    prompt_token_ids: list[int] | msgspec.UnsetType = msgspec.UNSET


class CompletionLogprobs(msgspec.Struct, frozen=True):
    """Parallel lists, one entry per token; `text_offset` counts characters from the text's begin. The first
    token of a prompt that is echoed has no log-probability."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(msgspec.Struct, frozen=True):
    """The last three are vLLM's, for requests that ask for them."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: str | None
    stop_reason: int | str | None
    prompt_logprobs: PromptLogprobs | msgspec.UnsetType = msgspec.UNSET
    prompt_token_ids: list[int] | msgspec.UnsetType = msgspec.UNSET
    token_ids: list[int] | msgspec.UnsetType = msgspec.UNSET


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: str = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    system_fingerprint: str
    usage: Usage


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """`root` is where it lies; an adapter's `parent` is the model that it belongs to."""

    id: str
    object: str = "model"
    created: int
    owned_by: str = "octavo"
    root: str
    parent: str | None = None
    max_model_len: int


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    object: str = "list"
    data: list[ModelCard]


def chat_logprobs(
    positions: Sequence[dict[int, Logprob]], num_top: int, *, names_ids: bool = False
) -> list[TokenLogprob]:
    """`positions[i]` holds the sampled token first; `num_top` of the best ones are shown.

    Args:
        names_ids: Tokens are written by their ids (vLLM's `return_tokens_as_token_ids`).
    """

    def name(token_id: int, logprob: Logprob) -> str:
        return f"token_id:{token_id}" if names_ids else token_name(logprob)

    return [
        TokenLogprob(
            name(token_id, sampled),
            sampled.logprob,
            list(sampled.token_bytes),
            [
                TopLogprob(name(best_id, best), best.logprob, list(best.token_bytes))
                for best_id, best in best_ranked(position, num_top).items()
            ],
        )
        for position in positions
        for token_id, sampled in (next(iter(position.items())),)
    ]


def best_ranked(position: dict[int, Logprob], num_top: int) -> dict[int, Logprob]:
    """The `num_top` best ones of a position, best first."""
    ranked = sorted(position.items(), key=lambda item: item[1].rank)
    return {token_id: logprob for token_id, logprob in ranked if logprob.rank <= num_top}


def token_name(logprob: Logprob, prefix: str = "") -> str:
    """A part of a character has no text: its bytes are written out, as OpenAI does, so that tokens stay
    apart."""
    try:
        logprob.token_bytes.decode()
    except UnicodeDecodeError:
        return prefix + "".join(f"\\x{byte:02x}" for byte in logprob.token_bytes)
    return logprob.decoded_token


class End(msgspec.Struct, frozen=True):
    """Why a choice ended. `stop_reason` is vLLM's: the stop string that did it, or the token of
    `stop_token_ids`; null for the model's own end."""

    finish_reason: str
    stop_reason: int | str | None


class ChunkEncoder:
    """Encodes the server-sent events of one stream.

    Args:
        kind: `object` of every chunk; this and all others are constant.
        fingerprint: The server's.
        usage: Where it is told.
    """

    __slots__ = ("_head", "_tail", "_usage")

    def __init__(
        self,
        kind: str,
        response_id: str,
        created: int,
        model: str,
        fingerprint: str,
        *,
        usage: UsageInStream,
    ) -> None:
        head = {
            "id": response_id,
            "object": kind,
            "created": created,
            "model": model,
            "system_fingerprint": fingerprint,
        }
        self._usage = usage
        self._head = b"data: " + msgspec.json.encode(head)[:-1] + b',"choices":['
        self._tail = b"]}\n\n" if usage is UsageInStream.NEVER else b'],"usage":null}\n\n'

    def advance(self, read_usage: Callable[[], Usage]) -> None:
        """To be called before the chunks of what arrived are encoded."""
        if self._usage is UsageInStream.ALWAYS:
            self._tail = b'],"usage":' + msgspec.json.encode(read_usage()) + b"}\n\n"

    def choice(
        self, index: int, field: bytes, end: End | None, logprobs: Any, beside: bytes = b""
    ) -> bytes:
        """A chunk with one choice.

        Args:
            field: The encoded `"delta":…` or `"text":…`.
            end: Comes with a choice's last one.
            beside: An encoded member of the chunk itself.
        """
        tail = self._tail if not beside else b"]," + beside + self._tail[1:]
        return b"".join(
            (
                self._head,
                b'{"index":%d,' % index,
                field,
                b',"logprobs":',
                b"null" if logprobs is None else msgspec.json.encode(logprobs),
                b',"finish_reason":null}' if end is None else b"," + msgspec.json.encode(end)[1:],
                tail,
            )
        )

    def end(self, usage: Usage) -> bytes:
        """The chunk without choices that tells the usage; nothing where nobody asked for it."""
        if self._usage is UsageInStream.NEVER:
            return b""
        return self._head + b'],"usage":' + msgspec.json.encode(usage) + b"}\n\n"


def json_answer(document: object) -> Response:
    return Response(msgspec.json.encode(document), media_type="application/json")


def error_event(body: bytes) -> bytes:
    """An error after the stream began: the status line is gone, so the event tells it."""
    return b"data: " + body + b"\n\n"
