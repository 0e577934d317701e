"""Rules of a grammar for Python arguments: keywords in the order of the schema, with literals of Python's.

Only what Python and JSON write alike is let through, but for `True`, `False` and `None`: no escape that one
of them does not know, and no number that one of them cannot hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from octavo.server.openai.argument_values import Json, NotHeldError, Text
from octavo.server.openai.parsing.formats.pythonic import NAME, calls_in
from octavo.server.openai.parsing.python_literals import PythonValues
from octavo.server.openai.quoted_argument_rules import QuotedArgumentRules

_NO_NUMBERS = frozenset({"boolean", "null"})
_WRITTEN = {"boolean": '"True" | "False"', "null": '"None"'}
_FREE = {
    "integer": r"/-?(0|[1-9][0-9]{0,17})/",
    "number": r"/-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?/",
}
"""Those that a float holds, as JSON's are read."""
_TEXT = r"""/"([^"\\\x00]|\\["\\nrt])*"|'([^'\\\x00]|\\['\\nrt])*'/"""


def check_function(name: str) -> None:
    """Raises `NotHeldError` for a name that is read as another, or as none."""
    if not NAME.fullmatch(name) or calls_in(f"[{name}()]") != [(name, {})]:
        raise NotHeldError(f"the name {name!r:.40}")


@dataclass
class PythonArgumentRules(QuotedArgumentRules):
    """As of quoted arguments; `tags` say nothing more."""

    separator: ClassVar = ", "
    tags: PythonValues  # type: ignore[assignment]

    def __post_init__(self) -> None:
        self._add_members(self.name, self.schema, 0)
        self.rules.append(f"{self.name}: {self.name}_first_0")

    def _in_order(self, keys: Iterable[str]) -> list[str]:
        return [*keys]

    def _head(self, key: str, depth: int) -> str:
        if depth:
            return f"{json.dumps(key, ensure_ascii=False)}: "
        if calls_in(f"[f({key}=1)]") != [("f", {key: 1})]:
            raise NotHeldError(f"the property {key!r:.40}")
        return f"{key}="

    def _add_scalar(self, rule: str, value: Json) -> None:
        written = [_WRITTEN[kind] for kind in sorted(value.kinds & _NO_NUMBERS)]
        if numbers := sorted(value.kinds - _NO_NUMBERS):
            written.append(self._number(rule, numbers[-1], value.schema))
        self.rules.append(f"{rule}: {' | '.join(written)}")

    def _number(self, rule: str, kind: str, schema: Mapping[str, Any]) -> str:
        """`integer` and `number` together are the latter, which comes last."""
        if schema.keys() - {"type"}:
            self.schemas[rule] = {**schema, "type": kind}
            return f"@{rule}"
        self.rules.append(f"{rule.upper()}_N: {_FREE[kind]}")
        return f"{rule.upper()}_N"

    def _add_text(self, rule: str, text: Text) -> None:
        if not text.expressions:
            self.rules.append(f"{rule}: {rule.upper()}_T")
            self.rules.append(f"{rule.upper()}_T: {_TEXT}")
            return
        # The library escapes what matches an expression by what both languages know.
        self.schemas[rule] = {
            "type": "string",
            "allOf": [{"pattern": f"^({one})$"} for one in text.expressions],
        }
        self.rules.append(f"{rule}: @{rule}")

    def _literal_value(self, key: str, value: object) -> str:
        if isinstance(value, list | dict):
            raise NotHeldError(f"the lists and objects of {key!r:.40}")
        if isinstance(value, bool) or value is None:
            return self.literal(str(value))
        written = json.dumps(value, ensure_ascii=False)
        found = [self.literal(written)]
        if isinstance(value, str) and "'" not in value and written == f'"{value}"':
            found.append(self.literal(f"'{value}'"))
        return " | ".join(found)
