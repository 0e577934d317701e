"""Sizes as people and Kubernetes write them: `256Mi`, `1.5G`, `2e9`.

A parser of our own, because the runtime's image has no Kubernetes client; tests/contract compares the two.
"""

from __future__ import annotations

import re
from decimal import Decimal

from octavo.errors import InvalidConfigurationError

_MAX_CHARACTERS = 32
_PREFIXES = "kMGTPE"
_FACTORS = {
    "": 1,
    "K": 10**3,  # not Kubernetes', but people write it
    **{prefix: 1000**power for power, prefix in enumerate(_PREFIXES, 1)},
    **{f"{prefix.upper()}i": 1024**power for power, prefix in enumerate(_PREFIXES, 1)},
}
_QUANTITY = re.compile(
    r"\+?([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3}|[kKMGTPE]i?)?", re.ASCII
)


def parse_bytes(flag: str, text: str) -> int:
    """`256Mi`, `1.5G`, `2e9` or plain bytes, rounded down.

    Raises `InvalidConfigurationError` naming the flag.
    """
    text = text.strip()
    match = _QUANTITY.fullmatch(text) if len(text) <= _MAX_CHARACTERS else None
    number, suffix = (match[1], match[2] or "") if match else ("", "")
    if suffix[1:].lstrip("+-").isdigit():  # `e9`; `E` alone is a factor
        number, suffix = number + suffix, ""
    if match is None or suffix not in _FACTORS:
        raise InvalidConfigurationError(
            f"{flag} is {text!r}; give bytes, or a size such as 256Mi or 2G."
        )
    return int(Decimal(number) * _FACTORS[suffix])
