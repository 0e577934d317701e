"""Check of a prompt's attention: what a kernel makes of a small prompt, beside plain torch.

For instructions that a CPU says it has and that are not known to be right there: a kernel that fails is not
used. It takes milliseconds, once in a process.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from octavo.kernels.attention_options import AttentionOptions
from octavo.kernels.attention_plan import SequenceSpan
from octavo.kernels.prefill_chunks import PrefillChunks, make_prefill_chunks
from octavo.kernels.reference.attention.paged_prefill import paged_prefill

LARGEST_ERROR = 0.02
"""Of bfloat16, a few times what rounding makes of it."""

_BEFORE, _TOKENS, _PAGE, _GROUP, _HEAD_DIM = 170, 71, 16, 3, 48

Prefill = Callable[
    [torch.Tensor, torch.Tensor, PrefillChunks, AttentionOptions, torch.Tensor], None
]


def error_of(prefill: Prefill) -> float:
    """Of the largest output row, relative to it; NaN counts as infinite.

    The prompt has keys before it, more of them than a block, partly filled registers on every side, and
    fewer rows than pieces of work can share evenly.
    """
    generator = torch.Generator().manual_seed(0)
    length = _BEFORE + _TOKENS
    pages = -(-length // _PAGE)
    shape = (pages, _PAGE, 2, 1, _HEAD_DIM)
    cache = torch.randn(shape, generator=generator).bfloat16()
    heads = torch.randn(_TOKENS, _GROUP + 2, _HEAD_DIM, generator=generator).bfloat16()
    options = AttentionOptions(scale=_HEAD_DIM**-0.5, sliding_window=None)
    table = torch.randperm(pages, generator=generator).tolist()
    out = torch.full((_TOKENS, _GROUP * _HEAD_DIM), torch.nan, dtype=torch.bfloat16)
    chunks = make_prefill_chunks([SequenceSpan(_TOKENS, length, table)], _PAGE)
    prefill(heads, cache, chunks, options, out)
    query = heads[:, :_GROUP].float()
    expected = torch.empty_like(query)
    paged_prefill(
        query,
        cache.float(),
        torch.tensor([table], dtype=torch.int32),
        torch.tensor([length], dtype=torch.int32),
        torch.tensor([0, _TOKENS], dtype=torch.int32),
        expected,
        _TOKENS,
        options,
    )
    difference = (out.float().view_as(expected) - expected).norm(dim=-1)
    return float((difference / expected.norm(dim=-1)).nan_to_num(torch.inf).max())
