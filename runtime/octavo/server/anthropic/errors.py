"""Errors in Anthropic's shape, on the routes that are Anthropic's."""

from __future__ import annotations

import msgspec

from octavo.server.openai.api_errors import ApiError

_PATHS = "/v1/messages"
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class MessageErrorDetail(msgspec.Struct, frozen=True):
    type: str
    message: str
    param: str | None = None


class MessageError(msgspec.Struct, frozen=True, tag_field="type", tag="error"):
    error: MessageErrorDetail
    request_id: str | None


def error_body(error: ApiError, path: str, request_id: str | None) -> bytes:
    """In the shape of whose route `path` is."""
    return message_error(error, request_id) if path.startswith(_PATHS) else error.body()


def message_error(error: ApiError, request_id: str | None) -> bytes:
    default = "invalid_request_error" if error.status < 500 else "api_error"
    kind = _TYPES.get(error.status, default)
    return msgspec.json.encode(
        MessageError(MessageErrorDetail(kind, error.detail.message, error.detail.param), request_id)
    )
