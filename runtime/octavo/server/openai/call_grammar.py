"""Call grammar: what holds a model to calls, in the format that it was trained to write.

In Lark's syntax with llguidance's additions. The arguments of tool i are `@tool_i`, and an answer in place of
calls is `@content`: schemas that stand beside the grammar, so that no error shows the one with the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from octavo.grammar_text import text_up_to, written
from octavo.server.openai.bare_argument_rules import BareArgumentRules
from octavo.server.openai.parsing.bare_arguments import BareTags
from octavo.server.openai.parsing.formats.base import ID, NUMBER, CallShape
from octavo.server.openai.parsing.python_literals import PythonValues
from octavo.server.openai.parsing.quoted_arguments import QuoteTag
from octavo.server.openai.python_argument_rules import PythonArgumentRules, check_function
from octavo.server.openai.quoted_argument_rules import QuotedArgumentRules

_TERMINALS = (r"TEXT: /(.|\n)*/", "NUMBER: /[0-9]{1,4}/", "ID: /[a-z0-9]{10}/")
_PLACES = {NUMBER: "NUMBER", ID: "ID"}


class CallGrammar:
    """Args:
        parameters: Schemas by the names of the functions.
        special: Texts of the tokenizer's special tokens: a tag may be one.

    Attributes:
        schemas: What it refers to.

    Raises: `NotHeldError`.
    """

    def __init__(
        self,
        shape: CallShape,
        parameters: Mapping[str, dict[str, Any]],
        special: Mapping[int, str],
        *,
        is_parallel: bool,
    ) -> None:
        self._shape = shape
        self._ids = {text: token_id for token_id, text in special.items()}
        several = is_parallel and shape.separator is not None
        more = f" ({self._literal(shape.separator or '')} call)*" if several else ""
        self._rules = [
            f"section: {self._literal(shape.tag)} rest",
            f"rest: {self._literal(shape.begin)} call{more} {self._literal(shape.end)}",
            f"call: {' | '.join(f'call_{number}' for number in range(len(parameters)))}",
        ]
        self.schemas: dict[str, dict[str, Any]] = {}
        for number, (name, schema) in enumerate(parameters.items()):
            if isinstance(shape.notation, PythonValues):
                check_function(name)
            begin, end = self._literal(shape.call(name)), self._literal(shape.call_end)
            arguments = self._arguments(f"tool_{number}", schema)
            self._rules.append(f"call_{number}: {begin} {arguments} {end}")
        self._sections = "section"
        if is_parallel and shape.separator is None and shape.between is not None:
            self._sections = f"section ({self._literal(shape.between)} section)*"
        self._any_number = "*" if is_parallel else "?"

    def _arguments(self, name: str, schema: dict[str, Any]) -> str:
        if self._shape.notation is None:
            self.schemas[name] = schema
            return f"@{name}"
        found: BareArgumentRules | QuotedArgumentRules
        match self._shape.notation:
            case QuoteTag() as notation:
                found = QuotedArgumentRules(name, schema, notation, self._literal)
            case PythonValues() as notation:
                found = PythonArgumentRules(name, schema, notation, self._literal)
            case BareTags() as notation:
                found = BareArgumentRules(name, schema, notation, self._literal)
        self._rules += found.rules
        self.schemas |= found.schemas
        return name

    def of_calls(self) -> str:
        return self._grammar(f"start: {self._sections}")

    def of_calls_or_content(self) -> str:
        content = self._literal(self._shape.content)
        return self._grammar(f"start: {content} @content | {self._sections}")

    def of_text_and_calls(self) -> str:
        """The first tag ends the text: from there on it is a call. Where text has a head, it is one or the
        other."""
        if self._shape.content:
            return self._grammar(
                f"start: {self._literal(self._shape.content)} TEXT | {self._sections}"
            )
        tag = self._literal(self._shape.tag)
        rules = "led: lead rest", text_up_to("lead", tag)
        return self._grammar(f"start: led{self._any_number} TEXT", *rules)

    def _grammar(self, *rules: str) -> str:
        return "\n".join(["%llguidance {}", *rules, *self._rules, *_TERMINALS])

    def _literal(self, text: str) -> str:
        parts = re.split(f"([{NUMBER}{ID}])", text)
        return " ".join(_PLACES.get(part) or written(part, self._ids) for part in parts if part)
