"""Oracle of structural tags: which texts are of a tag, by trying all the ways there are, one by one.

Knows nothing of grammars: what it says is what the node's description says.
"""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema  # type: ignore[import-untyped]

Tag = dict[str, Any]
"""A node of the tree that is a structural tag's `format`."""


def ends(node: Tag, text: str, start: int) -> set[int]:
    """Where the node may end that begins at `start`."""
    places = range(start, len(text) + 1)
    found = {start}
    match node["type"]:
        case "const_string":
            value = node["value"]
            return {start + len(value)} if text.startswith(value, start) else set()
        case "regex":
            pattern = re.compile(node["pattern"])
            return {place for place in places if pattern.fullmatch(text, start, place)}
        case "json_schema":
            return {
                place for place in places if is_document(node["json_schema"], text[start:place])
            }
        case "any_text":
            held = node.get("excludes", [])
            return {place for place in places if not any(one in text[start:place] for one in held)}
        case "sequence":
            for element in node["elements"]:
                found = {end for place in found for end in ends(element, text, place)}
            return found
        case "or":
            return {end for element in node["elements"] for end in ends(element, text, start)}
        case "optional":
            return {start} | ends(node["content"], text, start)
        case "star" | "plus" | "repeat":
            least = int(node.get("min", node["type"] == "plus"))
            most = int(node.get("max", -1))
            return repeated(
                node["content"], text, start, least, max(least, len(text)) if most < 0 else most
            )
    of_tags = {"tag": tag_ends, "tags_with_separator": separated, "triggered_tags": triggered}
    return of_tags[node["type"]](node, text, start)


def tag_ends(node: Tag, text: str, start: int) -> set[int]:
    parts = ({"type": "const_string", "value": node["begin"]}, node["content"])
    inner = ends({"type": "sequence", "elements": parts}, text, start)
    found = node["end"] if isinstance(node["end"], list) else [node["end"]]
    return {place + len(end) for place in inner for end in found if text.startswith(end, place)}


def separated(node: Tag, text: str, start: int) -> set[int]:
    one = {"type": "or", "elements": node["tags"]}
    separator = {"type": "const_string", "value": node["separator"]}
    more = {"type": "star", "content": {"type": "sequence", "elements": [separator, one]}}
    parts = [one] if node.get("stop_after_first") else [one, more]
    found = ends({"type": "sequence", "elements": parts}, text, start)
    return found if node.get("at_least_one") else found | {start}


def triggered(node: Tag, text: str, start: int) -> set[int]:
    """Text without a trigger, and tags."""
    free = {"type": "any_text", "excludes": [*node["triggers"], *node.get("excludes", [])]}
    tags = {"type": "or", "elements": node["tags"]}
    led = {"type": "sequence", "elements": [free, tags]}
    is_one, is_last = node.get("at_least_one"), node.get("stop_after_first")
    if is_last:
        return (
            ends(tags, text, start) if is_one else ends(led, text, start) | ends(free, text, start)
        )
    parts = [{"type": "star", "content": led}, free]
    return ends({"type": "sequence", "elements": [tags, *parts] if is_one else parts}, text, start)


def repeated(node: Tag, text: str, start: int, least: int, most: int) -> set[int]:
    found, reached = ({start} if least == 0 else set()), {start}
    seen: set[int] = set()
    for count in range(1, most + 1):
        reached = {end for place in reached for end in ends(node, text, place)}
        if count > least and reached <= seen:
            break
        seen |= reached
        if count >= least:
            found |= reached
    return found


def is_document(schema: Any, text: str) -> bool:
    try:
        jsonschema.Draft202012Validator(schema).validate(json.loads(text))
    except (ValueError, jsonschema.ValidationError):
        return False
    return True
