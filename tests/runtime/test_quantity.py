from __future__ import annotations

import pytest

from octavo.errors import InvalidConfigurationError
from octavo.quantity import parse_bytes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("1024", 1024),
        ("256Mi", 268435456),
        ("2G", 2_000_000_000),
        ("1.5Ki", 1536),
        ("3k", 3000),
        ("3K", 3000),
        ("1Ei", 2**60),
        ("9223372036854775807", 2**63 - 1),
        (".5Gi", 2**29),
        ("2.", 2),
        ("129e6", 129_000_000),
        ("2E9", 2_000_000_000),
        ("2E", 2 * 10**18),
        ("+1Ki", 1024),
    ],
)
def test_a_size_is_read_as_kubernetes_reads_it(text: str, expected: int) -> None:
    assert parse_bytes("--x", text) == expected


@pytest.mark.parametrize(
    "text", ["", "Mi", "-1", "1 GB", "1e9Mi", "1e9999", "NaN", "12Mib", "٣", "1ki", "9" * 40]
)
def test_what_is_no_size_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidConfigurationError, match="--x is"):
        parse_bytes("--x", text)
