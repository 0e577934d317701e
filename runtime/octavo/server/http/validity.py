"""Validity of a certificate: from when to when it holds.

Python's `ssl` tells it of a peer's certificate alone, and no library that we have reads one; of its DER this
takes the one field.
"""

from __future__ import annotations

import binascii
import re
from datetime import UTC, datetime
from typing import NamedTuple

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_VERSION, _UTC_TIME = 0xA0, 0x17
_LONG = 0x80
_CENTURY_TURNS = 50
"""Years of two digits from here on are of the last century (RFC 5280)."""


class Validity(NamedTuple):
    begin: datetime
    end: datetime


def validity(pem: bytes) -> Validity | None:
    """Of the first certificate, which is the server's; None where that cannot be read."""
    try:
        found = _PEM.search(pem)
        return None if found is None else _validity(binascii.a2b_base64(found[1]))
    except (ValueError, IndexError):  # `binascii.Error` is a ValueError
        return None


class _Element(NamedTuple):
    tag: int
    begin: int
    end: int


def _validity(der: bytes) -> Validity:
    signed = _element(der, _element(der, 0).begin)
    field = _element(der, signed.begin)
    if field.tag == _VERSION:
        field = _element(der, field.end)
    for _ in ("signature", "issuer", "validity"):
        field = _element(der, field.end)
    begin = _element(der, field.begin)
    return Validity(_moment(der, begin), _moment(der, _element(der, begin.end)))


def _element(der: bytes, at: int) -> _Element:
    tag, length, begin = der[at], der[at + 1], at + 2
    if length >= _LONG:
        digits = length - _LONG
        length = int.from_bytes(der[begin : begin + digits], "big")
        begin += digits
    return _Element(tag, begin, begin + length)


def _moment(der: bytes, time: _Element) -> datetime:
    text = der[time.begin : time.end].decode("ascii")
    if time.tag == _UTC_TIME:
        text = ("19" if int(text[:2]) >= _CENTURY_TURNS else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
