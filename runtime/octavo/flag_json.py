"""JSON of a flag, read as strictly as a body: no NaN, no half characters, no key twice in an object."""

from __future__ import annotations

import json

import msgspec


def decode_flag(text: str) -> object:
    """Raises `ValueError`, whose message goes behind the flag's name."""
    try:
        value: object = msgspec.json.decode(text)
        json.loads(text, object_pairs_hook=_refuse_doubled)
    except msgspec.MsgspecError as error:
        raise ValueError(f"is not JSON: {error}.") from None
    except UnicodeError:
        raise ValueError("is not JSON: it holds half of a character.") from None
    except RecursionError:
        raise ValueError("is nested too deeply.") from None
    return value


def _refuse_doubled(pairs: list[tuple[str, object]]) -> None:
    """Which of the values was meant, nobody can tell."""
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"holds the key {twice!r:.80} twice; give it once.")
