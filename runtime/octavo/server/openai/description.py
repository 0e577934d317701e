"""OpenAPI document of the API, `/openapi.json`: what client generators and validators read.

Written out, because the routes read and answer bytes: FastAPI knows neither their bodies nor their errors.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from octavo import __version__
from octavo.server.anthropic.errors import MessageError
from octavo.server.anthropic.objects import MessageOut, TokensCount
from octavo.server.anthropic.request import CountTokensRequest, MessagesRequest
from octavo.server.openai.answers import ChatCompletion, Completion, ModelCard, ModelList
from octavo.server.openai.api_errors import ErrorBody
from octavo.server.openai.embeddings import EmbeddingList, EmbeddingRequest
from octavo.server.openai.load import Load
from octavo.server.openai.protocol import ChatCompletionRequest, CompletionRequest
from octavo.server.openai.responses_api.objects import InputTokens, ResponseObject
from octavo.server.openai.responses_api.request import ResponsesRequest
from octavo.server.openai.scores import RankList, RerankRequest, ScoreList, ScoreRequest
from octavo.server.openai.tokenize import DetokenizeRequest, Text, Tokens

_REF = "#/components/schemas/{name}"
_REQUESTS: tuple[type[BaseModel], ...] = (
    ChatCompletionRequest,
    CompletionRequest,
    CountTokensRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    MessagesRequest,
    RerankRequest,
    ResponsesRequest,
    ScoreRequest,
)
_ANSWERS = (
    ChatCompletion,
    Completion,
    MessageError,
    MessageOut,
    ModelCard,
    ModelList,
    EmbeddingList,
    RankList,
    ResponseObject,
    ScoreList,
    Load,
    Tokens,
    Text,
    TokensCount,
    InputTokens,
    ErrorBody,
)
_ERRORS = {
    "400": "The request is wrong; `param` names the field.",
    "401": "The API key is missing or wrong.",
    "403": "The page's origin is not among `--allowed-origins`, the host's name not among "
    "`--allowed-hosts`, or the key may not use the model.",
    "404": "There is no such model.",
    "408": "The request's deadline has passed.",
    "413": "The body is larger than this server takes.",
    "415": "The body is compressed.",
    "429": "The queue is full, or the key's limit reached; `Retry-After` says when to come again.",
    "500": "The server or its engine failed on the request.",
    "501": "The body has a transfer coding other than chunked.",
    "503": "The model is loading, or the server is shutting down.",
}
_ALWAYS = ("400", "401", "403", "503")
_OF_A_BODY = (*_ALWAYS, "404", "413", "415", "429", "500", "501")
_OF_A_RUN = (*_OF_A_BODY, "408")
_HEADERS = {"401": "WWW-Authenticate", "429": "Retry-After", "503": "Retry-After"}
_OBJECT = {"type": "object"}
_DEADLINE = {
    "name": "X-Request-Timeout",
    "in": "header",
    "description": "Seconds after which the answer is of no more use.",
    "schema": {"type": "number", "exclusiveMinimum": 0},
}


_SECURITY_SCHEMES = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "One of the server's keys, where it has some (`--api-key`).",
    },
    "x-api-key": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Api-Key",
        "description": "The same, as Anthropic's clients send it.",
    },
}


def openapi_document(*, optional: Collection[str] = ()) -> dict[str, Any]:
    """OpenAPI 3.1; every operation with its answers, its errors and whether it wants a key.

    Args:
        optional: Paths of those that a server may have beside the others, as this one does.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Octavo",
            "version": __version__,
            "description": "OpenAI's API for one model.",
        },
        "paths": {
            **{path: _optional()[path] for path in optional},
            **_generations(),
            **_counts(),
            **_pools(),
            **_models(),
            **_open_to_all(),
            "/load": {"get": _operation("load", "What runs, waits and is held now.", "Load")},
            "/openapi.json": {"get": _operation("describe", "This document.", _json(_OBJECT))},
        },
        "components": {
            "schemas": _schemas(),
            "securitySchemes": _SECURITY_SCHEMES,
            "headers": {
                name: {"description": text, "schema": {"type": kind}}
                for name, text, kind in (
                    ("Retry-After", "Seconds.", "integer"),
                    ("WWW-Authenticate", "The scheme of keys.", "string"),
                )
            },
        },
    }


def _generations() -> dict[str, Any]:
    """What runs the model for tokens."""
    message = _generation("createMessage", "Answers a conversation.", MessageOut, MessagesRequest)
    return {
        "/v1/chat/completions": {
            "post": _generation(
                "createChatCompletion",
                "Completes a conversation.",
                ChatCompletion,
                ChatCompletionRequest,
            )
        },
        "/v1/completions": {
            "post": _generation(
                "createCompletion", "Completes texts.", Completion, CompletionRequest
            )
        },
        "/v1/responses": {
            "post": _generation(
                "createResponse",
                "Answers a conversation of items.",
                ResponseObject,
                ResponsesRequest,
            )
        },
        "/v1/messages": {"post": _of_messages(message)},
    }


def _counts() -> dict[str, Any]:
    """What reads a prompt without running it."""
    counted = _reading(
        "countMessageTokens",
        "Counts the prompt of a conversation.",
        TokensCount,
        CountTokensRequest,
    )
    return {
        "/v1/responses/input_tokens": {
            "post": _reading(
                "countResponseInputTokens",
                "Counts the prompt of a response.",
                InputTokens,
                ResponsesRequest,
            )
        },
        "/v1/messages/count_tokens": {"post": _of_messages(counted)},
        "/tokenize": {
            "post": _reading(
                "tokenize",
                "The prompt that a request would make, as token ids.",
                Tokens,
                CompletionRequest,
                ChatCompletionRequest,
            )
        },
        "/detokenize": {
            "post": _reading("detokenize", "The text of token ids.", Text, DetokenizeRequest)
        },
    }


def _pools() -> dict[str, Any]:
    """What runs the model for vectors and scores."""
    scores = (("/v1/score", "createScore"), ("/score", "score"))
    ranks = (
        ("/v1/rerank", "createRerank"),
        ("/v2/rerank", "createRerankV2"),
        ("/rerank", "rerank"),
    )
    return {
        "/v1/embeddings": {"post": _pooled("createEmbedding", "Embeds texts.", "Embedding")},
        **{
            path: {"post": _pooled(name, "Scores pairs of texts.", "Score")}
            for path, name in scores
        },
        **{
            path: {"post": _pooled(name, "Sorts documents by a query.", "Rerank", "RankList")}
            for path, name in ranks
        },
    }


def _models() -> dict[str, Any]:
    name = {
        "name": "name",
        "in": "path",
        "required": True,
        "description": "It may hold slashes.",
        "schema": {"type": "string"},
    }
    one = _operation("retrieveModel", "One of them.", "ModelCard", errors=(*_ALWAYS, "404"))
    return {
        "/v1/models": {"get": _operation("listModels", "The served names.", "ModelList")},
        "/v1/models/{name}": {"get": one | {"parameters": [_DEADLINE, name]}},
    }


def _open_to_all() -> dict[str, Any]:
    version = {
        "type": "object",
        "properties": {"version": {"type": "string"}},
        "required": ["version"],
    }
    told = {"description": "Octavo's version.", "content": _json(version)}
    return {
        "/health": {"get": _open("health", {"description": "The server answers."})},
        "/version": {"get": _open("version", told)},
    }


def _schemas() -> dict[str, Any]:
    _, requests = models_json_schema(
        [(kind, "validation") for kind in _REQUESTS],
        ref_template=_REF.replace("{name}", "{model}"),
    )
    _, answers = msgspec.json.schema_components(_ANSWERS, ref_template=_REF)
    return {**requests["$defs"], **answers}


def _generation(
    operation_id: str, summary: str, answer: type, body: type[BaseModel]
) -> dict[str, Any]:
    operation = _operation(
        operation_id,
        summary,
        answer.__name__,
        body=(body.__name__,),
        errors=_OF_A_RUN,
    )
    # With `stream: true`.
    operation["responses"]["200"]["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    return operation


def _reading(
    operation_id: str, summary: str, answer: type, *bodies: type[BaseModel]
) -> dict[str, Any]:
    return _operation(
        operation_id,
        summary,
        answer.__name__,
        body=tuple(body.__name__ for body in bodies),
        errors=_OF_A_BODY,
    )


def _of_messages(operation: dict[str, Any]) -> dict[str, Any]:
    """Its errors have another shape."""
    for status, answer in operation["responses"].items():
        if status != "200":
            answer["content"] = _json(_reference(MessageError.__name__))
    return operation


def _pooled(operation_id: str, summary: str, kind: str, answer: str = "") -> dict[str, Any]:
    return _operation(
        operation_id,
        summary,
        answer or f"{kind}List",
        body=(f"{kind}Request",),
        errors=_OF_A_RUN,
    )


def _optional() -> dict[str, dict[str, Any]]:
    """The page, the metrics and the tokenizer's settings."""
    html = {"text/html": {"schema": {"type": "string"}}}
    page = _operation("showPage", "A page to talk to the model.", html)
    page["responses"]["401"]["content"] = html  # asks for the key
    text = {"text/plain": {"schema": {"type": "string"}}}
    metrics = _open("metrics", {"description": "As Prometheus reads them.", "content": text})
    return {
        "/": {"get": page},
        "/metrics": {"get": metrics},
        "/tokenizer_info": {
            "get": _operation("tokenizerInfo", "The tokenizer's settings.", _json(_OBJECT))
        },
    }


def _operation(
    operation_id: str,
    summary: str,
    answer: str | dict[str, Any],
    *,
    body: tuple[str, ...] = (),
    errors: tuple[str, ...] = _ALWAYS,
) -> dict[str, Any]:
    """`answer` is a schema's name, or the content by media type."""
    content = _json(_reference(answer)) if isinstance(answer, str) else answer
    responses: dict[str, Any] = {"200": {"description": summary, "content": content}}
    for status in sorted(errors):
        responses[status] = {
            "description": _ERRORS[status],
            "content": _json(_reference(ErrorBody.__name__)),
        }
        if (name := _HEADERS.get(status)) is not None:
            responses[status]["headers"] = {name: {"$ref": f"#/components/headers/{name}"}}
    operation: dict[str, Any] = {
        "operationId": operation_id,
        "summary": summary,
        "security": [{"key": []}, {"x-api-key": []}, {}],
        "parameters": [_DEADLINE],
        "responses": responses,
    }
    if body:
        kinds = [_reference(name) for name in body]
        schema = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
        operation["requestBody"] = {"required": True, "content": _json(schema)}
    return operation


def _open(operation_id: str, answer: dict[str, Any]) -> dict[str, Any]:
    """Needs no key, and reads nothing of a request."""
    not_http = {
        "description": "The request is no good HTTP.",
        "content": _json(_reference(ErrorBody.__name__)),
    }
    responses = {"200": answer, "400": not_http}
    return {"operationId": operation_id, "security": [], "responses": responses}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": _REF.format(name=name)}
