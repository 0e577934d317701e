"""Nested values: objects and lists as elements within elements, one for each member, and one called `item`
for each of a list's."""

from __future__ import annotations

from typing import Any

from octavo.json_depth import MAX_DEPTH
from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.schema_types import (
    branch_of,
    cast,
    properties_of,
    types_of,
    written_text,
)

Element = str | list[tuple[str, Any]]
"""What one holds: a text, or others with their names."""

_ITEM = "item"


def nested_elements(cursor: Cursor, opening: str, depth: int = 0) -> Steps[Element | None]:
    """Those that stand here, up to a closing tag, which is left; None where it is not these alone.

    Args:
        opening: What stands before an element's name; behind it, a slash makes a closing tag.
    """
    found = list[tuple[str, Any]]()
    while True:
        yield from cursor.spaces()
        if (yield from cursor.is_ahead(f"{opening}/")):
            return found
        if depth == MAX_DEPTH or (yield from cursor.literal(opening)) is None:
            return None
        name = yield from cursor.head_until(">")
        if not name:
            return None
        closing = f"{opening}/{name}>"
        inside: Element | None
        if not (yield from cursor.is_ahead(closing)) and (yield from cursor.is_ahead(opening)):
            inside = yield from nested_elements(cursor, opening, depth + 1)
            if inside is None or (yield from cursor.literal(closing)) is None:
                return None
        else:
            inside = yield from cursor.until(closing)
            if inside is None:
                return None
        found.append((name, inside))


def nested_value(element: Element, schema: object) -> str:
    """The JSON of an element. Of elements that a schema does not know a list, where all of them are called
    as a list's are."""
    kinds = types_of(schema)
    if isinstance(element, str):
        if not element.strip() and kinds and "string" not in kinds:
            if "array" in kinds:
                return "[]"
            if "object" in kinds:
                return "{}"
        return cast(element, schema)
    is_list = all(name == _ITEM for name, _ in element)
    if "array" in kinds or (is_list and "object" not in kinds):
        items_are = branch_of(schema, "array").get("items")
        items = [nested_value(inside, items_are) for _, inside in element]
        return f"[{', '.join(items)}]"
    known = branch_of(schema, "object")
    schemas, others = properties_of(known), known.get("additionalProperties")
    members = {name: nested_value(inside, schemas.get(name, others)) for name, inside in element}
    return f"{{{', '.join(f'{written_text(name)}: {value}' for name, value in members.items())}}}"
