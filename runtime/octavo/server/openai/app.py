"""Routes. The HTTP port's routes: OpenAI's API, on FastAPI for routing.

Bodies are read, decoded and validated by hand, because limits and error objects are ours, and answers
are bytes that msgspec made: FastAPI serialises nothing here.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from octavo import __version__
from octavo.errors import OctavoError
from octavo.generation_config import SamplingDefaults
from octavo.no_head import no_head
from octavo.server.anthropic.errors import error_body
from octavo.server.anthropic.request import CountTokensRequest, MessagesRequest
from octavo.server.anthropic.route import count_tokens, create_message
from octavo.server.http.body import ClientDisconnectedError, decode_object, read_body
from octavo.server.http.key_use import current_limits
from octavo.server.http.page import Page
from octavo.server.openai.answers import ModelCard, ModelList, json_answer
from octavo.server.openai.api_errors import (
    ApiError,
    from_octavo_error,
    internal_error,
    invalid_value,
    model_not_allowed,
    model_not_found,
)
from octavo.server.openai.chat import chat_completion
from octavo.server.openai.completions import completion
from octavo.server.openai.description import openapi_document
from octavo.server.openai.elsewhere import elsewhere
from octavo.server.openai.embeddings import EmbeddingRequest, embeddings
from octavo.server.openai.generation import Generator
from octavo.server.openai.load import Load
from octavo.server.openai.pooled import EMBED_ROUTES, SCORE_ROUTES, PooledUse
from octavo.server.openai.prompts import PromptBuilder
from octavo.server.openai.protocol import (
    ChatCompletionRequest,
    CompletionRequest,
    GenerationRequest,
    validated,
)
from octavo.server.openai.responses_api.request import ResponsesRequest
from octavo.server.openai.responses_api.route import count_input_tokens, create_response
from octavo.server.openai.scores import RerankRequest, Scorer, ScoreRequest
from octavo.server.openai.tokenize import (
    DetokenizeRequest,
    detokenized,
    pop_tells_texts,
    tokenized,
)
from octavo.server.process.exposition import METRICS_TYPE
from octavo.server.process.request_metrics import RequestMetrics

_MIN_BODY_LIMIT_BYTES = 4 * 1024 * 1024
_BODY_BYTES_PER_TOKEN = 16

_TEXT = "/v1/completions"
_CHATS = frozenset(
    {
        *("/v1/chat/completions", "/v1/responses", "/v1/messages"),
        *("/v1/responses/input_tokens", "/v1/messages/count_tokens"),
    }
)
_POOLED = frozenset({*EMBED_ROUTES, *SCORE_ROUTES})

R = TypeVar("R", bound=GenerationRequest)


def default_body_limit(max_model_len: int) -> int:
    """Bytes: room for a prompt as long as the context, escaped and with its history's JSON."""
    return max(_MIN_BODY_LIMIT_BYTES, _BODY_BYTES_PER_TOKEN * max_model_len)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What the routes answer from; `defaults` are for what a request leaves out."""

    names: Sequence[str]
    root: str
    max_model_len: int
    can_generate: bool
    max_body_bytes: int
    generator: Generator
    prompts: PromptBuilder
    defaults: SamplingDefaults
    pooled_use: PooledUse
    read_load: Callable[[], Awaitable[Load]]
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def all_names(self) -> list[str]:
        """The model's and its adapters'."""
        return [*self.names, *self.generator.adapters.names]

    def card(self, name: str) -> ModelCard:
        adapter = self.generator.adapters.find(name)
        if adapter is None:
            return ModelCard(
                id=name, created=self.created, root=self.root, max_model_len=self.max_model_len
            )
        return ModelCard(
            id=name,
            created=adapter.created,
            root=adapter.path,
            parent=adapter.parent or self.names[0],
            max_model_len=self.max_model_len,
        )

    def check(self, name: str) -> None:
        """Raises `ApiError` (403, 404) where a client may not have it."""
        limits = current_limits()
        if name not in self.all_names:
            raise model_not_found(name, [each for each in self.all_names if limits.allows(each)])
        if not limits.allows(name):
            raise model_not_allowed(name)

    def check_generation(self, name: str) -> None:
        """Raises `InvalidParameterError` too, where there is nothing to generate with: before anything is
        said of a chat template or of lengths, which would not help."""
        self.check(name)
        if not self.can_generate:
            raise no_head(*self.pooled_use.routes)

    def refuses(self, path: str) -> bool:
        """Whatever it is asked there."""
        if path in _POOLED:
            return path not in self.pooled_use.routes
        is_chat, is_text = path in _CHATS, path == _TEXT
        return (is_chat or is_text) and not (
            self.can_generate and (is_text or self.prompts.has_chat)
        )


def build_app(
    model: ServedModel,
    metrics: RequestMetrics,
    page: Page | None = None,
    *,
    exposition: Callable[[], Awaitable[bytes]] | None = None,
    tokenizer_info: Mapping[str, Any] | None = None,
) -> FastAPI:
    """The app without the middleware around it.

    Args:
        exposition: Metrics as strangers may see them; None tells none.
        tokenizer_info: The tokenizer's settings; None tells nobody.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    _add_error_handlers(app, metrics, lambda path: model.refuses(path))
    _add_generation_routes(app, model)
    _add_message_routes(app, model)
    _add_pooled_routes(app, model)
    _add_token_routes(app, model)
    _add_model_routes(app, model)

    @app.get("/load")
    async def load() -> Response:
        return json_answer(await model.read_load())

    optional = []
    if page is not None:
        optional.append("/")

        @app.get("/")
        async def show_page() -> Response:
            return Response(page.document, media_type="text/html", headers=dict(page.headers))

    if exposition is not None:
        optional.append("/metrics")

        @app.get("/metrics")
        async def show_metrics() -> Response:
            return Response(await exposition(), headers={"Content-Type": METRICS_TYPE})

    if tokenizer_info is not None:
        optional.append("/tokenizer_info")

        @app.get("/tokenizer_info")
        async def show_tokenizer() -> Response:
            return json_answer(tokenizer_info)

    @app.get("/openapi.json")
    async def description() -> Response:
        return json_answer(openapi_document(optional=optional))

    @app.get("/health")
    async def health() -> Response:
        return Response(status_code=200)

    @app.get("/version")
    async def version() -> Response:
        return json_answer({"version": __version__})

    return app


def _add_generation_routes(app: FastAPI, model: ServedModel) -> None:
    @app.post("/v1/chat/completions")
    async def chat_completions(http_request: Request) -> Response:
        request = await _parse(http_request, ChatCompletionRequest, model)
        return await chat_completion(
            request, model.generator, model.prompts, model.defaults, http_request
        )

    @app.post("/v1/completions")
    async def completions(http_request: Request) -> Response:
        request = await _parse(http_request, CompletionRequest, model)
        return await completion(
            request, model.generator, model.prompts, model.defaults, http_request
        )

    @app.post("/v1/responses")
    async def responses(http_request: Request) -> Response:
        request = ResponsesRequest.parse(await _read(http_request, model))
        model.check_generation(request.model)
        return await create_response(
            request, model.generator, model.prompts, model.defaults, http_request
        )

    @app.post("/v1/responses/input_tokens")
    async def tokens_of_response(http_request: Request) -> Response:
        request = ResponsesRequest.parse(await _read(http_request, model))
        model.check_generation(request.model)
        return await count_input_tokens(request, model.prompts)


def _add_message_routes(app: FastAPI, model: ServedModel) -> None:
    @app.post("/v1/messages")
    async def messages(http_request: Request) -> Response:
        request = MessagesRequest.parse(await _read(http_request, model))
        model.check_generation(request.model)
        return await create_message(
            request, model.generator, model.prompts, model.defaults, http_request
        )

    @app.post("/v1/messages/count_tokens")
    async def tokens_of_messages(http_request: Request) -> Response:
        request = CountTokensRequest.parse(await _read(http_request, model))
        model.check_generation(request.model)
        return await count_tokens(request, model.prompts)


def _add_pooled_routes(app: FastAPI, model: ServedModel) -> None:
    def scorer() -> Scorer:
        return Scorer(model.generator, model.prompts, model.pooled_use)

    @app.post("/v1/embeddings")
    async def embed(http_request: Request) -> Response:
        request = EmbeddingRequest.parse(await _read(http_request, model))
        model.check(request.model)
        return await embeddings(
            request, model.generator, model.prompts, model.pooled_use, http_request
        )

    @app.post("/v1/score")
    async def score(http_request: Request) -> Response:
        request = ScoreRequest.parse(await _read(http_request, model))
        model.check(request.model)
        return await scorer().score(request, http_request)

    @app.post("/v1/rerank")
    async def rerank(http_request: Request) -> Response:
        request = RerankRequest.parse(await _read(http_request, model))
        model.check(request.model)
        return await scorer().rerank(request, http_request)

    # Where vLLM's and Cohere's clients look for them too.
    for path, route in (("/score", score), ("/rerank", rerank), ("/v2/rerank", rerank)):
        app.post(path)(route)


def _add_token_routes(app: FastAPI, model: ServedModel) -> None:
    @app.post("/tokenize")
    async def tokenize(http_request: Request) -> Response:
        document = await _read(http_request, model)
        tells_texts = pop_tells_texts(document)
        if None not in (document.get("messages"), document.get("prompt")):
            raise invalid_value(
                "prompt",
                "prompt is given beside messages: one is the prompt of a completion, the others that of a "
                "chat. Send one of the two.",
            )
        kind = ChatCompletionRequest if "messages" in document else CompletionRequest
        request = kind.parse(document)
        model.check(request.model)
        return json_answer(await tokenized(request, model.prompts, tells_texts=tells_texts))

    @app.post("/detokenize")
    async def detokenize(http_request: Request) -> Response:
        request = validated(DetokenizeRequest, await _read(http_request, model))
        model.check(request.model)
        return json_answer(await detokenized(request, model.prompts))


def _add_model_routes(app: FastAPI, model: ServedModel) -> None:
    @app.get("/v1/models")
    async def list_models() -> Response:
        return json_answer(
            ModelList(
                data=[model.card(name) for name in model.all_names if current_limits().allows(name)]
            )
        )

    @app.get("/v1/models/{name:path}")
    async def show_model(name: str) -> Response:
        model.check(name)
        return json_answer(model.card(name))


async def _parse(http_request: Request, kind: type[R], model: ServedModel) -> R:
    request = kind.parse(await _read(http_request, model))
    model.check_generation(request.model)
    return request


async def _read(http_request: Request, model: ServedModel) -> dict[str, object]:
    return decode_object(
        await read_body(http_request.scope, http_request.receive, model.max_body_bytes)
    )


def _add_error_handlers(
    app: FastAPI, metrics: RequestMetrics, refuses: Callable[[str], bool]
) -> None:
    """Every exception becomes an error object here; the gateway logs those that are ours."""

    def render(request: Request, error: ApiError) -> Response:
        metrics.count_rejected(error.detail.code or "other")
        body = error_body(error, request.url.path, request.scope.get("request_id"))
        return Response(body, error.status, error.headers, "application/json")

    @app.exception_handler(ApiError)
    async def on_api_error(request: Request, error: ApiError) -> Response:
        return render(request, error)

    @app.exception_handler(OctavoError)
    async def on_octavo_error(request: Request, error: OctavoError) -> Response:
        return render(request, from_octavo_error(error))

    @app.exception_handler(HTTPException)
    async def on_http_exception(request: Request, error: HTTPException) -> Response:
        return render(request, _from_http_exception(request, error, refuses))

    @app.exception_handler(ClientDisconnectedError)
    async def on_disconnect(_: Request, __: ClientDisconnectedError) -> Response:
        return Response(status_code=499)  # nobody reads it

    @app.exception_handler(Exception)
    async def on_exception(request: Request, _: Exception) -> Response:
        return render(request, internal_error(request.scope.get("request_id")))


def _from_http_exception(
    request: Request, error: HTTPException, refuses: Callable[[str], bool]
) -> ApiError:
    where = f"{request.method} {request.url.path[:200]}"
    headers = dict(error.headers or {})
    if error.status_code == 404:
        known = {route.path for route in request.app.routes}
        hint = elsewhere(request.url.path, known, refuses)
        return ApiError(404, f"Unknown request URL: {where}.{hint}", code="unknown_url")
    if error.status_code == 405:
        message = f"Not allowed to {request.method} on {request.url.path[:200]}."
        if "GET" in (taken := headers.get("Allow", "").split(", ")) and "HEAD" not in taken:
            headers["Allow"] = ", ".join([*taken, "HEAD"])
        return ApiError(405, message, code="method_not_supported", headers=headers)
    return ApiError(error.status_code, str(error.detail), headers=headers)
