"""Integers of a few bits come back from words as they went in."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from octavo.quantization.packed_words import num_words, unpack_words
from tests.support.runtime.quantised_checkpoints import awq_words, bit_stream


def random_values(bits: int, rows: int, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 2**bits, (rows, count), generator=generator)


@given(bits=st.integers(1, 8), rows=st.integers(1, 5), count=st.integers(1, 200))
def test_unpacking_undoes_packing(bits: int, rows: int, count: int) -> None:
    values = random_values(bits, rows, count)
    words = bit_stream(values, bits)
    assert words.shape[1] == num_words(count, bits)
    assert torch.equal(unpack_words(words, bits, count).long(), values)


@given(rows=st.integers(1, 5), eights=st.integers(1, 30))
def test_values_of_eight_can_belong_elsewhere_among_them(rows: int, eights: int) -> None:
    values = random_values(4, rows, 8 * eights)
    found = unpack_words(awq_words(values), 4, 8 * eights, (0, 2, 4, 6, 1, 3, 5, 7))
    assert torch.equal(found.long(), values)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_words_may_be_a_transpose(bits: int) -> None:
    values = random_values(bits, 24, 64)
    words = bit_stream(values, bits).T.contiguous()
    assert torch.equal(unpack_words(words.T, bits, 64).long(), values)
