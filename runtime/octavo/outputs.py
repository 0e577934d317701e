"""Outputs. What a user of `LLM` gets back. Field names are vLLM's."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class FinishReason(enum.Enum):
    """Why a completion ended: the values are OpenAI's, plus `abort` and `error`."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Logprob:
    """Log-probability of one token at one position. `rank` 1 is the most probable token.

    `token_bytes` of all tokens of a text, joined, are the text in UTF-8; `decoded_token` has U+FFFD in
    place of what is a part of a character.
    """

    logprob: float
    rank: int
    decoded_token: str
    token_bytes: bytes


@dataclass(slots=True)
class CompletionOutput:
    """One completion. `logprobs[i]` maps token ids to their log-probability at position i, and
    `text_offsets[i]` counts the characters of text before that token, or before the character that it is a
    part of."""

    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[dict[int, Logprob]] | None = None
    cumulative_logprob: float | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    text_offsets: list[int] | None = None


@dataclass(slots=True)
class RequestOutput:
    """All completions of one prompt. `prompt_logprobs[i]` are those of its token i, as in
    `CompletionOutput.logprobs`; the first is None."""

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    finished: bool
    num_cached_tokens: int = 0
    prompt_logprobs: list[dict[int, Logprob] | None] | None = None


@dataclass(frozen=True, slots=True)
class EmbeddingOutput:
    """`embedding` holds hidden_size floats, of length 1 (L2) unless an encoder's folder has no Normalize."""

    request_id: str
    prompt_token_ids: list[int]
    embedding: list[float]


@dataclass(frozen=True, slots=True)
class ScoringOutput:
    """What a cross-encoder says of a pair; in [0, 1] where its activation is a sigmoid."""

    score: float


@dataclass(frozen=True, slots=True)
class ScoringRequestOutput:
    """`prompt_token_ids` are those of both texts together."""

    request_id: str
    prompt_token_ids: list[int]
    outputs: ScoringOutput
