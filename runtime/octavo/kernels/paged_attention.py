"""Attention over the paged KV cache in plain torch: the form for CPUs, and the reference for kernels.

Cache layout, per layer: `[num_blocks, block_size, 2, kv_heads, head_dim]`, keys at index 0 of the third
axis and values at 1. A token's key and value lie side by side, as in the fused QKV product, so that one
`index_copy_` writes both and one `index_select` gathers both; `cache[:, :, 0]` and `cache[:, :, 1]` are
the `[num_blocks, block_size, kv_heads, head_dim]` views that a GPU kernel takes.

Query heads that share a KV head are folded into the row axis instead of repeating keys: with bf16 on a
CPU, `enable_gqa=True` took ten times as long.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (its established name)

from octavo.kernels.attention_plan import (
    AttentionPlan,
    ContinuedPrefill,
    DecodeGroup,
    FreshPrefill,
)


def write_kv_cache(cache: torch.Tensor, kv: torch.Tensor, slots: torch.Tensor) -> None:
    """Stores keys and values of the step's rows.

    Args:
        cache: As in the module docstring; written in place.
        kv: `[tokens, 2, kv_heads, head_dim]`.
        slots: `[tokens]` int64.
    """
    cache.view(-1, *cache.shape[2:]).index_copy_(0, slots, kv)


def paged_attention(
    query: torch.Tensor,
    kv: torch.Tensor,
    cache: torch.Tensor,
    plan: AttentionPlan,
    *,
    scale: float,
    workspace: torch.Tensor,
) -> torch.Tensor:
    """Causal attention of each row to its sequence's keys so far.

    Args:
        query: `[tokens, query_heads, head_dim]`.
        kv: This step's keys and values, `[tokens, 2, kv_heads, head_dim]`, already in `cache` as well.
        cache: As in the module docstring.
        scale: Multiplies the scores, usually `head_dim ** -0.5`.
        workspace: `[at least plan.workspace_blocks, *cache.shape[1:]]`, overwritten.

    Returns `[tokens, query_heads * head_dim]`.
    """
    parts = []
    for work in plan.work:
        rows = query[work.first : work.last]
        if isinstance(work, DecodeGroup):
            parts.append(_decode(rows, cache, work, scale, workspace))
        elif isinstance(work, FreshPrefill):
            keys, values = kv[work.first : work.last].unbind(1)
            parts.append(_prefill(rows, keys, values, work.mask, scale))
        else:
            keys, values = _gather(cache, work, 1, workspace).squeeze(0).unbind(1)
            parts.append(_prefill(rows, keys, values, work.mask, scale))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _gather(
    cache: torch.Tensor,
    work: DecodeGroup | ContinuedPrefill,
    sequences: int,
    workspace: torch.Tensor,
) -> torch.Tensor:
    """`[sequences, length, 2, kv_heads, head_dim]`, a view of `workspace`."""
    gathered = workspace[: work.block_ids.shape[0]]
    torch.index_select(cache, 0, work.block_ids, out=gathered)
    return gathered.view(sequences, -1, *cache.shape[2:])[:, : work.length]


def _decode(
    query: torch.Tensor,
    cache: torch.Tensor,
    work: DecodeGroup,
    scale: float,
    workspace: torch.Tensor,
) -> torch.Tensor:
    sequences, _, head_dim = query.shape
    kv = _gather(cache, work, sequences, workspace).transpose(1, 3)  # [n, kv_heads, 2, length, d]
    keys, values = kv.select(2, 0), kv.select(2, 1)
    folded = query.view(sequences, keys.shape[1], -1, head_dim)
    out = F.scaled_dot_product_attention(folded, keys, values, attn_mask=work.mask, scale=scale)
    return out.reshape(sequences, -1)


def _prefill(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
) -> torch.Tensor:
    """`query` `[rows, query_heads, d]`, `keys`, `values` `[length, kv_heads, d]`; causal without `mask`."""
    rows, heads, head_dim = query.shape
    length, kv_heads, _ = keys.shape
    group = heads // kv_heads
    folded = query.view(rows, kv_heads, group, head_dim).permute(1, 2, 0, 3)
    shape = (kv_heads, group, length, head_dim)
    k = keys.transpose(0, 1).unsqueeze(1).expand(shape)
    v = values.transpose(0, 1).unsqueeze(1).expand(shape)
    out = F.scaled_dot_product_attention(
        folded, k, v, attn_mask=mask, is_causal=mask is None, scale=scale
    )
    return out.permute(2, 0, 1, 3).reshape(rows, -1)
