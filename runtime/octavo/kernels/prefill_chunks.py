"""Prefill chunks. The prompt chunks of a step, as a kernel that reads pages in place takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from octavo.kernels.attention_plan import SequenceSpan


@dataclass(frozen=True, slots=True)
class PrefillChunks:
    """Rows of one step, chunk after chunk.

    Args:
        block_tables: `[chunks, blocks]` int64; what lies beyond a context is not read.
        context_lens: `[chunks]` int64, keys in the cache once the chunk is stored.
        query_start: `[chunks + 1]` int64, the first row of each and the end of the last.
    """

    block_tables: torch.Tensor
    context_lens: torch.Tensor
    query_start: torch.Tensor
    _pieces: dict[int, torch.Tensor] = field(default_factory=dict)

    def pieces(self, rows: int) -> torch.Tensor:
        """`[pieces, 3]` int64: all chunks cut into pieces of at most so many rows, as chunk, first row within
        it and rows. Those that attend to most come first, so that no thread ends with a long one."""
        found = self._pieces.get(rows)
        if found is None:
            found = self._pieces[rows] = self._cut(rows)
        return found

    def _cut(self, rows: int) -> torch.Tensor:
        starts, contexts = self.query_start.tolist(), self.context_lens.tolist()
        pieces = []
        for chunk, context in enumerate(contexts):
            count = starts[chunk + 1] - starts[chunk]
            for first in range(0, count, rows):
                here = min(rows, count - first)
                keys = context - count + first + here
                pieces.append((-keys * here, chunk, first, here))
        pieces.sort()
        return torch.tensor([piece[1:] for piece in pieces], dtype=torch.int64)


def make_prefill_chunks(spans: Sequence[SequenceSpan], block_size: int) -> PrefillChunks:
    contexts = np.array([span.context_length for span in spans], dtype=np.int64)
    starts = np.cumsum([0, *(span.num_rows for span in spans)], dtype=np.int64)
    tables = np.empty((len(spans), -(-int(contexts.max()) // block_size)), dtype=np.int64)
    for row, span in zip(tables, spans, strict=True):
        blocks = -(-span.context_length // block_size)
        row[:blocks] = span.block_ids[:blocks]
    return PrefillChunks(
        torch.from_numpy(tables), torch.from_numpy(contexts), torch.from_numpy(starts)
    )
