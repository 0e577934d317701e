"""Token mask: which tokens a row may draw, a bit for each.

Token i is bit `i % 32` of word `i // 32`, the form that grammar libraries fill in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

WORD_BITS = 32
WORTH_A_THREAD = 500_000
"""Bits of masks: to hand fewer of them to another thread takes longer than to work them out."""
Mask = npt.NDArray[np.int32]
"""`[words]`."""


def num_words(vocab_size: int) -> int:
    """Of a mask over so many tokens."""
    return -(-vocab_size // WORD_BITS)


def mask_of(token_ids: Sequence[int], vocab_size: int) -> Mask:
    """Allows these alone."""
    allowed = np.zeros(num_words(vocab_size) * WORD_BITS, dtype=bool)
    allowed[np.asarray(token_ids, dtype=np.int64)] = True
    return np.packbits(allowed, bitorder="little").view(np.int32)
