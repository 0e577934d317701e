"""Texts of a schema: what a string that keeps to it looks like, as regular expressions of the whole text.

For texts that stand without quotes: those of JSON strings the grammar's library knows itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from octavo.schema_numbers import as_whole
from octavo.schema_patterns import MAX_WRITTEN_OUT, set_operation, size_written_out

KEYWORDS = frozenset({"format", "maxLength", "minLength", "pattern"})
"""Those of strings."""
_CLASS = r"\[\^?\]?(?:\\.|[^\]\\])*\]"
_PART = re.compile(rf"\\.|{_CLASS}|[()|^$]|[^\\\[()|^$]+|.", re.DOTALL)
_LOOKS = re.compile(r"\(\?[=!<]|\\[bB1-9]")
_CHARACTER = r"(.|\n)"
_DAY = (
    "([0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)"
    "|02-(0[1-9]|1[0-9]|2[0-8]))"
    "|([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)"
)
_HOUR = "([01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = rf"{_HOUR}:[0-5][0-9](\.[0-9]{{1,9}})?(Z|[+-]{_HOUR})"
_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_LABEL = "[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
FORMATS = {
    "date": _DAY,
    "date-time": f"{_DAY}T{_TIME}",
    "email": rf"[a-zA-Z0-9_+-]{{1,32}}(\.[a-zA-Z0-9_+-]{{1,31}})?@{_LABEL}(\.{_LABEL}){{1,3}}",
    "ipv4": rf"{_BYTE}(\.{_BYTE}){{3}}",
    "time": _TIME,
    "uuid": "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
}
"""Texts of a format of RFC 3339, 4122, 5321 or 2673; not all of them, as of leap seconds."""
_NO_LEAP = {"date-time": "^.{17}[0-5]", "time": "^.{6}[0-5]"}
_IN_CLASS = {r"\d": "0-9", r"\w": "0-9A-Za-z_"}
_ESCAPE = re.compile(r"\\.", re.DOTALL)
_DATA = frozenset({"const", "default", "enum", "examples"})
_BY_NAME = frozenset(
    {"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"}
)
_COUNTS = frozenset(
    f"{end}{of}" for end in ("min", "max") for of in ("Contains", "Items", "Length", "Properties")
)


def expressions_of(schema: Mapping[str, Any]) -> list[str]:
    """All of which a text matches that keeps to the keywords of strings in `schema`; none: any text does.

    Raises: `ValueError`, with what cannot be held to.
    """
    found = []
    if (name := schema.get("format")) is not None:
        if name not in FORMATS:
            raise ValueError(f"the format {name!r:.40}")
        found.append(FORMATS[name])
    least = as_whole(schema.get("minLength", 0))
    most = as_whole(schema.get("maxLength", 0))
    if least is None or most is None or least < 0 or most < 0:
        raise ValueError("minLength or maxLength")
    if least or "maxLength" in schema:
        found.append(f"{_CHARACTER}{{{least},{most if 'maxLength' in schema else ''}}}")
    if (pattern := schema.get("pattern")) is not None:
        found.append(_whole(pattern))
    if any(size_written_out(one) > MAX_WRITTEN_OUT for one in found):
        raise ValueError("so many repetitions")
    return found


def narrowed(schema: Any) -> Any:
    """`schema` as the grammar's library means what other readers do: without the second 60 of any minute,
    and digits and letters of other scripts, which are none in the dialect of JSON Schema, and with counts as
    integers, of which 3.0 is one."""
    if isinstance(schema, list):
        return [narrowed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _narrowed_value(key, one) for key, one in schema.items()}
    if isinstance(pattern := schema.get("pattern"), str):
        found["pattern"] = in_ascii(pattern)
    if isinstance(named := schema.get("patternProperties"), dict):
        found["patternProperties"] = {in_ascii(key): narrowed(one) for key, one in named.items()}
    name = schema.get("format")
    no_leap = _NO_LEAP.get(name) if isinstance(name, str) else None
    if no_leap is not None and "pattern" not in schema:
        found["pattern"] = no_leap
    elif no_leap is not None:
        parts = found.get("allOf")
        found["allOf"] = [*(parts if isinstance(parts, list) else ()), {"pattern": no_leap}]
    return found


def _narrowed_value(key: str, value: Any) -> Any:
    if key in _DATA:
        return value
    if key in _BY_NAME and isinstance(value, dict):
        return {name: narrowed(one) for name, one in value.items()}
    if key in _COUNTS and (whole := as_whole(value)) is not None:
        return whole
    return narrowed(value)


def in_ascii(pattern: str) -> str:
    """Its digits and letters are those of ASCII, as ECMA 262 has it."""

    def written(found: re.Match[str]) -> str:
        part = found[0]
        if part[0] == "[":
            return _ESCAPE.sub(lambda inner: _IN_CLASS.get(inner[0], inner[0]), part)
        return f"[{_IN_CLASS[part]}]" if part in _IN_CLASS else part

    return _PART.sub(written, pattern)


def _whole(pattern: object) -> str:
    """The expression of all texts that hold what `pattern` matches, as JSON Schema has it."""
    if not isinstance(pattern, str) or set_operation(pattern) or _LOOKS.search(pattern):
        raise ValueError(f"the pattern {pattern!r:.40}")
    return "|".join(_branches(pattern))


def _branches(pattern: str) -> Iterator[str]:
    parts, depth, branch = _PART.findall(in_ascii(pattern)), 0, list[str]()
    for part in (*parts, None):
        if part is None or (part == "|" and depth == 0):
            yield _anchored(branch, pattern)
            branch = []
            continue
        depth += {"(": 1, ")": -1}.get(part, 0)
        branch.append(part)
    if depth:
        raise ValueError(f"the pattern {pattern!r:.40}")


def _anchored(branch: list[str], pattern: str) -> str:
    """Of the whole text; its anchors may stand at its ends alone."""
    begin, end = branch[:1] == ["^"], branch[-1:] == ["$"]
    inside = branch[begin : len(branch) - end]
    if "^" in inside or "$" in inside:
        raise ValueError(f"the pattern {pattern!r:.40}")
    before, behind = ("" if is_there else f"{_CHARACTER}*" for is_there in (begin, end))
    return f"{before}({''.join(inside)}){behind}"
