"""Embeddings. `POST /v1/embeddings`."""

from __future__ import annotations

import base64
import functools
import math
import uuid
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from pydantic import ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from octavo.server.openai.answers import json_answer
from octavo.server.openai.api_errors import invalid_value
from octavo.server.openai.generation import Generator
from octavo.server.openai.pooled import PooledText, PooledUse, ShortenedTexts, pooled_rows
from octavo.server.openai.prompts import PromptBuilder

_IS_ONE = 1e-3
"""How far the length of a vector that was scaled to 1 may be from it, in 16 bits."""


class EmbeddingRequest(ShortenedTexts):
    """`input` is checked by hand: it may hold 100,000 token ids. `prompt_name` is sentence-transformers' and
    names one of the model's prompts. `user` is without effect."""

    model_config = ConfigDict(strict=True, extra="forbid")

    model: str
    input: Any
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    add_special_tokens: bool | None = None
    prompt_name: str | None = None
    user: str | None = None


class PooledUsage(msgspec.Struct, frozen=True):
    """Nothing is generated."""

    prompt_tokens: int
    total_tokens: int


class Embedding(msgspec.Struct, frozen=True, kw_only=True):
    """`embedding` is the base64 of float32, little-endian, where that was asked for."""

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
    before = use.texts.prompt(request.prompt_name)
    texts = await prompts.pooled(
        request.input,
        "input",
        add_special_tokens=request.add_special_tokens is not False,
        prepared=functools.partial(use.texts.prepared, prompt=before),
        truncation=request.truncation(prompts.max_model_len),
    )
    rows = await pooled_rows(
        generator,
        f"embd-{uuid.uuid4().hex}",
        [PooledText(token_ids) for token_ids in texts],
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


def usage_of(texts: list[list[int]]) -> PooledUsage:
    count = sum(map(len, texts))
    return PooledUsage(count, count)


def _shown(row: list[float], request: EmbeddingRequest, width: int | None) -> list[float] | str:
    """`width`: Numbers of a vector where the request says none; None: all."""
    row = row[:width] if request.dimensions is None else shortened(row, request.dimensions)
    if request.encoding_format == "base64":
        return base64.b64encode(np.array(row, dtype="<f4").tobytes()).decode()
    return row


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
