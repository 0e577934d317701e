"""Request body. Reads a request's body within a limit and decodes its JSON, strictly."""

from __future__ import annotations

from octavo.server.http import strict_json
from octavo.server.http.asgi import Receive, Scope, header
from octavo.server.openai.api_errors import ApiError, body_too_large


class ClientDisconnectedError(Exception):
    """Nobody is left to answer."""


async def read_body(scope: Scope, receive: Receive, limit_bytes: int) -> bytes:
    """The whole body.

    Raises:
        ApiError: 413 when the declared or the actual size exceeds the limit, 415 when it is compressed.
        ClientDisconnectedError: The client hung up on the way.
    """
    encoding = header(scope, b"content-encoding")
    if encoding not in (None, "", "identity"):
        message = f"Content-Encoding is {encoding!r}; send the body uncompressed."
        raise ApiError(415, message, code="unsupported_content_encoding")
    declared = header(scope, b"content-length")
    if declared is not None and declared.isdecimal() and int(declared) > limit_bytes:
        raise body_too_large(limit_bytes)
    parts: list[bytes] = []
    size = 0
    while True:
        message_in = await receive()
        if message_in["type"] == "http.disconnect":
            raise ClientDisconnectedError
        part = message_in.get("body", b"")
        size += len(part)
        if size > limit_bytes:
            raise body_too_large(limit_bytes)
        parts.append(part)
        if not message_in.get("more_body", False):
            return b"".join(parts)


def decode_object(body: bytes) -> dict[str, object]:
    """A JSON object; see `strict_json`.

    Raises:
        ApiError: 400 with the byte that is wrong.
    """
    try:
        document = strict_json.decode(body)
    except strict_json.JsonError as error:
        raise _invalid_json(f"The body is not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise _invalid_json('The body must be a JSON object, such as {"model": …}.')
    return document


def _invalid_json(message: str) -> ApiError:
    return ApiError(400, message, code="invalid_json")
