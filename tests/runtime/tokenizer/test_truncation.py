"""Truncation to so many tokens, held against the tokenizers library's own."""

from __future__ import annotations

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors

from octavo.errors import InvalidParameterError
from octavo.tokenizer import Side, Truncation
from tests.support.runtime.tokenizers_for_tests import (
    byte_level_tokenizer,
    metaspace_tokenizer,
    token_id,
)

END = {"byte-level": "<eos>", "metaspace": "</s>"}


def made(kind: str, processor: str) -> tokenizers.Tokenizer:
    tokenizer = byte_level_tokenizer() if kind == "byte-level" else metaspace_tokenizer()
    end = (END[kind], token_id(tokenizer, END[kind]))
    match processor:
        case "template":
            tokenizer.post_processor = processors.TemplateProcessing(
                single=f"$A {END[kind]}",
                pair=f"$A {END[kind]} $B:1 {END[kind]}:1",
                special_tokens=[end],
            )
        case "bert":
            tokenizer.post_processor = processors.BertProcessing(end, end)
        case "roberta":
            tokenizer.post_processor = processors.RobertaProcessing(end, end)
    return tokenizer


KINDS = [(kind, one) for kind in END for one in ("none", "template", "bert", "roberta")]
OURS = {kind: made(*kind) for kind in KINDS}
THEIRS = {kind: made(*kind) for kind in KINDS}
texts = st.builds(
    lambda words, times: " ".join(words) * times,
    st.lists(st.sampled_from(["hello", "world", "你好", "a", "naïve 😀", "", "  b"]), max_size=8),
    st.sampled_from([1, 1, 1, 1, 12]),
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(first=texts, second=texts, most=st.integers(5, 40), side=st.sampled_from(Side))
def test_what_is_kept_is_what_the_library_keeps(
    kind: tuple[str, str], first: str, second: str, most: int, side: Side
) -> None:
    ours, theirs, cut = OURS[kind], THEIRS[kind], Truncation(most, side)
    theirs.enable_truncation(most, direction=side.value)
    assert cut.encode(ours, first) == theirs.encode(first).ids
    plain = theirs.encode(first, add_special_tokens=False).ids
    assert cut.encode(ours, first, add_special_tokens=False) == plain
    pair, expected = cut.encode_pair(ours, first, second), theirs.encode(first, second)
    assert (pair.ids, pair.type_ids) == (expected.ids, expected.type_ids)
    whole = ours.encode(first, add_special_tokens=False).ids
    assert cut.ids(whole) == (whole[-most:] if side is Side.LEFT else whole[:most])


def test_special_tokens_need_room() -> None:
    backend = OURS["metaspace", "template"]
    assert Truncation(2).encode(backend, "hello hello") == backend.encode("hello").ids
    with pytest.raises(InvalidParameterError, match=r"is 1, which leaves no room .* 1 special"):
        Truncation(1).encode(backend, "hello")
    with pytest.raises(InvalidParameterError, match=r"is 2, which leaves no room .* 2 special"):
        Truncation(2).encode_pair(backend, "hello", "hello")
