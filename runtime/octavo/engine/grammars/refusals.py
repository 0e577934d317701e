"""Refusals: which of a request's schemas and expressions cannot be held to, and where in it, as far as the
library tells.

It tells the keywords that it does not know and not their place, and one of many tools is hard to find
by them; of an expression it shows the grammar that we have put it into.
"""

from __future__ import annotations

import json
import re
from typing import Any

from octavo.json_path import json_path

_KEYWORDS = re.compile(r'Unimplemented keys: (\["[^\]]*"\])')
_EXPRESSION_FAULT = re.compile(r"invalid regex .*?\nerror: ([^\n]*)", re.DOTALL)
_PLACE = re.compile(r"^(at )?\d+\(\d+\): ")
_LINES = re.compile(r"\n *\d+ \|")
_OPTION = re.compile(r"Enable 'coerce_one_of'.*", re.DOTALL)
_ELSEWHERE = re.compile(
    r"Resource '(?:json-schema:///)?([^']*)' is not present in a registry.*", re.DOTALL
)
_NOWHERE = re.compile(r"Pointer '([^']*)' does not exist")
_BY_NAME = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")


def placed(why: str, schema: Any, name: str = "") -> str:
    """`why` the library refused a schema, with the schema's name and the place of what it names."""
    found = _KEYWORDS.search(why)
    place = ""
    if found is not None:
        place = json_path(*_place_of(frozenset(json.loads(found[1])), schema) or ())
    whole = " at ".join(part for part in (name, place) if part)
    return f"{whole}: {why}" if whole else why


def pattern_refused(why: str, pattern: str, place: str) -> str:
    """`why` the library refused an expression, with it as it was sent."""
    found = _EXPRESSION_FAULT.search(why)
    told = found[1] if found is not None else without_grammar(why)
    name = f"{place}, " if place else ""
    return f"{name}the regular expression {pattern!r:.120}: {told}"


def without_grammar(why: str) -> str:
    """Without the lines of the grammar that it shows, and the place in it."""
    return _LINES.split(_PLACE.sub("", why), maxsplit=1)[0]


def in_our_words(why: str) -> str:
    """Without the library's own names, and options of it that nobody here can set."""
    why = _OPTION.sub("Write anyOf.", why.replace("NoExtensionBias", "nothing can begin"))
    why = _ELSEWHERE.sub(_told_elsewhere, why)
    return _NOWHERE.sub(
        lambda found: (
            f"the reference '#{found[1]}' leads to nothing in the schema. Define it there."
        ),
        why,
    )


def _told_elsewhere(found: re.Match[str]) -> str:
    return (
        f"the reference '{found[1]}' leads out of the schema, and nothing is fetched. Write what it refers "
        "to into $defs, and refer to that (#/$defs/NAME)."
    )


def _place_of(keywords: frozenset[str], schema: Any) -> tuple[str | int, ...] | None:
    """Of the first schema within that has one of the keywords; empty for the whole one."""
    members: list[tuple[tuple[str | int, ...], Any]] = []
    if isinstance(schema, list):
        members += (((number,), one) for number, one in enumerate(schema))
    elif not isinstance(schema, dict):
        return None
    elif keywords & schema.keys():
        return ()
    else:
        for key, value in schema.items():
            if key in _BY_NAME and isinstance(value, dict):
                members += [((key, name), one) for name, one in value.items()]
            elif key not in ("const", "default", "enum", "examples"):
                members.append(((key,), value))
    for steps, value in members:
        if (place := _place_of(keywords, value)) is not None:
            return (*steps, *place)
    return None
