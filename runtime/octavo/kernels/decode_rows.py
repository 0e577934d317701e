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
    """

    count: int
    block_tables: torch.Tensor
    context_lens: torch.Tensor


class DecodeTables:
    """Memory for the decode rows of one step after another.

    Args:
        max_rows: More of them get memory of their own.
        max_blocks: Of a context.
    """

    def __init__(self, max_rows: int, max_blocks: int) -> None:
        self._tables = np.empty((max_rows, max_blocks), dtype=np.int64)
        self._contexts = np.empty(max_rows, dtype=np.int64)

    def of(self, rows: int, longest: int) -> tuple[np.ndarray, np.ndarray]:
        """Tables `[rows, blocks]` of `longest` blocks or more, and context lengths `[rows]`."""
        if rows > len(self._contexts):
            return np.empty((rows, longest), dtype=np.int64), np.empty(rows, dtype=np.int64)
        return self._tables[:rows], self._contexts[:rows]


def count_decodes(spans: Sequence[SequenceSpan]) -> int:
    """How many spans, from the first on, are one row behind a context."""
    for index, span in enumerate(spans):
        if span.num_rows > 1 or span.context_length == 1:
            return index
    return len(spans)


def make_decode_rows(
    spans: Sequence[SequenceSpan], block_size: int, memory: DecodeTables
) -> DecodeRows:
    """`spans` are of one row each; the result is valid until the next in the same memory."""
    longest = max(span.context_length for span in spans)
    tables, contexts = memory.of(len(spans), -(-longest // block_size))
    for row, span in enumerate(spans):
        blocks = -(-span.context_length // block_size)
        tables[row, :blocks] = span.block_ids[:blocks]
        contexts[row] = span.context_length
    return DecodeRows(len(spans), torch.from_numpy(tables), torch.from_numpy(contexts))
