"""Paths of values in JSON, as OpenAI's API names the fields of a request: `messages[0].content`."""

from __future__ import annotations


def json_path(*parts: str | int) -> str:
    """Of what lies within each other, outermost first: a key, or what is a path already, is a text; a place
    in a list is a number."""
    steps = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return "".join(steps).removeprefix(".")
