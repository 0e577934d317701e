"""Request body. Reads a request's body within a limit and decodes its JSON, strictly."""

from __future__ import annotations

from octavo.server.http import strict_json
from octavo.server.http.asgi import Receive, Scope, header, list_header
from octavo.server.http.doubled_keys import doubled_key
from octavo.server.openai.api_errors import ApiError, body_too_large

_BOM = b"\xef\xbb\xbf"


class ClientDisconnectedError(Exception):
    """Nobody is left to answer."""


async def read_body(scope: Scope, receive: Receive, limit_bytes: int) -> bytes:
    """The whole body.

    Raises:
        ApiError: 413 when the declared or the actual size exceeds the limit, 415 when its content is
            compressed, 501 when its transfer is.
        ClientDisconnectedError: The client hung up on the way.
    """
    _check_codings(scope)
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


def _check_codings(scope: Scope) -> None:
    """None is undone but `chunked`, which the listener has undone where it is the last one (RFC 9112, 6.1):
    another one's bytes would be read as what they are not."""
    transfer = list_header(scope, b"transfer-encoding")
    if transfer not in ([], ["chunked"]):
        raise ApiError(
            501,
            f"Transfer-Encoding is {', '.join(transfer)[:256]!r}; of transfer codings this server knows "
            "chunked alone. Send the body uncompressed.",
            code="unsupported_transfer_encoding",
        )
    content = [one for one in list_header(scope, b"content-encoding") if one != "identity"]
    if content:
        raise ApiError(
            415,
            f"Content-Encoding is {', '.join(content)[:256]!r}; send the body uncompressed.",
            code="unsupported_content_encoding",
            headers={"Accept-Encoding": "identity"},
        )


def decode_object(body: bytes) -> dict[str, object]:
    """A JSON object; see `strict_json`. A byte order mark before it is passed over, as RFC 8259 allows:
    PowerShell and others write one.

    Raises:
        ApiError: 400 with the byte or the number that is wrong, or with the key that is there twice.
    """
    if body.startswith(_BOM):
        body = b" " * len(_BOM) + body[len(_BOM) :]  # places in errors stay the client's
    try:
        document = strict_json.decode(body)
        doubled = doubled_key(body, document)
    except strict_json.JsonError as error:
        raise _invalid_json(f"The body is not valid JSON: {error}", error.path) from None
    if not isinstance(document, dict):
        raise _invalid_json('The body must be a JSON object, such as {"model": …}.')
    if doubled is not None:
        raise _invalid_json(
            f"The body holds {doubled} twice, and nobody can tell which of the two is meant. Send it once.",
            doubled,
        )
    return document


def _invalid_json(message: str, param: str | None = None) -> ApiError:
    return ApiError(400, message, param=param, code="invalid_json")
