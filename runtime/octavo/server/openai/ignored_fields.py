"""Ignored fields: what OpenAI's clients send for billing, abuse tracing, storage and routing.

They change no token here. Their types are checked all the same, so that a client's mistake shows before it
is sent to somebody who reads them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class PromptCacheOptions(BaseModel):
    """Of completions; responses have more."""

    model_config = ConfigDict(strict=True, extra="forbid")

    mode: Literal["implicit", "explicit"] | None = None
    ttl: Literal["30m"] | None = None


class PromptCacheBreakpoint(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    mode: Literal["explicit"]
    ttl: Literal["30m", "12h"] | None = None


class PredictedText(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    type: Literal["text"]
    text: str
    prompt_cache_breakpoint: PromptCacheBreakpoint | None = None


class Prediction(BaseModel):
    """What a client expects to be answered, of a chat alone: on OpenAI's side it saves time."""

    model_config = ConfigDict(strict=True, extra="forbid")

    type: Literal["content"]
    content: str | list[PredictedText]


class IgnoredFields(BaseModel):
    """Of both kinds of completions and of responses; `request_id` and `session_id` are vLLM's."""

    metadata: dict[str, str] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = None
    request_id: str | None = None
    safety_identifier: str | None = None
    session_id: str | None = None
    store: bool | None = None
    user: str | None = None
