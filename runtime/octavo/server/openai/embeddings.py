"""Embeddings. `POST /v1/embeddings`."""

from __future__ import annotations

import base64
import functools
import math
import uuid
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from octavo.server.openai.answers import json_answer
from octavo.server.openai.api_errors import ApiError, invalid_value
from octavo.server.openai.generation import Generator
from octavo.server.openai.pooled import PooledRequest, PooledText, PooledUse, pooled_rows
from octavo.server.openai.prompts import PromptBuilder
from octavo.server.openai.protocol import ChatCompletionRequest

_NOT_IMPLEMENTED = {**PooledRequest.not_implemented, "chat_template": (None,)}
_OF_CHATS = ("add_generation_prompt", "continue_final_message", "chat_template_kwargs")
_IS_ONE = 1e-3
"""How far the length of a vector that was scaled to 1 may be from it, in 16 bits."""


class EmbeddingRequest(PooledRequest):
    """`input` is checked by hand: it may hold 100,000 token ids. In its place `messages` may stand, a chat
    that is embedded as the template writes it. `prompt_name` is sentence-transformers' and names one of the
    model's prompts. `embed_dtype` and `endianness` are those of base64. `user` is without effect."""

    not_implemented = _NOT_IMPLEMENTED

    model: str
    input: Any = None
    messages: list[Any] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    embed_dtype: Literal["float32", "float16", "bfloat16"] | None = None
    endianness: Literal["native", "little", "big"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    add_special_tokens: bool | None = None
    prompt_name: str | None = None
    user: str | None = None


class PooledUsage(msgspec.Struct, frozen=True):
    """Nothing is generated."""

    prompt_tokens: int
    total_tokens: int


class Embedding(msgspec.Struct, frozen=True, kw_only=True):
    """`embedding` is base64 where that was asked for, of float32, little-endian, unless told otherwise."""

    object: str = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingList(msgspec.Struct, frozen=True, kw_only=True):
    object: str = "list"
    data: list[Embedding]
    model: str
    usage: PooledUsage


async def embeddings(
    request: EmbeddingRequest,
    generator: Generator,
    prompts: PromptBuilder,
    use: PooledUse,
    http_request: Request,
) -> Response:
    """Answers a validated request."""
    use.check_embeds()
    if request.messages is None:
        texts = await _texts(request, prompts, use)
    else:
        texts = [await _chat(request, prompts)]
    rows = await pooled_rows(
        generator,
        f"embd-{uuid.uuid4().hex}",
        [PooledText(token_ids) for token_ids in texts],
        request,
        http_request,
        adapter_id=generator.adapters.id_of(request.model),
    )
    shown = [_shown(row, request, use.texts.truncate_dim) for row in rows]
    answer = EmbeddingList(
        data=[Embedding(index=index, embedding=row) for index, row in enumerate(shown)],
        model=request.model,
        usage=usage_of(texts),
    )
    return json_answer(answer)


async def _texts(
    request: EmbeddingRequest, prompts: PromptBuilder, use: PooledUse
) -> list[list[int]]:
    for name in _OF_CHATS:
        if getattr(request, name) is not None:
            raise invalid_value(name, f"{name} is only allowed together with messages.")
    if "input" not in request.model_fields_set:
        message = "Missing required parameter: input. Give it, or messages."
        raise ApiError(400, message, param="input", code="missing_required_parameter")
    before = use.texts.prompt(request.prompt_name)
    return await prompts.pooled(
        request.input,
        "input",
        add_special_tokens=request.add_special_tokens is not False,
        prepared=functools.partial(use.texts.prepared, prompt=before),
        truncation=request.truncation(prompts.max_model_len),
    )


async def _chat(request: EmbeddingRequest, prompts: PromptBuilder) -> list[int]:
    """Of the whole conversation, which nobody answers."""
    for name in ("input", "prompt_name"):
        if getattr(request, name) is not None:
            raise invalid_value(name, f"{name} is not allowed together with messages; give one.")
    asked = {name: getattr(request, name) for name in (*_OF_CHATS, "add_special_tokens")}
    chat = ChatCompletionRequest.parse(
        {
            "model": request.model,
            "messages": request.messages,
            "add_generation_prompt": False,
            **{name: value for name, value in asked.items() if value is not None},
        }
    )
    prompt = await prompts.chat(chat, None, instead="give input in place of messages")
    truncation = request.truncation(prompts.max_model_len)
    ids = prompt.token_ids if truncation is None else truncation.ids(prompt.token_ids)
    (fitting,) = await prompts.pooled(
        [ids], "messages", add_special_tokens=False, prepared=str, truncation=None
    )
    return fitting


def usage_of(texts: list[list[int]]) -> PooledUsage:
    count = sum(map(len, texts))
    return PooledUsage(count, count)


def _shown(row: list[float], request: EmbeddingRequest, width: int | None) -> list[float] | str:
    """`width`: Numbers of a vector where the request says none; None: all."""
    row = row[:width] if request.dimensions is None else shortened(row, request.dimensions)
    if request.encoding_format == "base64":
        return base64.b64encode(_bytes_of(row, request)).decode()
    return row


def _bytes_of(row: list[float], request: EmbeddingRequest) -> bytes:
    numbers = np.array(row, dtype=np.float32)
    if request.embed_dtype == "float16":
        numbers = numbers.astype(np.float16)
    elif request.embed_dtype == "bfloat16":
        words = numbers.view(np.uint32)
        # To the nearest, and to the even one of two.
        numbers = ((words + 0x7FFF + (words >> 16 & 1)) >> 16).astype(np.uint16)
    is_big = request.endianness == "big"
    return numbers.astype(numbers.dtype.newbyteorder(">" if is_big else "<")).tobytes()


def shortened(row: list[float], dimensions: int) -> list[float]:
    """The first of its numbers, of length 1 again if the whole was (Matryoshka representations, Kusupati et
    al., 2022). Raises `ApiError` when there are not so many."""
    if dimensions > len(row):
        raise invalid_value(
            "dimensions",
            f"dimensions is {dimensions}; the model's embeddings have {len(row)}.",
        )
    if dimensions == len(row):
        return row
    cut = row[:dimensions]
    length = math.hypot(*cut)
    if abs(math.hypot(*row) - 1.0) > _IS_ONE or length == 0.0:
        return cut
    return [number / length for number in cut]
