"""Rotary embedding and KV-cache write. What happens to a token's queries, keys and values between the QKV
product and attention.

Per-head norm (Qwen3), rotary embedding (Su et al., 2021) and the write into the paged KV cache.
"""

from __future__ import annotations

import torch

from octavo.kernels.fp8 import E4M3_MAX


def rope_and_cache(
    heads: torch.Tensor,
    cache: torch.Tensor,
    rotary_table: torch.Tensor,
    positions: torch.Tensor,
    slots: torch.Tensor,
    *,
    num_query_heads: int,
    num_kv_heads: int,
    head_norm_weight: torch.Tensor | None = None,
    eps: float = 1e-6,
) -> None:
    """Normalises and rotates queries and keys in place; stores keys and values.

    Computes in float32 and rounds once, to the dtype of `heads`, before the cache's own rounding to nearest.

    Args:
        heads: `[tokens, num_query_heads + 2 * num_kv_heads, head_dim]`: queries, keys, values.
        cache: `[num_blocks, block_size, 2, num_kv_heads, head_dim]`, float32, float16, bfloat16 or
            float8_e4m3fn (saturated at ±448), whatever `heads` is.
        rotary_table: `[positions, 2, 1, head_dim]`: cos, and sin whose first half is negated.
        positions: `[tokens]` integer, rows of the table.
        slots: `[tokens]` int64, slots of the cache, all different; below zero for a padding row, which
            writes nothing to the cache.
        head_norm_weight: `[num_query_heads + num_kv_heads, head_dim]`; None: no norm.
    """
    if heads.shape[0] == 0:
        return
    rotated = heads[:, : num_query_heads + num_kv_heads].float()
    if head_norm_weight is not None:
        rotated = torch.rms_norm(rotated, rotated.shape[-1:], None, eps) * head_norm_weight.float()
    cos, sin = rotary_table[positions].float().unbind(1)
    rotated = rotated * cos + rotated.roll(rotated.shape[-1] // 2, -1) * sin
    heads[:, : num_query_heads + num_kv_heads] = rotated.to(heads.dtype)

    keys_values = heads[:, num_query_heads:].view(-1, 2, num_kv_heads, heads.shape[2])
    if cache.dtype is torch.float8_e4m3fn:
        keys_values = keys_values.float().clamp(-E4M3_MAX, E4M3_MAX)
    _write(cache, keys_values.to(cache.dtype), slots)


def _write(cache: torch.Tensor, keys_values: torch.Tensor, slots: torch.Tensor) -> None:
    """A padding row rewrites what slot 0 holds or is about to hold: no row is chosen on the host."""
    # Indexing has no float8 form; bytes move the same.
    width = {1: torch.uint8, 2: torch.int16, 4: torch.int32}[cache.element_size()]
    flat = cache.flatten(0, 1).view(width)
    values = keys_values.contiguous().view(width)
    is_first = slots == 0
    index = is_first.to(torch.int64).argmax()
    first = torch.where(is_first.any(), values.index_select(0, index[None]), flat[:1])
    is_padding = (slots < 0)[:, None, None, None]
    flat.index_copy_(0, slots.clamp_min(0), torch.where(is_padding, first, values))
