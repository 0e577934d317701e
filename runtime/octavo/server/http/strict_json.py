"""Strict JSON. JSON that a stranger wrote: no NaN, no lone surrogates, no invalid UTF-8, bounded depth."""

from __future__ import annotations

import re

import msgspec

from octavo.json_depth import MAX_DEPTH, is_too_deep
from octavo.server.http.number_range import MOST_DIGITS, find_out_of_range

_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|[^u])")


class JsonError(ValueError):
    """The message says what is wrong, and where; `path` is of a value, as `messages[0].role`."""

    def __init__(self, message: str, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


def decode(text: bytes) -> object:
    """Raises `JsonError`."""
    try:
        value: object = msgspec.json.decode(text)
    except UnicodeDecodeError:
        raise JsonError(_not_utf8(text)) from None
    except msgspec.ValidationError:  # without a schema, of numbers alone
        raise _out_of_range(text) from None
    except msgspec.DecodeError as error:
        raise JsonError(_half_a_character(text) or f"{error}.") from None
    except RecursionError:
        raise too_deep() from None
    # Nearly no text has so many brackets that it must be looked at.
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH and is_too_deep(value):
        raise too_deep()
    return value


def _out_of_range(text: bytes) -> JsonError:
    found = find_out_of_range(text)
    if found.value:
        what = f"{found.path or 'a number'} is {found.value}, which is out of range"
    else:
        what = f"{found.path or 'it'} holds a number that is out of range"
    limits = f"numbers reach up to 1.7e308, integers up to {MOST_DIGITS} digits."
    return JsonError(f"{what}: {limits}", found.path or None)


def _half_a_character(text: bytes) -> str:
    """Where a surrogate is written without its other half; empty where none is. For msgspec the text may then
    just have ended."""
    begun: re.Match[bytes] | None = None
    for escape in _ESCAPE.finditer(text):
        code = int(escape[1] or b"0", 16)
        is_end = 0xDC00 <= code < 0xE000
        if is_end and begun is not None and begun.end() == escape.start():
            begun = None
        elif is_end or begun is not None:
            begun = begun or escape
            break
        elif 0xD800 <= code < 0xDC00:
            begun = escape
    if begun is None:
        return ""
    return (
        f"{begun[0].decode()} at byte {begun.start()} is one half of a surrogate pair, which is no "
        "character. Send both halves, or leave it out."
    )


def _not_utf8(text: bytes) -> str:
    """What a byte is that begins or continues no character, and where; msgspec counts within its string."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return f"byte {error.start} (0x{text[error.start]:02x}) is no UTF-8."
    return "it is no UTF-8."  # msgspec has another opinion than Python


def too_deep() -> JsonError:
    return JsonError(f"it is nested too deeply; at most {MAX_DEPTH} levels are read.")
