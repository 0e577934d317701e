"""Sizes as people and Kubernetes write them."""

from __future__ import annotations

import re

from octavo.errors import InvalidConfigurationError

_FACTORS = {
    "": 1,
    "k": 10**3,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
_QUANTITY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)([kKMGT]i?)?")


def parse_bytes(flag: str, text: str) -> int:
    """`256Mi`, `1.5G` or plain bytes. Raises `InvalidConfigurationError` naming the flag."""
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or (match[2] or "") not in _FACTORS:
        raise InvalidConfigurationError(
            f"{flag} is {text!r}; give bytes, or a size such as 256Mi or 2G."
        )
    return int(float(match[1]) * _FACTORS[match[2] or ""])
