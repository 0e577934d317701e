"""Adapter routes. Loads and unloads adapters while a server runs, by vLLM's routes.

On the ops port, because they read files of the server's: whoever may ask for answers may not. Pages in a
browser are refused, as by all that changes something there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec

from octavo.errors import InvalidConfigurationError, OctavoError, UserError
from octavo.server.http.asgi import JSON, AsgiApp, Receive, Scope, Send, header, respond
from octavo.server.http.body import ClientDisconnectedError, decode_object, read_body
from octavo.server.openai.api_errors import (
    ApiError,
    from_octavo_error,
    invalid_value,
    not_serving,
    quoted,
)

if TYPE_CHECKING:
    from octavo.server.openai.adapters import ServedAdapters

_MAX_BODY_BYTES = 64 * 1024
_TEXT = "text/plain; charset=utf-8"
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
_T = TypeVar("_T")


class LoadLoraAdapter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """With `load_inplace` an adapter of this name may be there, which the new one replaces."""

    lora_name: _Text
    lora_path: _Text
    load_inplace: bool = False


class UnloadLoraAdapter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    lora_name: _Text


class AdapterRoutes:
    """Refuses everything until adapters are attached: the model loads, or takes none.

    Args:
        is_enabled: It takes adapters.
    """

    def __init__(self, *, is_enabled: bool) -> None:
        self._is_enabled = is_enabled
        self._adapters: ServedAdapters | None = None
        self.commands: Mapping[str, AsgiApp] = {
            "/v1/load_lora_adapter": _route(self._load),
            "/v1/unload_lora_adapter": _route(self._unload),
        }

    def attach(self, adapters: ServedAdapters) -> None:
        self._adapters = adapters

    async def _load(self, body: bytes) -> str:
        adapters, request = self._attached(), _read(body, LoadLoraAdapter)
        name = request.lora_name
        try:
            adapters.check_name(name, is_replacing=request.load_inplace)
        except InvalidConfigurationError as error:
            raise invalid_value("lora_name", str(error), code="adapter_refused") from None
        await adapters.load(name, request.lora_path, is_replacing=request.load_inplace)
        return f"Success: LoRA adapter '{name}' added successfully."

    async def _unload(self, body: bytes) -> str:
        adapters, name = self._attached(), _read(body, UnloadLoraAdapter).lora_name
        if adapters.is_models_own(name):
            message = (
                f"{quoted(name)} is the model's own name, which stays; unload takes an adapter's."
            )
            raise invalid_value("lora_name", message)
        if not await adapters.unload(name):
            raise _not_loaded(name, adapters.names)
        return f"Success: LoRA adapter '{name}' removed successfully."

    def _attached(self) -> ServedAdapters:
        if not self._is_enabled:
            message = (
                "This server takes no adapters. Start it with --enable-lora, which needs a decoder and does "
                "not go together with --enable-sleep-mode."
            )
            raise ApiError(400, message, code="lora_not_enabled")
        if self._adapters is None:
            raise not_serving("starting")
        return self._adapters


def _route(answer: Callable[[bytes], Awaitable[str]]) -> AsgiApp:
    """Of a body, a text to answer with 200; errors become error objects."""

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if (kind := header(scope, b"content-type") or "").partition(";")[0].strip() != JSON:
                message = f"Content-Type is {kind!r:.80}; send {JSON}."
                raise ApiError(415, message, code="unsupported_content_type")
            text = await answer(await read_body(scope, receive, _MAX_BODY_BYTES))
        except ClientDisconnectedError:
            return
        except ApiError as error:
            await respond(send, error.status, error.body(), headers=error.headers)
        except OctavoError as error:
            refusal = _refusal(error)
            await respond(send, refusal.status, refusal.body(), headers=refusal.headers)
        else:
            await respond(send, 200, text.encode(), content_type=_TEXT)

    return run


def _read(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.convert(decode_object(body), kind)
    except msgspec.ValidationError as error:
        raise ApiError(400, f"The body is wrong: {error}.", code="invalid_value") from None


def _not_loaded(name: str, loaded: list[str]) -> ApiError:
    listed = f"Loaded are: {', '.join(loaded)}." if loaded else "No adapter is loaded."
    message = f"The adapter {quoted(name)} is not loaded. {listed}"
    return ApiError(404, message, param="lora_name", code="model_not_found")


def _refusal(error: OctavoError) -> ApiError:
    """Whoever may load adapters may know what is wrong with their files."""
    if isinstance(error, UserError):
        return invalid_value("lora_path", str(error), code="adapter_refused")
    return from_octavo_error(error)
