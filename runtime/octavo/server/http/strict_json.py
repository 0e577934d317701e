"""Strict JSON. JSON that a stranger wrote: no NaN, no lone surrogates, no invalid UTF-8, bounded depth.

Depth is bounded because nearly all that reads a value later recurses over it (templates, validation,
messages that quote it) and would fail with an error of its own far below the depth that JSON allows.
"""

from __future__ import annotations

import msgspec

MAX_DEPTH = 100
"""Levels of arrays and objects; schemas of tools, the deepest values in use, have some ten."""


class JsonError(ValueError):
    """The message says what is wrong, and where."""


def decode(text: bytes) -> object:
    """Raises `JsonError`."""
    try:
        value: object = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise JsonError(f"{error}.") from None
    except RecursionError:
        raise _too_deep() from None
    # Nearly no text has so many brackets that it must be looked at.
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH and _is_too_deep(value):
        raise _too_deep()
    return value


def _too_deep() -> JsonError:
    return JsonError(f"it is nested too deeply; at most {MAX_DEPTH} levels are read.")


def _is_too_deep(value: object) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for container in level
            for item in _items(container)
            if isinstance(item, list | dict)
        ]
        if not level:
            return False
    return True


def _items(container: object) -> list[object]:
    if isinstance(container, dict):
        return list(container.values())
    return container if isinstance(container, list) else []
