"""Attention of one new token per sequence to its paged keys, said as plainly as possible."""

from __future__ import annotations

import torch

from octavo.kernels.attention_options import AttentionOptions
from octavo.kernels.reference.attention.dense import attend, gather_sequence


def paged_decode(
    query: torch.Tensor,
    cache: torch.Tensor,
    block_tables: torch.Tensor,
    context_lens: torch.Tensor,
    out: torch.Tensor,
    workspace: object,
    options: AttentionOptions,
) -> None:
    """Attends each sequence's newest token to its context.

    Args:
        query: `[seqs, query_heads, head_dim]`.
        cache: `[num_blocks, block_size, 2, kv_heads, head_dim]`, keys first, of any floating
            dtype.
        block_tables: `[seqs, max_blocks]` int32.
        context_lens: `[seqs]` int32, the token of this step included; 0 marks a padding row, whose output
            is zero.
        out: Like `query`; overwritten.
        workspace: Unused here.
    """
    del workspace
    for row, length in enumerate(context_lens.tolist()):
        if length == 0:
            out[row] = 0
            continue
        keys, values = gather_sequence(cache, block_tables[row], length)
        out[row] = attend(query[row : row + 1], keys, values, options)[0].to(out.dtype)
