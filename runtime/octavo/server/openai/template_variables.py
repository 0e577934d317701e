"""Template variables of a chat: what a request hands to the chat template beside its messages and tools."""

from __future__ import annotations

from typing import Any

from octavo.errors import UnsupportedParameterError
from octavo.server.openai.api_errors import invalid_value
from octavo.server.openai.protocol import ChatCompletionRequest


def template_variables(request: ChatCompletionRequest) -> dict[str, Any] | None:
    """Raises `ApiError` where the documents are given twice."""
    variables = request.template_variables
    if not request.documents:
        return variables
    if (variables or {}).get("documents", request.documents) != request.documents:
        raise invalid_value(
            "documents",
            "chat_template_kwargs holds documents, and so does the request, others; leave one out.",
        )
    return {**(variables or {}), "documents": request.documents}


def as_sent(
    error: UnsupportedParameterError, request: ChatCompletionRequest
) -> UnsupportedParameterError:
    """Documents that stand beside the messages are told by that name."""
    if not request.documents or error.parameter != "chat_template_kwargs.documents":
        return error
    return UnsupportedParameterError("documents", str(error).partition(": ")[2])
