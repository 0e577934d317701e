from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.engine.requests.detokenizer import IncrementalDetokenizer
from tests.support.runtime.tokenizers_for_tests import (
    byte_level_tokenizer,
    byte_token,
    metaspace_tokenizer,
    token_id,
)

BYTE_LEVEL = byte_level_tokenizer()
METASPACE = metaspace_tokenizer()


def decode_in_pieces(
    token_ids: list[int], prompt: list[int] | None = None, tokenizer: object = BYTE_LEVEL
) -> list[str]:
    detokenizer = IncrementalDetokenizer(
        tokenizer,  # type: ignore[arg-type]
        prompt or [],
        skip_special_tokens=True,
    )
    return [*(detokenizer.push(token_id) for token_id in token_ids), detokenizer.flush()]


@given(st.text(), st.text())
def test_the_pieces_are_the_text_and_none_is_broken(prompt: str, text: str) -> None:
    prompt = prompt.replace("\ufffd", "")
    text = text.replace("\ufffd", "")
    pieces = decode_in_pieces(BYTE_LEVEL.encode(text).ids, BYTE_LEVEL.encode(prompt).ids)
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_character_appears_with_its_last_byte() -> None:
    tokens = [byte_token(BYTE_LEVEL, byte) for byte in "€".encode()]
    assert decode_in_pieces(tokens) == ["", "", "€", ""]


def test_a_character_that_is_cut_off_is_dropped_and_what_precedes_it_kept() -> None:
    tokens = [byte_token(BYTE_LEVEL, byte) for byte in b"a " + "€".encode()[:2]]
    assert "".join(decode_in_pieces(tokens)) == "a "


def test_a_prompt_that_ends_within_a_character_is_not_repeated() -> None:
    euro = [byte_token(BYTE_LEVEL, byte) for byte in "€".encode()]
    pieces = decode_in_pieces(
        [*euro[1:], *BYTE_LEVEL.encode("ok").ids], [*BYTE_LEVEL.encode("hello").ids, euro[0]]
    )
    assert "hello" not in "".join(pieces)
    assert "".join(pieces).endswith("ok")


@settings(deadline=None)
@given(st.lists(st.integers(0x80, 0xFF), min_size=0, max_size=60))
def test_bytes_that_are_no_text_do_not_hold_the_rest_back(garbage: list[int]) -> None:
    tokens = [byte_token(BYTE_LEVEL, byte) for byte in garbage]
    pieces = decode_in_pieces([*tokens, *BYTE_LEVEL.encode("hello there").ids])
    assert "".join(pieces).endswith("hello there")


def test_a_long_run_of_invalid_bytes_is_given_out_on_the_way() -> None:
    pieces = decode_in_pieces([byte_token(BYTE_LEVEL, 0x80)] * 100)
    assert max(map(len, pieces)) < 20
    assert set("".join(pieces)) == {"\ufffd"}


def test_special_tokens_are_left_out() -> None:
    eos = token_id(BYTE_LEVEL, "<eos>")
    tokens = BYTE_LEVEL.encode("hello there").ids
    assert "".join(decode_in_pieces([eos, *tokens[:1], eos, *tokens[1:]])) == "hello there"


@pytest.mark.parametrize(("prompt", "expected"), [("", "hello hello"), ("abc", " hello hello")])
def test_a_leading_space_belongs_to_the_output_only_after_a_prompt(
    prompt: str, expected: str
) -> None:
    tokens = METASPACE.encode("hello hello").ids
    assert len(tokens) == 2
    pieces = decode_in_pieces(tokens, METASPACE.encode(prompt).ids, METASPACE)
    assert "".join(pieces) == expected


def test_byte_fallback_makes_whole_characters() -> None:
    pieces = decode_in_pieces(METASPACE.encode("a€b").ids, METASPACE.encode("a").ids, METASPACE)
    assert "".join(pieces) == " a€b"
    assert not any("\ufffd" in piece for piece in pieces)
