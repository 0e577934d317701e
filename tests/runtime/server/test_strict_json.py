from __future__ import annotations

import pytest

from octavo.server.http.strict_json import MAX_DEPTH, JsonError, decode


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


@pytest.mark.parametrize("text", [b"NaN", rb'"\ud800"', b'"\xff"', b"", b"[1", b"1e999"])
def test_what_is_no_json_is_told(text: bytes) -> None:
    with pytest.raises(JsonError):
        decode(text)
