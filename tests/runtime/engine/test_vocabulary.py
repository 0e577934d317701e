"""A token's bytes and text, whichever way its vocabulary writes them."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models

from octavo.engine.requests.vocabulary import Vocabulary
from tests.support.runtime.tokenizers_for_tests import (
    byte_level_tokenizer,
    metaspace_tokenizer,
    token_id,
)

BYTE_LEVEL = byte_level_tokenizer()
METASPACE = metaspace_tokenizer()


def word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "run": 1, "##ning": 2, "\u00e9t\u00e9": 3}))
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    return tokenizer


@pytest.mark.parametrize(
    "text",
    [" world \U0001f600!", "\u4f60\u597d na\u00efve", "\u20ac", "\U0001f468\u200d\U0001f469"],
)
@pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, METASPACE], ids=["byte-level", "byte-fallback"])
def test_the_bytes_of_all_tokens_are_the_text(tokenizer: Tokenizer, text: str) -> None:
    vocabulary = Vocabulary(tokenizer)
    known = text.replace("!", "") if tokenizer is METASPACE else text
    joined = b"".join(vocabulary.bytes_of(number) for number in tokenizer.encode(known).ids)
    assert joined.decode().strip() == known.strip()


def test_words_that_go_on_have_no_space_before_them() -> None:
    vocabulary = Vocabulary(word_piece())
    assert b"".join(map(vocabulary.bytes_of, [3, 1, 2])).decode() == " \u00e9t\u00e9 running"
    assert vocabulary.text_of(2) == "ning"


def test_added_tokens_are_what_they_say() -> None:
    """Also one that byte-level vocabularies would have to write otherwise, or that looks like a byte."""
    tokenizer = byte_level_tokenizer()
    tokenizer.add_tokens(
        [AddedToken("\u00e9 \u010a", normalized=False), AddedToken("<0x41>", normalized=False)]
    )
    tokenizer.add_special_tokens([AddedToken("<|\u00e9|>", special=True)])
    vocabulary = Vocabulary(tokenizer)
    for content in ("\u00e9 \u010a", "<0x41>", "<|\u00e9|>"):
        assert vocabulary.bytes_of(token_id(tokenizer, content)) == content.encode()
    assert set(vocabulary.special.values()) == {"<eos>", "<|\u00e9|>"}


def test_single_tokens_keep_their_leading_space() -> None:
    vocabulary = Vocabulary(METASPACE)
    assert vocabulary.text_of(token_id(METASPACE, "\u2581hello")) == " hello"
    assert vocabulary.bytes_of(token_id(METASPACE, "\u2581hello")) == b" hello"
    assert vocabulary.text_of(token_id(METASPACE, "lo")) == "lo"
    assert Vocabulary(BYTE_LEVEL).text_of(token_id(BYTE_LEVEL, "<eos>")) == "<eos>"


def test_an_id_beyond_the_vocabulary_has_no_bytes() -> None:
    assert Vocabulary(BYTE_LEVEL).bytes_of(10**6) == b""
