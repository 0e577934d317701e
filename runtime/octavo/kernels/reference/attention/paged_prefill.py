"""Causal attention of several sequences' chunks to their paged keys, said as plainly as possible."""

from __future__ import annotations

import itertools

import torch

from octavo.kernels.attention_options import AttentionOptions
from octavo.kernels.reference.attention.dense import attend, gather_sequence


def paged_prefill(
    query: torch.Tensor,
    cache: torch.Tensor,
    block_tables: torch.Tensor,
    context_lens: torch.Tensor,
    query_start: torch.Tensor,
    out: torch.Tensor,
    max_query_len: int,
    options: AttentionOptions,
) -> None:
    """Attends each chunk's rows to the sequence's keys up to each row's own.

    Args:
        query: `[tokens, query_heads, head_dim]`; rows from `query_start[-1]` on are padding.
        cache: As in `paged_decode`; the chunks' own keys and values are in it already.
        block_tables: `[seqs, max_blocks]` int32.
        context_lens: `[seqs]` int32: keys in the cache, this chunk's included. Row i of a chunk of n rows
            is at position `context_len - n + i`.
        query_start: `[seqs + 1]` int32, the first row of each chunk; rising.
        out: Like `query`; padding rows are left as they are.
        max_query_len: No chunk is longer; known without asking the device.
    """
    starts = query_start.tolist()
    if max(b - a for a, b in itertools.pairwise(starts)) > max_query_len:
        raise ValueError(
            f"max_query_len {max_query_len} is less than a chunk of query_start {starts}"
        )
    for row, length in enumerate(context_lens.tolist()):
        rows = slice(starts[row], starts[row + 1])
        if rows.start < rows.stop:
            keys, values = gather_sequence(cache, block_tables[row], length)
            out[rows] = attend(query[rows], keys, values, options).to(out.dtype)
