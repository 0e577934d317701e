"""Scores of a cross-encoder. `POST /v1/score`, as vLLM has it, and `POST /v1/rerank`, as Jina and Cohere."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from octavo.server.openai.answers import json_answer
from octavo.server.openai.api_errors import invalid_value
from octavo.server.openai.embeddings import PooledUsage, usage_of
from octavo.server.openai.generation import Generator
from octavo.server.openai.pooled import PooledRequest, PooledText, PooledUse, pooled_rows
from octavo.server.openai.prompts import PromptBuilder

_MAX_DOCUMENTS = 2048
_NOT_IMPLEMENTED: dict[str, Sequence[Any]] = {
    **PooledRequest.not_implemented,
    "chat_template_kwargs": (None, {}),
    "instruction": (None,),
    "max_tokens_per_doc": (None, 0),
    "max_tokens_per_query": (None, 0),
}
Texts = Annotated[list[str], Field(min_length=1, max_length=_MAX_DOCUMENTS)]


class ScoreRequest(PooledRequest):
    """`text_1` is one for all of `text_2`, or one each."""

    not_implemented = _NOT_IMPLEMENTED

    model: str
    text_1: str | Texts
    text_2: str | Texts
    user: str | None = None


class Document(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    text: str


class RerankRequest(PooledRequest):
    """`return_documents` is true unless said otherwise, as Jina and vLLM have it."""

    not_implemented = _NOT_IMPLEMENTED

    model: str
    query: str
    documents: Annotated[list[str | Document], Field(min_length=1, max_length=_MAX_DOCUMENTS)]
    top_n: Annotated[int, Field(ge=1)] | None = None
    return_documents: bool | None = None
    user: str | None = None


class Score(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    object: str = "score"
    score: float


class ScoreList(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: str = "list"
    created: int
    model: str
    data: list[Score]
    usage: PooledUsage


class RankedDocument(msgspec.Struct, frozen=True):
    text: str


class Rank(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    relevance_score: float
    document: RankedDocument | msgspec.UnsetType = msgspec.UNSET


class RankList(msgspec.Struct, frozen=True, kw_only=True):
    """The best document first; equal ones in the order in which they came."""

    id: str
    model: str
    results: list[Rank]
    usage: PooledUsage


class Scorer:
    """Of one server."""

    def __init__(self, generator: Generator, prompts: PromptBuilder, use: PooledUse) -> None:
        self._generator = generator
        self._prompts = prompts
        self._use = use

    async def score(self, request: ScoreRequest, http_request: Request) -> Response:
        """Answers a validated request."""
        firsts, seconds = _listed(request.text_1), _listed(request.text_2)
        if len(firsts) == 1:
            firsts = firsts * len(seconds)
        if len(firsts) != len(seconds):
            raise invalid_value(
                "text_1",
                f"text_1 holds {len(firsts)} texts and text_2 {len(seconds)}; give one, or as many.",
            )
        name = f"score-{uuid.uuid4().hex}"
        pairs = list(zip(firsts, seconds, strict=True))
        scores, usage = await self._run(name, pairs, "text_2", request, http_request)
        return json_answer(
            ScoreList(
                id=name,
                created=int(time.time()),
                model=request.model,
                data=[Score(index=index, score=score) for index, score in enumerate(scores)],
                usage=usage,
            )
        )

    async def rerank(self, request: RerankRequest, http_request: Request) -> Response:
        """Answers a validated request."""
        documents = [one if isinstance(one, str) else one.text for one in request.documents]
        name = f"rerank-{uuid.uuid4().hex}"
        pairs = [(request.query, document) for document in documents]
        scores, usage = await self._run(name, pairs, "documents", request, http_request)
        order = sorted(range(len(scores)), key=lambda index: -scores[index])
        shows = request.return_documents is not False
        results = [
            Rank(
                index=index,
                relevance_score=scores[index],
                document=RankedDocument(documents[index]) if shows else msgspec.UNSET,
            )
            for index in order[: request.top_n]
        ]
        return json_answer(RankList(id=name, model=request.model, results=results, usage=usage))

    async def _run(
        self,
        name: str,
        pairs: list[tuple[str, str]],
        parameter: str,
        request: PooledRequest,
        http_request: Request,
    ) -> tuple[list[float], PooledUsage]:
        self._use.check_scores()
        truncation = request.truncation(self._prompts.max_model_len)
        found = await self._prompts.pairs(pairs, parameter, truncation)
        texts = [PooledText(*pair) for pair in found]
        rows = await pooled_rows(self._generator, name, texts, request, http_request)
        return [score for (score,) in rows], usage_of([text.token_ids for text in texts])


def _listed(texts: str | list[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else texts
