"""Packed words: integers of a few bits in words of 32, as AWQ, GPTQ and compressed-tensors store them.

The bits of a row are one stream, lowest first: value i has bits `i * bits` on, across words where they do not
divide 32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

_WORD_BITS = 32
_BYTE_BITS = 8


def num_words(count: int, bits: int) -> int:
    """That hold so many values."""
    return -(-count * bits // _WORD_BITS)


def unpack_words(
    words: torch.Tensor, bits: int, count: int, places: Sequence[int] = range(_BYTE_BITS)
) -> torch.Tensor:
    """Of int32 `[rows, words]`, the first `count` values of each row: `[rows, count]` uint8.

    Args:
        bits: Of a value, 1 to 8.
        places: Of every eight values, where each belongs among the eight.
    """
    rows = words.shape[0]
    # Flat first: where a row is one word, a transpose counts as contiguous, with strides that no view takes.
    stream = words.flatten().view(torch.uint8).view(rows, -1)
    values = stream.new_empty(rows, -(-count // _BYTE_BITS) * _BYTE_BITS)
    # Eight values are so many whole bytes: each of the eight lies at the same bits of its own bytes.
    for i, place in enumerate(places):
        byte, shift = divmod(i * bits, _BYTE_BITS)
        value = stream[:, byte::bits] >> shift
        if shift + bits > _BYTE_BITS:
            rest = stream[:, byte + 1 :: bits] << (_BYTE_BITS - shift)
            value = value[:, : rest.shape[1]] | rest
        targets = values[:, place::_BYTE_BITS]
        stored = value[:, : targets.shape[1]] & ((1 << bits) - 1)
        targets[:, : stored.shape[1]] = stored
    return values[:, :count]
