"""API errors. Every error that leaves the HTTP port, in OpenAI's one shape.

`{"error": {"message", "type", "param", "code"}}`: clients switch on `code` and show `message`, so
the message names the parameter, its value, the limit and what to do. What is raised elsewhere
(`OctavoError`, pydantic, Starlette) is translated here and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from octavo.errors import (
    ContextLengthExceededError,
    EngineDeadError,
    InvalidParameterError,
    ModelAsleepError,
    OctavoError,
    QueueFullError,
    ServerEndsError,
    UnsupportedParameterError,
)
from octavo.json_path import json_path

INVALID_REQUEST = "invalid_request_error"
SERVER_ERROR = "server_error"
_MAX_QUOTED_CHARS = 120


class ErrorDetail(msgspec.Struct, frozen=True):
    """OpenAI's error object. `param` is the request's field, `code` a stable constant."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(msgspec.Struct, frozen=True):
    error: ErrorDetail


class ApiError(Exception):
    """An answer that is an error: HTTP status, error object and headers."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        error_type: str = INVALID_REQUEST,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.detail = ErrorDetail(message, error_type, param, code)
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        return msgspec.json.encode(ErrorBody(self.detail))


def invalid_value(param: str, message: str, *, code: str = "invalid_value") -> ApiError:
    """400: a field of the request is wrong."""
    return ApiError(400, message, param=param, code=code)


def unsupported(param: str, why: str) -> ApiError:
    """400: a field that would change the answer and that this server does not implement."""
    message = f"{param} is not supported by this server: {why}"
    return ApiError(400, message, param=param, code="unsupported_parameter")


def model_not_found(name: str, served: list[str]) -> ApiError:
    return ApiError(
        404,
        f"The model {quoted(name)} does not exist. This server serves: {', '.join(served)}.",
        param="model",
        code="model_not_found",
    )


def model_not_allowed(name: str) -> ApiError:
    return ApiError(
        403,
        f"The API key may not use the model {quoted(name)}.",
        param="model",
        code="model_not_allowed",
    )


def body_too_large(limit_bytes: int) -> ApiError:
    message = (
        f"The request body is larger than {limit_bytes} bytes, this server's limit "
        "(--max-body-size). Send a shorter prompt."
    )
    return ApiError(413, message, code="request_too_large")


def not_serving(status: str) -> ApiError:
    """503: the model is still loading, sleeps or is about to, or the server is shutting down."""
    messages = {
        "starting": "The model is still loading. Try again shortly.",
        "draining": "The server is shutting down. Send the request again: another replica answers.",
        "falling_asleep": "The model is about to sleep: requests that run may finish, and none is taken. "
        "POST /wake_up on the server's ops port calls the sleep off.",
        "sleeping": "The model sleeps: its memory is lent to others. It answers when it has been woken "
        "(POST /wake_up on the server's ops port).",
        "failed": "The engine has ended; the server is about to restart.",
    }
    return ApiError(
        503,
        messages[status],
        error_type=SERVER_ERROR,
        code=f"server_{status}",
        # Nobody knows when a model is woken.
        headers={} if status in ("falling_asleep", "sleeping") else {"Retry-After": "1"},
    )


def engine_failed(why: str | None = None, *, fails_again: bool = False) -> ApiError:
    """500: a step that ran the request failed.

    Args:
        why: In the engine's words, which tell nothing of its inside.
        fails_again: Whenever it is sent: OpenAI's clients, which try again by themselves, are told.
    """
    return ApiError(
        500,
        "The engine failed on this request; others are not affected. "
        + (why or "The server's log says why."),
        error_type=SERVER_ERROR,
        code="engine_error",
        headers={"x-should-retry": "false"} if fails_again else {},
    )


def internal_error(request_id: str | None = None) -> ApiError:
    """500 without any detail of ours: the log has it, under the same request id."""
    suffix = f" (request {request_id})" if request_id else ""
    return ApiError(
        500,
        f"The server had an internal error while handling the request{suffix}.",
        error_type=SERVER_ERROR,
        code="internal_error",
    )


def from_octavo_error(error: OctavoError) -> ApiError:
    """Translates the runtime's own errors."""
    if isinstance(error, ContextLengthExceededError):
        return invalid_value(error.parameter, str(error), code="context_length_exceeded")
    if isinstance(error, UnsupportedParameterError):
        return invalid_value(error.parameter, str(error), code="unsupported_parameter")
    if isinstance(error, InvalidParameterError):
        return invalid_value(error.parameter, str(error))
    if isinstance(error, QueueFullError):
        return ApiError(
            429,
            str(error),
            error_type="rate_limit_error",
            code="queue_full",
            headers={"Retry-After": str(max(1, error.retry_after_seconds))},
        )
    if isinstance(error, ModelAsleepError):
        return not_serving("sleeping")
    if isinstance(error, ServerEndsError):
        return not_serving("draining")
    if isinstance(error, EngineDeadError):
        return not_serving("failed")
    return ApiError(500, str(error), error_type=SERVER_ERROR, code="internal_error")


def from_validation_errors(errors: list[Any], document: object) -> ApiError:
    """Translates pydantic's list of errors in `document`: the first one that names a field wins."""
    paths = [_path(error, document) for error in errors]
    # Of a text or a list, that a list is no text: what is wrong within it says more.
    place = next(n for n, path in enumerate(paths) if not _is_above_another(path, paths))
    first, param = errors[place], json_path(*paths[place]) or None
    if first["type"] == "extra_forbidden":
        message = f"Unrecognized request argument supplied: {param}"
        return ApiError(400, message, param=param, code="unknown_parameter")
    if first["type"] == "missing":
        message = f"Missing required parameter: {param}."
        return ApiError(400, message, param=param, code="missing_required_parameter")
    of_field = [error for error, path in zip(errors, paths, strict=True) if path == paths[place]]
    # Of a text or a list, a list that is too long is of the right kind, and only its length is wrong.
    if any(error["type"] in _OF_ITS_KIND for error in of_field):
        of_field = [error for error in of_field if error["type"] in _OUT_OF_RANGE]
    first = of_field[0]
    message = f"{param or 'The request'} is {quoted(first['input'])}; {_expectations(of_field)}."
    code = "invalid_value" if first["type"] in _OUT_OF_RANGE else "invalid_type"
    return ApiError(400, message, param=param, code=code)


def _path(error: Any, document: object) -> tuple[str | int, ...]:
    """Members of a union and discriminators show up in the location as well; they are no places of the
    document."""
    path = list[str | int]()
    for number, part in enumerate(error["loc"], start=1):
        is_member = isinstance(document, dict) and part in document
        is_item = isinstance(document, list) and isinstance(part, int)
        if is_member or is_item:
            document = document[part]  # type: ignore[index]
        elif error["type"] != "missing" or number < len(error["loc"]):
            continue
        path.append(part if is_item else str(part))
    return tuple(path)


def _is_above_another(path: tuple[str | int, ...], paths: list[tuple[str | int, ...]]) -> bool:
    return any(len(other) > len(path) and other[: len(path)] == path for other in paths)


# What is of its type, and beyond its limits.
_OF_ITS_KIND = frozenset(
    {
        "greater_than",
        "greater_than_equal",
        "less_than",
        "less_than_equal",
        "finite_number",
        "string_too_short",
        "string_too_long",
        "too_short",
        "too_long",
    }
)
# What is no value of its type.
_OUT_OF_RANGE = _OF_ITS_KIND | {"literal_error", "enum", "value_error"}
# Pydantic tells of Python's classes here, and a client has JSON.
_OF_OBJECTS = frozenset(
    {
        "dict_type",
        "model_attributes_type",
        "model_type",
        "union_tag_invalid",
        "union_tag_not_found",
    }
)
_EXPECTED = "Input should be "


def _expectations(errors: list[Any]) -> str:
    """Of one field: each kind of value that it may have."""
    found = dict.fromkeys(map(_expectation, errors))
    kinds = [one.removeprefix(_EXPECTED) for one in found if one.startswith(_EXPECTED)]
    return f"it must be {' or '.join(kinds)}" if kinds else next(iter(found))


def _expectation(error: Any) -> str:
    if error["type"] in _OF_OBJECTS:
        return f"{_EXPECTED}an object"
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] in ("none_required", "literal_error"):
        message = _PYTHONS_WORD.sub(lambda found: _IN_JSON[_CONSTANTS[found[1]]], message)
    return message


_IN_JSON = {None: "null", True: "true", False: "false"}
_CONSTANTS = {str(one): one for one in _IN_JSON}
# Texts are quoted there.
_PYTHONS_WORD = re.compile(r"(?<!['\w])(None|True|False)(?!['\w])")


def quoted(value: object) -> str:
    """A client's value, short enough for an error message."""
    if isinstance(value, list | dict) and len(value) > 8:
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)} items"
    if isinstance(value, str):
        value = value[: _MAX_QUOTED_CHARS + 1]
    try:
        text = _told(value)
    except ValueError:  # Python refuses to print integers of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= _MAX_QUOTED_CHARS else text[:_MAX_QUOTED_CHARS] + "…"


def _told(value: object) -> str:
    """Python's own form, but for the constants of JSON."""
    if value is None or isinstance(value, bool):
        return _IN_JSON[value]
    if isinstance(value, list):
        return f"[{', '.join(map(_told, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name!r}: {_told(one)}' for name, one in value.items())}}}"
    return repr(value)
