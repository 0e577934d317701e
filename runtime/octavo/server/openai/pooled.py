"""Pooled requests. Runs texts for their vectors or scores on the engine, beside what generates.

Leaving a `PooledRun` early aborts what still runs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, ClassVar, Literal, Self

import structlog
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from octavo.engine.messages import AddRequest, EngineInfo
from octavo.engine.requests.request_stream import RequestStream
from octavo.errors import ModelUnsupportedError, QueueFullError
from octavo.loading.pooling import check_last_token
from octavo.loading.text_options import TextOptions, read_text_options
from octavo.sampling_params import SamplingParams
from octavo.server.http.key_use import charge, current_limits, current_tenant, current_use
from octavo.server.http.streaming import running
from octavo.server.openai.api_errors import ApiError, invalid_value
from octavo.server.openai.engine_failures import engine_failure
from octavo.server.openai.generation import Generator
from octavo.server.openai.protocol import KeptTokens, check_extra, validated
from octavo.tokenizer import Side, Truncation

log = structlog.get_logger("octavo.server")

_AT_ONCE = 32
"""Texts of one request that the engine has at a time, so that others come in between."""
_NO_TOKEN_KEPT = SamplingParams(temperature=0.0, max_tokens=1)


# Known of vLLM's, not implemented: the values that ask for nothing are let through.
_NOT_IMPLEMENTED: dict[str, tuple[Any, ...]] = {
    "media_io_kwargs": (None, {}),
    "mm_processor_kwargs": (None, {}),
    "padding": (None, "do_not_pad"),
    "use_activation": (None,),
}


class PooledRequest(BaseModel):
    """vLLM's fields of requests whose texts are pooled, and may be cut; `request_id` is without effect."""

    model_config = ConfigDict(strict=True, extra="allow")
    not_implemented: ClassVar[Mapping[str, Sequence[Any]]] = _NOT_IMPLEMENTED

    priority: Annotated[int, Field(ge=-(2**31), lt=2**31)] | None = None
    cache_salt: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    truncate_prompt_tokens: KeptTokens | None = None
    truncation_side: Literal["left", "right"] | None = None
    request_id: str | None = None

    @classmethod
    def parse(cls, document: object) -> Self:
        """Raises `ApiError` (400) that names the field."""
        request = validated(cls, document)
        for name, value in (request.model_extra or {}).items():
            check_extra(name, value, cls.not_implemented)
        return request

    def truncation(self, max_model_len: int) -> Truncation | None:
        """None cuts nothing. Raises `ApiError` (400) for more than the model holds."""
        most = self.truncate_prompt_tokens
        if most is None:
            return None
        if most > max_model_len:
            name = "truncate_prompt_tokens"
            message = (
                f"{name} is {most}, and the model holds {max_model_len}. Ask for less, or for -1."
            )
            raise invalid_value(name, message)
        side = Side(self.truncation_side or Side.RIGHT)
        return Truncation(max_model_len if most < 0 else most, side)


@dataclass(frozen=True, slots=True)
class PooledText:
    """`second_segment`: where the second text of a pair begins, for models that tell the two apart."""

    token_ids: list[int]
    second_segment: int | None = None


EMBED_ROUTES = ("/v1/embeddings",)
SCORE_ROUTES = ("/v1/score", "/v1/rerank")


@dataclass(frozen=True, slots=True)
class PooledUse:
    """What a model is good for beside generating.

    Args:
        no_embedding: Why it gives no embeddings; None where it does.
        gives_scores: It scores pairs of texts.
        texts: How its texts are prepared.
    """

    no_embedding: str | None
    gives_scores: bool
    texts: TextOptions = field(default_factory=TextOptions)

    @property
    def routes(self) -> tuple[str, ...]:
        """Those that answer."""
        embeds = EMBED_ROUTES if self.no_embedding is None else ()
        return embeds + (SCORE_ROUTES if self.gives_scores else ())

    def check_embeds(self) -> None:
        """Raises `ApiError` (400)."""
        if self.no_embedding is not None:
            raise invalid_value("model", self.no_embedding, code="model_not_supported")

    def check_scores(self) -> None:
        """Raises `ApiError` (400)."""
        if not self.gives_scores:
            instead = ", or compare embeddings" if self.no_embedding is None else ""
            raise invalid_value(
                "model",
                "The model does not score pairs: its architecture is none that ends in "
                f"ForSequenceClassification. Serve a cross-encoder{instead}.",
                code="model_not_supported",
            )


def read_pooled_use(folder: Path, info: EngineInfo) -> PooledUse:
    """Raises `ModelInvalidError` for a damaged file."""
    if info.gives_scores:
        return PooledUse(
            f"The model scores pairs and gives no embeddings. Use {' or '.join(SCORE_ROUTES)}, or serve a "
            "model that was trained to embed.",
            gives_scores=True,
        )
    if not info.runs_whole_prompts:
        try:
            check_last_token(folder)
        except ModelUnsupportedError as error:
            return PooledUse(str(error), gives_scores=False)
    return PooledUse(None, gives_scores=False, texts=read_text_options(folder))


class PooledRun:
    """The texts of one HTTP request. To be entered with `async with`, within `running`."""

    def __init__(
        self,
        generator: Generator,
        name: str,
        request_id: str,
        texts: Sequence[PooledText],
        request: PooledRequest,
        adapter_id: int = 0,
    ) -> None:
        self._adapter_id = adapter_id
        self._request = request
        self._generator = generator
        self._name = name
        self._request_id = request_id
        self._texts = texts
        self._arrival = time.time()
        self._admitted = min(len(texts), _AT_ONCE)
        self._streams: list[RequestStream] = []
        self._num_done = 0
        self.is_cancelled = False
        self._cause: ApiError | None = None
        self._key_use = current_use()
        self._tenant = current_tenant()

    async def __aenter__(self) -> Self:
        generator = self._generator
        self._ticket = generator.gate.admit(self._admitted, self._tenant)
        generator.num_active += 1
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        generator = self._generator
        self._close_streams()
        generator.num_active -= 1
        generator.gate.release(self._ticket)
        if isinstance(error, QueueFullError):  # it never began
            return
        left = len(self._texts) - self._num_done
        for _ in range(left):
            generator.metrics.count_finished("abort" if error is None else "error")
        seconds = time.time() - self._arrival
        generator.metrics.request_duration.observe(seconds)
        num_tokens = sum(len(text.token_ids) for text in self._texts)
        key = charge(self._key_use, num_tokens, generator.metrics)
        log.info(
            "pooled",
            request_id=self._request_id,
            **key,
            texts=len(self._texts),
            prompt_tokens=num_tokens,
            unfinished=left,
            seconds=round(seconds, 4),
        )

    def cancel(self, cause: ApiError | None = None) -> None:
        """The client hung up, or its time is over."""
        self.is_cancelled = cause is None
        self._cause = cause
        self._close_streams()

    async def rows(self) -> list[list[float]]:
        """The vector of each text, in order; fewer once it was cancelled.

        Raises:
            ApiError: The engine failed on it, or its time is over.
            InvalidParameterError: The engine refused one.
            EngineDeadError: The engine process ended.
        """
        found: list[list[float]] = []
        for start in range(0, len(self._texts), _AT_ONCE):
            self._streams = []  # the ones before have ended
            for number in range(start, min(start + _AT_ONCE, len(self._texts))):
                self._streams.append(await self._add(number, self._texts[number]))
            for stream in self._streams:
                is_over = self.is_cancelled or self._cause is not None
                outputs = [] if is_over else await stream.get()
                if self._cause is not None:
                    raise self._cause
                if self.is_cancelled:
                    return found
                row = outputs[-1].embedding
                if row is None:
                    raise engine_failure(outputs[-1], self._request_id)
                found.append(row)
                self._num_done += 1
                self._generator.metrics.count_finished("stop")
                self._generator.gate.count_finished()
        return found

    async def _add(self, number: int, text: PooledText) -> RequestStream:
        limits = current_limits()
        return await self._generator.client.add(
            AddRequest(
                f"{self._name}-{number}",
                text.token_ids,
                _NO_TOKEN_KEPT,
                priority=limits.priority_of(self._request.priority or 0),
                is_pooled=True,
                cache_salt=limits.salt_of(self._request.cache_salt),
                second_segment=text.second_segment,
                tenant=self._tenant,
                adapter_id=self._adapter_id,
                ticket=self._ticket.number,
                ticket_sequences=self._ticket.num_sequences,
            )
        )

    def _close_streams(self) -> None:
        for stream in self._streams:
            stream.close()


async def pooled_rows(
    generator: Generator,
    name: str,
    texts: Sequence[PooledText],
    request: PooledRequest,
    http_request: Request,
    *,
    adapter_id: int = 0,
) -> list[list[float]]:
    """The vector of each text. Raises as `PooledRun.rows`, and `ClientDisconnectedError`."""
    run = PooledRun(generator, name, http_request.scope["request_id"], texts, request, adapter_id)
    scope = http_request.scope
    async with running(run, http_request.receive, scope.get("deadline")):
        return await run.rows()
