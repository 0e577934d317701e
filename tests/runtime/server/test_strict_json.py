from __future__ import annotations

import time

import pytest

from octavo.json_depth import MAX_DEPTH
from octavo.server.http.body import decode_object
from octavo.server.http.strict_json import JsonError, decode
from octavo.server.openai.api_errors import ApiError


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth_is_bounded(opening: bytes, closing: bytes) -> None:
    def nested(depth: int) -> bytes:
        return opening * depth + b"1" + closing * depth

    assert decode(nested(MAX_DEPTH))
    for depth in (MAX_DEPTH + 1, 500, 100_000):
        with pytest.raises(JsonError, match="at most 100 levels"):
            decode(nested(depth))


def test_width_is_not_bounded_nor_are_brackets_in_texts() -> None:
    assert decode(b"[" + b"[1],{}," * 1000 + b"3]")
    assert decode(b'{"a": "' + b"[{" * 1000 + b'"}') == {"a": "[{" * 1000}


@pytest.mark.parametrize(
    ("written", "half", "place"),
    [
        (rb"\ud83d", rb"\ud83d", 12),
        (rb"\uD83D.", rb"\uD83D", 12),
        (rb"\ud83d\n", rb"\ud83d", 12),
        (rb"\ud83d\ud83d\ude00", rb"\ud83d", 12),
        (rb"\ud83d and \ude00", rb"\ud83d", 12),
        (rb"\ude00", rb"\ude00", 12),
        (rb"\ud83d\ude00\ude00", rb"\ude00", 24),
        (rb"\\\ud83d", rb"\ud83d", 14),
    ],
    ids=repr,
)
def test_half_a_character_is_told_with_its_place(written: bytes, half: bytes, place: int) -> None:
    with pytest.raises(JsonError) as told:
        decode(b'{"a": "smile' + written + b'"}')
    assert str(told.value).startswith(f"{half.decode()} at byte {place} is one half of a surrogate")


def test_what_only_looks_like_half_a_character_is_not_blamed() -> None:
    assert decode(rb'"\\ud83d"') == r"\ud83d"
    with pytest.raises(JsonError, match="truncated"):
        decode(rb'["\\ud83d", "\ud83d\ude00"')


def test_a_whole_character_may_be_escaped_in_two_halves() -> None:
    assert decode(rb'"\ud83d\ude00"') == "\U0001f600"


@pytest.mark.parametrize("wrong", [b"\xff", b"\x80", b"\xed\xa0\x80", b"\xc3("])
def test_a_byte_that_is_no_utf_8_is_told_with_its_place(wrong: bytes) -> None:
    with pytest.raises(JsonError, match=rf"^byte 12 \(0x{wrong[0]:02x}\) is no UTF-8"):
        decode(b'{"a": "smile' + wrong + b'"}')


@pytest.mark.parametrize("text", [b"NaN", rb'"\ud800"', b'"\xff"', b"", b"[1", b"1e999"])
def test_what_is_no_json_is_told(text: bytes) -> None:
    with pytest.raises(JsonError):
        decode(text)


@pytest.mark.parametrize(
    ("text", "path", "told"),
    [
        (b'{"temperature": 1e999}', "temperature", "temperature is 1e999, which"),
        (b'{"a": [{}, {"b": -1e309}]}', "a[1].b", "a[1].b is -1e309, which"),
        (b'{"a": 1, "seed": ' + b"7" * 5000 + b"}", "seed", "7… (5000 characters)"),
        (b'{"n": ' + b"1" * 400 + b', "x": ' + b"1" * 400 + b".0}", "x", "x is 111"),
        (
            b'{"a": [0, {"x": ' + b"[" * 40 + b"1e999" + b"]" * 40 + b"}]}",
            "a[1].x" + 13 * "[0]",
            "holds",
        ),
        (b' [1, {"a\\u002e": [ 1e999 ]}]', "[1].a.[0]", "[1].a.[0] is 1e999, which"),
        (b'{"x": 1e999, "x": 1}', None, "it holds a number"),
        (b'{"x": 1e999, ', None, "it holds a number"),
        (b"1e999", None, "a number is 1e999"),
    ],
)
def test_a_number_out_of_range_is_told_with_its_path(
    text: bytes, path: str | None, told: str
) -> None:
    with pytest.raises(JsonError) as refused:
        decode(text)
    assert refused.value.path == path
    assert told in str(refused.value)
    assert "out of range" in str(refused.value)
    assert len(str(refused.value)) < 200


def test_a_number_out_of_range_behind_a_million_others_is_found_in_no_time() -> None:
    begin = time.process_time()
    with pytest.raises(JsonError, match=r"^a\[1000000\] is 1e999"):
        decode(b'{"a": [' + b"0.1," * 1_000_000 + b"1e999]}")
    assert time.process_time() - begin < 1


def test_large_numbers_within_the_range_are_read() -> None:
    text = b'{"a": ' + b"1" * 4300 + b', "b": 1.7e308, "c": 1e-999}'
    assert decode(text) == {"a": int("1" * 4300), "b": 1.7e308, "c": 0.0}


def test_a_number_out_of_range_is_told_as_the_field() -> None:
    with pytest.raises(ApiError) as refused:
        decode_object(b'{"seed": 1e999}')
    assert (refused.value.status, refused.value.detail.param) == (400, "seed")
    assert refused.value.detail.code == "invalid_json"
