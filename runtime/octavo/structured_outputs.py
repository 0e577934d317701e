"""Structured outputs: what a completion must be a document of. Names and meaning are vLLM's."""

from __future__ import annotations

import json as json_text
import re
from typing import Any

import msgspec

from octavo.errors import InvalidParameterError
from octavo.json_depth import is_too_deep
from octavo.schema_numbers import MOST_STATES, first_unsafe_literal, first_unsafe_number
from octavo.schema_patterns import (
    MAX_WRITTEN_OUT,
    patterns_of,
    set_operation,
    size_written_out,
)
from octavo.schema_references import endless_reference
from octavo.structural_tag import (
    Format,
    JsonSchemaFormat,
    RegexFormat,
    nodes_of,
    read_structural_tag,
)

MAX_BYTES = 65_536
MAX_DEPTH = 64
_KINDS = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")
_TYPES = {
    "json": dict | str,
    "choice": list,
    "json_object": bool,
    "structural_tag": dict | str,
}
"""Of those that are no texts alone."""
_OPTIONS = "x-guidance"
"""With it a schema would change how strictly it is kept to."""
_OLD_DIALECT = re.compile(r"draft-0[0-3]\b")
"""Of `$schema`: a keyword of theirs (`divisibleBy`, `disallow`, `extends`) would be left out in silence."""
_ENDS_ESCAPING = re.compile(r"(?<!\\)(\\\\)*\\\Z")
_BRACKETS = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}


class ReasoningTags(msgspec.Struct, frozen=True):
    """Of what a model thinks before the document begins. It is not constrained.

    Args:
        is_open: It begins at once, else the model may open it.
        behind: Stands behind the closing tag, and only there.
        before: Stands before the document.
    """

    opening: str
    closing: str
    is_open: bool
    behind: str = ""
    before: str = ""


class StructuredOutputsParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of these says what the whole completion is. Raises `InvalidParameterError` when built otherwise.

    Whether a schema or grammar can be kept to is known once it is compiled: what cannot is refused by name.

    Args:
        json: A JSON schema (draft 2020-12), as an object or as text.
        regex: A regular expression that matches the whole, without look-around.
        choice: One of these strings.
        grammar: A context-free grammar in Lark's syntax with llguidance's additions; it begins at `start`.
        json_object: Any JSON object.
        structural_tag: Text in some places, and held to schemas or expressions in others: the object that
            xgrammar and vLLM call so, or that as text.
        schemas: JSON schemas that `grammar` refers to, as `@` and their name.
        places: What errors call these schemas.
        reasoning: What stands before all of it.
        parameter: What errors call it: the field that its user wrote.
    """

    json: dict[str, Any] | str | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    structural_tag: dict[str, Any] | str | None = None
    schemas: dict[str, dict[str, Any]] | None = None
    places: dict[str, str] | None = None
    reasoning: ReasoningTags | None = None
    parameter: str = "structured_outputs"

    def __post_init__(self) -> None:
        given = [name for name in _KINDS if getattr(self, name) not in (None, False)]
        if len(given) != 1:
            found = "none" if not given else " and ".join(given)
            raise self._invalid(f"must hold exactly one of {', '.join(_KINDS)}; it holds {found}")
        kind = given[0]
        value = getattr(self, kind)
        wanted = _TYPES.get(kind, str)
        if not isinstance(value, wanted):
            raise self._invalid(f"holds {kind} {value!r:.80}, which is of the wrong type")
        if isinstance(value, list) and not (value and all(isinstance(one, str) for one in value)):
            raise self._invalid("holds a choice that is no list of strings, or an empty one")
        text = value if isinstance(value, str) else self._as_text(kind, value)
        try:
            size = len(text.encode())
        except UnicodeEncodeError as error:
            raise self._invalid(f"holds {kind} that is no text: {error}") from None
        if size > MAX_BYTES:
            raise self._invalid(f"holds {kind} of more than {MAX_BYTES} bytes; make it shorter")
        if isinstance(value, str) and _depth_of_text(text) > MAX_DEPTH:
            raise self._too_deep(kind)
        if len(self._as_text("schemas", self.schemas).encode()) > MAX_BYTES:
            raise self._invalid(f"holds schemas of more than {MAX_BYTES} bytes; make them shorter")
        for schema in (self.schemas or {}).values():
            self._check_schema(schema)
        match kind:
            case "json":
                self._check_schema(value)
            case "structural_tag":
                self._check_tag()
            case "regex" | "grammar":
                self._check_pattern(kind, text)

    @property
    def schema(self) -> dict[str, Any]:
        """`json` as an object, or that of `json_object`."""
        if isinstance(self.json, str):
            found: dict[str, Any] = json_text.loads(self.json)
            return found
        return {"type": "object"} if self.json is None else self.json

    @property
    def tag_format(self) -> Format | None:
        """The tree of `structural_tag`."""
        if self.structural_tag is None:
            return None
        return read_structural_tag(_decoded(self.structural_tag))

    @property
    def key(self) -> str:
        """Equal for equal ones alone."""
        tags = None if self.reasoning is None else msgspec.structs.astuple(self.reasoning)
        return json_text.dumps([*(getattr(self, name) for name in _KINDS), self.schemas, tags])

    def _check_tag(self) -> None:
        try:
            document = _decoded(self.structural_tag)
            if is_too_deep(document, MAX_DEPTH):
                raise self._too_deep("a structural_tag")
            tree = read_structural_tag(document)
        except (TypeError, ValueError) as error:
            raise self._invalid(f"holds a structural_tag that is none: {error}") from None
        for node in nodes_of(tree):
            if isinstance(node, JsonSchemaFormat):
                self._check_schema(node.json_schema)
            elif isinstance(node, RegexFormat):
                self._check_pattern("pattern", node.pattern)

    def _check_schema(self, schema: object) -> None:
        if isinstance(schema, str):
            try:
                schema = json_text.loads(schema)
            except ValueError as error:
                raise self._invalid(f"holds a schema that is no JSON: {error}") from None
        if not isinstance(schema, dict):
            raise self._invalid("holds a schema that is no object")
        if is_too_deep(schema, MAX_DEPTH):
            raise self._too_deep("json")
        dialect = _OLD_DIALECT.search(str(schema.get("$schema")))
        if dialect is not None:
            raise self._invalid(
                f"holds a schema of {dialect[0]}, whose keywords are no longer known; use draft 2020-12"
            )
        if _OPTIONS in schema:
            raise self._invalid(f"holds a schema with {_OPTIONS}; leave it out")
        if (number := first_unsafe_number(schema)) is not None:
            raise self._invalid(
                f"holds the number {_written(number)}, which cannot be held to exactly; multipleOf is at "
                f"most {MOST_STATES:,}, others lie within 64 bits and have no more digits than a float keeps"
            )
        if (reference := endless_reference(schema)) is not None:
            raise self._invalid(
                f"holds the reference {reference!r:.80}, which leads to itself; define what it refers to"
            )
        for pattern in patterns_of(schema):
            self._check_pattern("pattern", pattern)

    def _check_pattern(self, kind: str, text: str) -> None:
        if size_written_out(text) > MAX_WRITTEN_OUT + len(text):
            raise self._invalid(
                f"holds a {kind} that is longer than {MAX_WRITTEN_OUT} characters with its repetitions "
                "written out; repeat less"
            )
        if kind != "grammar" and _ENDS_ESCAPING.search(text):
            raise self._invalid(f"holds a {kind} that ends with a single backslash")
        if kind == "grammar":
            if (literal := first_unsafe_literal(text)) is not None:
                raise self._invalid(
                    f"holds the number {literal:.40}, which is too small to be held to"
                )
        elif (operation := set_operation(text)) is not None:
            raise self._invalid(
                f"holds a {kind} with {operation} in a class, which dialects read in two ways; write it "
                "without"
            )

    def _as_text(self, kind: str, value: object) -> str:
        try:
            return json_text.dumps(value, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise self._invalid(f"holds {kind} that is no JSON: {error}") from None

    def _too_deep(self, kind: str) -> InvalidParameterError:
        return self._invalid(f"holds {kind} nested more than {MAX_DEPTH} deep; make it flatter")

    def _invalid(self, what: str) -> InvalidParameterError:
        return InvalidParameterError(self.parameter, f"{self.parameter} {what}.")


def _decoded(tag: object) -> dict[str, Any]:
    """Raises `ValueError`, or `TypeError` where it is no object."""
    found = json_text.loads(tag) if isinstance(tag, str) else tag
    if not isinstance(found, dict):
        raise TypeError("it is no object")
    return found


def _written(number: float) -> str:
    if isinstance(number, int) and abs(number) >= 10**40:
        return "of more than 40 digits"
    return str(number)


def _depth_of_text(text: str) -> int:
    """At least that of its nesting; brackets within strings and classes count too."""
    depth = deepest = 0
    for character in text:
        if step := _BRACKETS.get(character):
            depth += step
            deepest = max(deepest, depth)
    return deepest
