"""Decode schedule. The reference needs no work list: these keep its surface that of `kernels.gpu`."""

from __future__ import annotations

import torch


def make_decode_workspace(
    max_seqs: int,
    num_query_heads: int,
    num_kv_heads: int,
    head_dim: int,
    *,
    dtype: torch.dtype,
    cache_dtype: torch.dtype,
    device: torch.device,
) -> None:
    """Nothing is kept between the reference's sequences."""
    del max_seqs, num_query_heads, num_kv_heads, head_dim, dtype, cache_dtype, device


def schedule_decode(
    context_lens: torch.Tensor, workspace: object, sliding_window: int | None = None
) -> None:
    """Sequences run one after another."""
    del context_lens, workspace, sliding_window
