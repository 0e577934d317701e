"""Decode rows. The rows of a step that decode, as a kernel that reads pages in place takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from octavo.kernels.attention_plan import SequenceSpan


@dataclass(frozen=True, slots=True)
class DecodeRows:
    """The first `count` rows of a step, one per sequence.

    Args:
        block_tables: `[count, blocks]` int64; what lies beyond a context is not read.
        context_lens: `[count]` int64, this step's token included.
        longest: The longest of them.
    """

    count: int
    block_tables: torch.Tensor
    context_lens: torch.Tensor
    longest: int


def count_decodes(spans: Sequence[SequenceSpan]) -> int:
    """How many spans, from the first on, are one row behind a context."""
    for index, span in enumerate(spans):
        if span.num_rows > 1 or span.context_length == 1:
            return index
    return len(spans)


def make_decode_rows(spans: Sequence[SequenceSpan], block_size: int) -> DecodeRows:
    """`spans` are of one row each."""
    contexts = np.array([span.context_length for span in spans], dtype=np.int64)
    longest = int(contexts.max())
    tables = np.empty((len(spans), -(-longest // block_size)), dtype=np.int64)
    for row, span in zip(tables, spans, strict=True):
        blocks = -(-span.context_length // block_size)
        row[:blocks] = span.block_ids[:blocks]
    return DecodeRows(len(spans), torch.from_numpy(tables), torch.from_numpy(contexts), longest)
