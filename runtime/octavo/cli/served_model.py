"""Model of a server: what `chat` and `bench` ask first, and what a person is told who gets no answer.

By Octavo's own client, which is there at once: OpenAI's takes a second or two to import.
"""

from __future__ import annotations

import asyncio
import errno
from urllib.parse import urlsplit

from octavo.server.process.options import API_KEY_VARIABLE


class NoModelError(Exception):
    """No server answers, or not with its models; the message says which, and what to do."""


def first_model(url: str, api_key: str | None, *, url_argument: str) -> str:
    """The name of the server's first model. Raises `NoModelError`.

    Args:
        url: The API's root, as `octavo.client.api_base` makes it.
        url_argument: What the command calls it.
    """
    import aiohttp

    from octavo.client import UnexpectedAnswerError

    try:
        return asyncio.run(_first_model(url, api_key))
    except UnexpectedAnswerError as error:
        raise NoModelError(_explained(error, url, url_argument)) from error
    except (OSError, TimeoutError, aiohttp.ClientError) as error:
        raise NoModelError(no_answer(url, error)) from error


def no_answer(url: str, error: Exception) -> str:
    """What a person is told whose request had no answer, and what to do."""
    import aiohttp

    from octavo.client import why_no_answer

    if (
        isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError)
        or not urlsplit(url).hostname
    ):
        return f"{url} is no URL of a server; write http://HOST:PORT, or https://."
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return (
            f"{url} shows a certificate that is not trusted ({why_no_answer(error)}). Trust its authority: "
            "SSL_CERT_FILE=/path/to/ca.crt octavo …"
        )
    hint = "Is `octavo serve` running?"
    if urlsplit(url).scheme == "http" and _is_closed(error):
        hint = "Does it speak TLS? The URL of one that does begins with https://."
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        hint = "Does it speak TLS? The URL of one that does not begins with http://."
    return f"nothing answers at {url} ({why_no_answer(error)}). {hint}"


def _is_closed(error: Exception) -> bool:
    """Somebody took the connection, and ended it without an answer."""
    import aiohttp

    return isinstance(error, aiohttp.ServerDisconnectedError | ConnectionResetError) or (
        isinstance(error, aiohttp.ClientOSError) and error.errno == errno.ECONNRESET
    )


async def _first_model(url: str, api_key: str | None) -> str:
    from octavo.client import Client, UnexpectedAnswerError

    async with Client(url, api_key) as client:
        models = await client.models()
    if not models:
        raise UnexpectedAnswerError(200, "no model", "the server's list of models is empty.")
    return models[0]


def _explained(error: Exception, url: str, url_argument: str) -> str:
    """What a server says that answers, but does not list its models, and what to do about it."""
    told = f"{url}/models answers {error}"
    status = getattr(error, "status", None)
    if status in (401, 403):
        return f"{told} {KEY_HINT}"
    if status == 404:
        return f"{told} No OpenAI API is at {url}: {url_argument} names the server's /v1."
    return f"{told} Does {url_argument} name an OpenAI API? --model spares the question."


KEY_HINT = f"Give the server's key with --api-key or {API_KEY_VARIABLE}."
