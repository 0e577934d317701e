"""Attention over the paged KV cache in plain torch: the form for CPUs, and the reference for kernels.

Cache layout, per layer: `[num_blocks, block_size, 2, kv_heads, head_dim]`, keys at index 0 of the third
axis and values at 1. A token's key and value lie side by side, as in the fused QKV product, so that one
`index_copy_` writes both and one `index_select` gathers both; `cache[:, :, 0]` and `cache[:, :, 1]` are
the `[num_blocks, block_size, kv_heads, head_dim]` views that a GPU kernel takes.

Query heads that share a KV head are folded into the row axis instead of repeating keys: with bf16 on a
CPU, `enable_gqa=True` took ten times as long.

A cache of another dtype than the model's (float8 e4m3) is converted as it is written and read; a prompt's
own keys pass through that format as well, so that it does not matter how a prompt is cut into chunks.

A sequence's NaN stays its own. A mask alone would not keep it: added to a score of NaN it gives NaN, and so
does a weight of zero times a value of NaN. So what others left in a sequence's blocks is wiped as it is
gathered, and prompts that share a product each get their own when one of them has gone wrong.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F  # noqa: N812 (its established name)

from octavo.kernels.attention_options import AttentionOptions
from octavo.kernels.attention_plan import (
    AttentionPlan,
    ContinuedPrefill,
    DecodeGroup,
    FreshPrefill,
)


def write_kv_cache(cache: torch.Tensor, kv: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
    """Stores keys and values of the step's rows.

    Args:
        cache: As in the module docstring; written in place.
        kv: `[tokens, 2, kv_heads, head_dim]`.
        slots: `[tokens]` int64.

    Returns them as the cache gives them back, shape and dtype as `kv`.
    """
    flat = cache.view(-1, *cache.shape[2:])
    if cache.dtype == kv.dtype:
        flat.index_copy_(0, slots, kv)
        return kv
    limit = torch.finfo(cache.dtype).max
    stored = kv.clamp(-limit, limit).to(cache.dtype)  # float8 e4m3 has no infinity
    as_bytes(flat).index_copy_(0, slots, as_bytes(stored))
    return stored.to(kv.dtype)


def as_bytes(cache: torch.Tensor) -> torch.Tensor:
    """A view that can be indexed: torch cannot gather or scatter float8."""
    return cache.view(torch.uint8) if cache.dtype is torch.float8_e4m3fn else cache


def paged_attention(
    query: torch.Tensor,
    kv: torch.Tensor,
    cache: torch.Tensor,
    plan: AttentionPlan,
    *,
    options: AttentionOptions,
    workspace: torch.Tensor,
) -> torch.Tensor:
    """Causal attention of each row to its sequence's keys so far.

    Args:
        query: `[tokens, query_heads, head_dim]`.
        kv: This step's keys and values, as `write_kv_cache` returned them.
        cache: As in the module docstring.
        options: The plan was made for their `sliding_window`.
        workspace: `[at least plan.workspace_blocks, *cache.shape[1:]]`, overwritten.

    Returns `[tokens, query_heads * head_dim]`.
    """
    parts = []
    for work in plan.within(options.sliding_window):
        rows = query[work.first : work.last]
        if isinstance(work, DecodeGroup):
            gathered = _gather(cache, work, rows.shape[0], rows.dtype, workspace)
            parts.append(_decode(rows, gathered, work.mask, options))
        elif isinstance(work, FreshPrefill):
            parts.append(_fresh_prefill(rows, kv[work.first : work.last], work, options))
        else:
            gathered = _gather(cache, work, 1, rows.dtype, workspace)
            keys, values = gathered.squeeze(0).unbind(1)
            parts.append(_prefill(rows, keys, values, work.mask, options))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _gather(
    cache: torch.Tensor,
    work: DecodeGroup | ContinuedPrefill,
    sequences: int,
    dtype: torch.dtype,
    workspace: torch.Tensor,
) -> torch.Tensor:
    """`[sequences, length, 2, kv_heads, head_dim]` in `dtype`: a view of `workspace` where the cache has
    that dtype."""
    gathered = workspace[: work.block_ids.shape[0]]
    torch.index_select(as_bytes(cache), 0, work.block_ids, out=as_bytes(gathered))
    if isinstance(work, DecodeGroup) and work.unowned is not None:
        as_bytes(gathered).flatten(0, 1).index_fill_(0, work.unowned, 0)
    shaped = gathered.view(sequences, -1, *cache.shape[2:])[:, : work.length]
    return shaped.to(dtype)


def _decode(
    query: torch.Tensor, kv: torch.Tensor, mask: torch.Tensor | None, options: AttentionOptions
) -> torch.Tensor:
    """`query` `[sequences, query_heads, d]`, `kv` `[sequences, length, 2, kv_heads, d]`."""
    sequences, _, head_dim = query.shape
    by_head = kv.transpose(1, 3)  # [sequences, kv_heads, 2, length, d]
    keys, values = by_head.select(2, 0), by_head.select(2, 1)
    folded = query.view(sequences, keys.shape[1], -1, head_dim)
    if _is_plain(options):
        out = F.scaled_dot_product_attention(
            folded, keys, values, attn_mask=mask, scale=options.scale
        )
    else:
        out = _laid_out_attention(folded, keys, values, mask, options, heads_at=(1, 2))
    return out.reshape(sequences, -1)


def _fresh_prefill(
    query: torch.Tensor, kv: torch.Tensor, work: FreshPrefill, options: AttentionOptions
) -> torch.Tensor:
    """`query` `[rows, query_heads, d]`, `kv` `[rows, 2, kv_heads, d]`."""
    if work.mask is None or math.isfinite(kv.sum(dtype=torch.float32).item()):
        return _prefill(query, kv[:, 0], kv[:, 1], work.mask, options)
    ends = list(itertools.accumulate(work.row_counts))
    prompts = [slice(end - count, end) for end, count in zip(ends, work.row_counts, strict=True)]
    return torch.cat([_prefill(query[p], kv[p, 0], kv[p, 1], None, options) for p in prompts])


def _prefill(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    options: AttentionOptions,
) -> torch.Tensor:
    """`query` `[rows, query_heads, d]`, `keys`, `values` `[length, kv_heads, d]`; causal without `mask`."""
    rows, heads, head_dim = query.shape
    length, kv_heads, _ = keys.shape
    group = heads // kv_heads
    folded = query.view(rows, kv_heads, group, head_dim).permute(1, 2, 0, 3)
    shape = (kv_heads, group, length, head_dim)
    k = keys.transpose(0, 1).unsqueeze(1).expand(shape)
    v = values.transpose(0, 1).unsqueeze(1).expand(shape)
    if _is_plain(options):
        out = F.scaled_dot_product_attention(
            folded, k, v, attn_mask=mask, is_causal=mask is None, scale=options.scale
        )
    else:
        if mask is None:
            mask = query.new_full((rows, length), -torch.inf).triu_(1)
        out = _laid_out_attention(folded, k, v, mask, options, heads_at=(0, 1))
    return out.permute(2, 0, 1, 3).reshape(rows, -1)


def _is_plain(options: AttentionOptions) -> bool:
    """Whether torch's fused attention has all of it."""
    return options.softcap is None and options.slopes is None and options.sinks is None


def _laid_out_attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    options: AttentionOptions,
    *,
    heads_at: tuple[int, int],
) -> torch.Tensor:
    """torch's fused attention has no place for some options, so the scores are laid out in full.

    Args:
        query: Two axes of four are the heads', `heads_at`: of keys, and of the queries of one.
    """
    scores = torch.matmul(query, keys.transpose(-1, -2))
    if options.softcap is None:
        scores.mul_(options.scale)
    else:
        scores.mul_(options.scale / options.softcap).tanh_().mul_(options.softcap)
    of_heads = [1, 1, 1, 1]
    for axis in heads_at:
        of_heads[axis] = query.shape[axis]
    if options.slopes is not None:
        # To the last key in place of the query's own: the difference is the same for all keys of a query.
        distance = torch.arange(1 - keys.shape[-2], 1, device=query.device)
        scores = scores + options.slopes.view(of_heads) * distance
    if mask is not None:
        scores.add_(mask)
    if options.sinks is not None:
        sinks = options.sinks.view(of_heads).expand(*scores.shape[:-1], 1)
        scores = torch.cat([scores, sinks], dim=-1)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return torch.matmul(weights[..., : keys.shape[-2]], values)
