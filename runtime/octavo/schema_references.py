"""Schema references: what a `$ref` within a document refers to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def referred(reference: str, root: object) -> Any:
    """True, which is any schema, where it is not in this document."""
    if not reference.startswith("#"):
        return True
    found = root
    for name in reference[1:].split("/")[1:]:
        if not isinstance(found, Mapping):
            return True
        found = found.get(name.replace("~1", "/").replace("~0", "~"), True)
    return found


def references_of(schema: object) -> list[str]:
    """At any depth; without recursion."""
    found, waiting = list[str](), [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            if isinstance(reference := value.get("$ref"), str):
                found.append(reference)
            waiting += value.values()
    return found


def endless_reference(schema: object) -> str | None:
    """One that leads to nothing but itself."""
    ending = set[str]()
    for first in references_of(schema):
        seen, reference = set[str](), first
        while reference not in ending:
            if reference in seen:
                return reference
            seen.add(reference)
            found = referred(reference, schema)
            following = found.get("$ref") if isinstance(found, dict) else None
            if not isinstance(following, str):
                break
            reference = following
        ending |= seen
    return None
