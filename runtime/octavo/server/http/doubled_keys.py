"""Doubled keys: a key that an object in a JSON text has twice, of which every parser keeps one in silence.

Which one was meant, nobody can tell (RFC 8259, 4), so such a text is refused. Most texts are seen to have
none by a count of keys, which costs a small part of parsing; others are read once more, key by key.
"""

from __future__ import annotations

import json

from octavo.json_path import json_path
from octavo.server.http.strict_json import too_deep

_CONTAINERS = (dict, list)
_UNCOUNTED = (b'\\\\"', b" :", b"\t:", b"\r:", b"\n:")
"""With one of these a text's keys may end otherwise than `_num_key_ends` counts."""
_SHOWN_CHARS = 64


def doubled_key(text: bytes, value: object) -> str | None:
    """The path of one, such as `messages[0].role`; None where there is none.

    Args:
        text: Valid JSON.
        value: What it was read as, with one of the values of each key.

    Raises: `JsonError` where what was not kept is nested too deeply.
    """
    num_kept = _num_kept(value)
    if text.count(b":") == num_kept or _num_key_ends(text) == num_kept:
        return None
    doubled: dict[int, tuple[object, str]] = {}

    def members(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            # With the object: the id of one that is dropped would be another's.
            doubled[id(found)] = found, _first_doubled(pairs)
        return found

    try:
        # Numbers do not count.
        read = json.loads(
            text.decode(errors="replace"), object_pairs_hook=members, parse_int=len, parse_float=len
        )
    except RecursionError:
        raise too_deep() from None
    return _path(read, doubled) if doubled else None


def _num_key_ends(text: bytes) -> int:
    """Colons right behind a quote that is not escaped: at least those of all keys; -1: it cannot be told."""
    if any(one in text for one in _UNCOUNTED):
        return -1
    return text.count(b'":') - text.count(b'\\":')


def _num_kept(value: object) -> int:
    """Keys of all objects, but those within lists that begin with something else: ids are many."""
    found, waiting = 0, [value]
    while waiting:
        container = waiting.pop()
        if isinstance(container, dict):
            found += len(container)
            waiting += [one for one in container.values() if isinstance(one, _CONTAINERS)]
        elif isinstance(container, list) and container and isinstance(container[0], _CONTAINERS):
            waiting += container
    return found


def _first_doubled(pairs: list[tuple[str, object]]) -> str:
    seen = set[str]()
    for key, _ in pairs:
        if key in seen:
            break
        seen.add(key)
    return key


def _path(value: object, doubled: dict[int, tuple[object, str]]) -> str | None:
    """Of an outermost one: those within a value that was not kept stand below one."""
    waiting: list[tuple[tuple[str | int, ...], object]] = [((), value)]
    for path, container in waiting:
        if id(container) in doubled:
            _, key = doubled[id(container)]
            return json_path(*path, key[:_SHOWN_CHARS])
        members = container.items() if isinstance(container, dict) else enumerate(container)  # type: ignore[arg-type]
        waiting += [
            ((*path, key[:_SHOWN_CHARS] if isinstance(key, str) else key), one)
            for key, one in members
            if isinstance(one, _CONTAINERS)
        ]
    return None
