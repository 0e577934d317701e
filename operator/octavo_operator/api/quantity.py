"""Value types of the custom resource that YAML writes as text: quantities, durations, shares.

Kubernetes' quantities ("64Gi", "500m") and Go-like durations ("1h30m") stay text in the stored
object, because they are what the user wrote; the functions here turn them into numbers. Each type
carries its own OpenAPI schema with a CEL rule, so that the API server answers with a sentence
instead of a regular expression.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

_QUANTITY = re.compile(
    r"^(?P<number>[0-9]+(\.[0-9]+)?)(?P<suffix>m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?$",
)
_SUFFIXES: dict[str, Decimal] = {
    "m": Decimal("0.001"),
    "k": Decimal(10**3),
    "Ki": Decimal(2**10),
    "M": Decimal(10**6),
    "Mi": Decimal(2**20),
    "G": Decimal(10**9),
    "Gi": Decimal(2**30),
    "T": Decimal(10**12),
    "Ti": Decimal(2**40),
    "P": Decimal(10**15),
    "Pi": Decimal(2**50),
}
_DURATION = re.compile(r"^((?P<h>[0-9]{1,5})h)?((?P<m>[0-9]{1,6})m)?((?P<s>[0-9]{1,7})s)?$")
_SHARE = re.compile(r"^(0\.[0-9]{1,4}|1(\.0{1,4})?)$")
_SMALLEST_SHARE = 0.05


def parse_quantity(text: str) -> Decimal:
    """The number that a quantity means: "500m" is 0.5, "1Ki" is 1024. Raises ValueError."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a quantity; write a number with a unit such as 64Gi.")
    suffix = match.group("suffix")
    factor = _SUFFIXES[suffix] if suffix else Decimal(1)
    return Decimal(match.group("number")) * factor


def quantity_bytes(text: str) -> int:
    """A quantity of memory in whole bytes, rounded down. Raises ValueError."""
    return int(parse_quantity(text))


def duration_seconds(text: str) -> int:
    """Seconds of "90s", "5m" or "1h30m". Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError(f"{text!r} is not a duration; write it as 90s, 5m or 1h30m.")
    return (
        int(match.group("h") or 0) * 3600
        + int(match.group("m") or 0) * 60
        + int(match.group("s") or 0)
    )


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


def _rule(pattern: re.Pattern[str], message: str) -> dict[str, Any]:
    # CEL's regular expressions (RE2) name groups as Python does.
    return {"rule": f"self.matches({_cel_string(pattern.pattern)})", "message": message}


def _cel_string(text: str) -> str:
    return "r'" + text + "'"


Quantity = Annotated[
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
                    "rule": f"string(self).matches({_cel_string(_QUANTITY.pattern)})",
                    "message": "must be a quantity such as 8, 500m or 64Gi",
                }
            ],
        }
    ),
]
"""A Kubernetes quantity; a bare integer is accepted as Kubernetes does."""

MemoryQuantity = Annotated[
    str,
    AfterValidator(_checked_quantity),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 32,
            "x-kubernetes-validations": [_rule(_QUANTITY, "must be a quantity such as 512Mi")],
        }
    ),
]
"""A quantity that is always text, so that CEL can compare two of them."""

Duration = Annotated[
    str,
    AfterValidator(_checked_duration),
    WithJsonSchema(
        {
            "type": "string",
            "minLength": 2,
            "maxLength": 16,
            "x-kubernetes-validations": [
                _rule(_DURATION, "must be a duration such as 90s, 5m or 1h30m")
            ],
        }
    ),
]
"""Hours, minutes and seconds in this order."""

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
