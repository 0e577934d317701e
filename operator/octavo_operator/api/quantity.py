"""Quantities, durations and shares: value types of the custom resource that YAML writes as text.

They stay text in the stored object, because they are what the user wrote; the functions here turn them into
numbers. What counts as a quantity ("64Gi", "500m", "1e3") or a duration ("1h30m") is Kubernetes' to say: the
API server asks its own parser (CEL's `quantity`), the operator the Kubernetes client's. Each type carries its
OpenAPI schema with a CEL rule, so that the API server answers with a sentence instead of a regular
expression. How large or small a value may be is the schema's to refuse: the operator goes on with an object
that was stored under earlier rules.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Annotated

from kubernetes.utils import quantity as client_quantity
from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

# The client's parser takes more than the API server: "1K", "1mi", " 1", "1_000", "NaN".
_QUANTITY = re.compile(
    r"\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+|[numkMGTPE]|[KMGTPE]i)?", re.ASCII
)
_LARGEST_QUANTITY = Decimal(2**63 - 1)
# GEP-2257, as the Gateway API has it.
_DURATION = re.compile(r"^([0-9]{1,5}(h|m|s|ms)){1,4}$")
# What is stored may be older than the rules: the schema once took up to seven digits.
_STORED_DURATION = re.compile(r"([0-9]{1,7}(h|m|s|ms)){1,4}", re.ASCII)
_UNIT_MILLISECONDS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_SHARE = re.compile(r"^(0\.[0-9]{1,4}|1(\.0{1,4})?)$")
_SMALLEST_SHARE = 0.05
_SMALLEST_MEMORY = "1Mi"


def parse_quantity(text: str) -> Decimal:
    """The number that a quantity means: "500m" is 0.5, "1Ki" is 1024. Raises ValueError.

    Numbers beyond 64 bits are the largest one there, as in Kubernetes.
    """
    if _QUANTITY.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a quantity; write a number with a unit such as 64Gi.")
    number: Decimal = client_quantity.parse_quantity(text)
    return min(number, _LARGEST_QUANTITY)


def quantity_bytes(text: str) -> int:
    """A quantity of memory in whole bytes, rounded down. Raises ValueError."""
    return int(parse_quantity(text))


def duration_seconds(text: str) -> int:
    """Seconds of "90s", "5m" or "1h30m", rounded up. Raises ValueError."""
    if _STORED_DURATION.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a duration; write it as 90s, 5m or 1h30m.")
    parts = re.findall(r"([0-9]+)(h|ms|m|s)", text)
    return math.ceil(sum(int(number) * _UNIT_MILLISECONDS[unit] for number, unit in parts) / 1000)


def _checked_quantity(text: str) -> str:
    parse_quantity(text)
    return text


def _checked_duration(text: str) -> str:
    duration_seconds(text)
    return text


def _checked_share(text: str) -> str:
    if _SHARE.fullmatch(text) is None or float(text) < _SMALLEST_SHARE:
        raise ValueError(f'{text!r} is not a share; write a quoted number such as "0.9".')
    return text


def _text(value: object) -> object:
    """A bare number in YAML ("cpu: 8") means the same as its quoted form."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _cel_string(text: str) -> str:
    return "r'" + text + "'"


def _at_least(smallest: str, text: str) -> str:
    """A rule on a text that may be no quantity at all."""
    return f"isQuantity({text}) && quantity({text}).compareTo(quantity('{smallest}')) >= 0"


_MEMORY_HELP = f"must be a quantity of at least {_SMALLEST_MEMORY}, such as 512Mi"

CpuQuantity = Annotated[
    str,
    BeforeValidator(_text),
    AfterValidator(_checked_quantity),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "maxLength": 32,
            "x-kubernetes-validations": [
                {
                    "rule": "isQuantity(string(self)) && quantity(string(self)).isGreaterThan(quantity('0'))",
                    "message": "must be a quantity above 0, such as 8 or 500m",
                }
            ],
        }
    ),
]
"""Cores; a bare integer is accepted as Kubernetes does."""

MemoryQuantity = Annotated[
    str,
    BeforeValidator(_text),
    AfterValidator(_checked_quantity),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "maxLength": 32,
            "x-kubernetes-validations": [
                {"rule": _at_least(_SMALLEST_MEMORY, "string(self)"), "message": _MEMORY_HELP}
            ],
        }
    ),
]
"""Memory, or a volume's size; a bare integer counts bytes, as in Kubernetes."""

Duration = Annotated[
    str,
    AfterValidator(_checked_duration),
    WithJsonSchema(
        {
            "type": "string",
            "minLength": 2,
            "maxLength": 16,
            "x-kubernetes-validations": [
                {
                    "rule": f"self.matches({_cel_string(_DURATION.pattern)})",
                    "message": "must be a duration such as 90s, 5m or 1h30m",
                }
            ],
        }
    ),
]
"""Hours, minutes, seconds and milliseconds, as in the Gateway API."""

Share = Annotated[
    str,
    AfterValidator(_checked_share),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 8,
            "x-kubernetes-validations": [
                {
                    "rule": (
                        f"self.matches({_cel_string(_SHARE.pattern)}) "
                        f"&& double(self) >= {_SMALLEST_SHARE}"
                    ),
                    "message": 'must be a quoted number from "0.05" to "1"',
                }
            ],
        }
    ),
]
"""A part of a whole, as quoted decimal text: the API conventions allow no floats in a spec."""
