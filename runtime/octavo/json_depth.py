"""JSON's depth, bounded: nearly all that reads a value later recurses over it (templates, validation,
messages that quote it) and would fail with an error of its own far below the depth that JSON allows."""

from __future__ import annotations

MAX_DEPTH = 100
"""Levels of arrays and objects; schemas of tools, the deepest values in use, have some ten."""


def is_too_deep(value: object, levels: int = MAX_DEPTH) -> bool:
    """Whether arrays and objects lie more than `levels` deep in each other; scalars are no level."""
    level = [value]
    for _ in range(levels):
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
