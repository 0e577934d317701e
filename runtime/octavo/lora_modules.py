"""LoRA modules: the adapters that a server starts with, as vLLM's flag `--lora-modules` names them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from octavo.errors import InvalidConfigurationError
from octavo.flag_json import decode_flag

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
_FORMS = 'name=path, or {"name": …, "path": …, "base_model_name": …}'


class LoraModule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An adapter: what requests call it, its folder, and what it says that its base model is called."""

    name: _Text
    path: _Text
    base_model_name: str | None = None


def read_lora_modules(given: Sequence[str]) -> list[LoraModule]:
    """Each `name=path` or an object in JSON. Raises `InvalidConfigurationError`."""
    found = [_read(text) for text in given]
    names = [module.name for module in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidConfigurationError(f"lora_modules holds {twice!r} twice; use each name once.")
    return found


def _read(text: str) -> LoraModule:
    if text.lstrip().startswith("{"):
        try:
            return msgspec.convert(decode_flag(text), LoraModule)
        except msgspec.MsgspecError as error:
            raise _wrong(text, f"{error}.") from None
        except ValueError as error:
            raise _wrong(text, f"it {error}") from None
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise InvalidConfigurationError(f"lora_modules holds {text!r:.200}; give {_FORMS}.")
    return LoraModule(name, path)


def _wrong(text: str, why: str) -> InvalidConfigurationError:
    return InvalidConfigurationError(f"lora_modules holds {text!r:.200}: {why} Give {_FORMS}.")
