"""Rotary embedding and KV-cache write. What happens to a token's queries, keys and values between the QKV
product and attention, in one launch.

Per-head norm (Qwen3), rotary embedding (Su et al., 2021) and the write into the paged KV cache: every
value is read once and written once, keys and values twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from octavo.kernels.fp8 import E4M3_MAX
from octavo.kernels.gpu.compiling.compile import ShippedConfiguration, launch_options
from octavo.kernels.gpu.tuning.streaming import rope_tile

_E4M3_MAX = tl.constexpr(E4M3_MAX)


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
        heads: `[tokens, num_query_heads + 2 * num_kv_heads, head_dim]`, contiguous: queries, keys, values.
        cache: `[num_blocks, block_size, 2, num_kv_heads, head_dim]`, float32, float16, bfloat16 or
            float8_e4m3fn (saturated at ±448), whatever `heads` is; contiguous but for the first axis.
        rotary_table: `[positions, 2, 1, head_dim]`, contiguous: cos, and sin whose first half is negated.
        positions: `[tokens]` integer, rows of the table.
        slots: `[tokens]` int64, slots of the cache, all different; below zero for a padding row, which
            writes nothing to the cache.
        head_norm_weight: `[num_query_heads + num_kv_heads, head_dim]`, contiguous; None: no norm.

    Raises:
        ValueError: A layout other than the above, or a head wider than 512.
    """
    tokens, total_heads, head_dim = heads.shape
    if total_heads != num_query_heads + 2 * num_kv_heads:
        raise ValueError(
            f"heads has {total_heads} heads; {num_query_heads} query and {num_kv_heads} KV heads "
            f"make {num_query_heads + 2 * num_kv_heads}"
        )
    if not (heads.is_contiguous() and rotary_table.is_contiguous() and cache[0].is_contiguous()):
        raise ValueError("heads, rotary_table and each block of the cache must be contiguous")
    if tokens == 0:
        return
    is_fp8 = cache.dtype is torch.float8_e4m3fn
    tile = rope_tile(head_dim // 2)
    _rope_and_cache[(tokens, triton.cdiv(total_heads, tile.rows))](
        heads,
        # Bytes, because a cast to this format exists on no GPU before compute capability 8.9.
        cache.view(torch.uint8) if is_fp8 else cache,
        rotary_table,
        positions,
        slots,
        head_norm_weight,
        cache.stride(0),
        eps,
        BLOCK_SIZE=cache.shape[1],
        QUERY_HEADS=num_query_heads,
        KV_HEADS=num_kv_heads,
        HALF=head_dim // 2,
        HAS_NORM=head_norm_weight is not None,
        IS_FP8=is_fp8,
        HEADS=tile.rows,
        COLUMNS=tile.columns,
        **launch_options(tile.num_warps, 1),
    )


@triton.jit
def _rope_and_cache(
    heads,
    cache,
    rotary_table,
    positions,
    slots,
    head_norm_weight,
    cache_stride,
    eps,
    BLOCK_SIZE: tl.constexpr,
    QUERY_HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    HAS_NORM: tl.constexpr,
    IS_FP8: tl.constexpr,
    HEADS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    TOTAL: tl.constexpr = QUERY_HEADS + 2 * KV_HEADS
    token = tl.program_id(0).to(tl.int64)
    head = (tl.program_id(1) * HEADS + tl.arange(0, HEADS))[:, None]
    column = tl.arange(0, COLUMNS)[None, :]
    in_half = column < HALF
    inside = (head < TOTAL) & in_half
    is_rotated = head < QUERY_HEADS + KV_HEADS

    # A head's two halves rotate into each other: they are two tiles.
    here = heads + (token * TOTAL + head) * (2 * HALF) + column
    low = tl.load(here, inside, other=0.0)
    high = tl.load(here + HALF, inside, other=0.0)
    new_low, new_high = low.to(tl.float32), high.to(tl.float32)
    if HAS_NORM:
        squares = tl.sum(new_low * new_low + new_high * new_high, axis=1, keep_dims=True)
        scale = tl.rsqrt(squares / (2 * HALF) + eps)
        weight = head_norm_weight + head * (2 * HALF) + column
        new_low *= scale * tl.load(weight, inside & is_rotated, other=0.0).to(tl.float32)
        new_high *= scale * tl.load(weight + HALF, inside & is_rotated, other=0.0).to(tl.float32)
    table = rotary_table + tl.load(positions + token).to(tl.int64) * (4 * HALF) + column
    cos_low = tl.load(table, in_half, other=0.0).to(tl.float32)
    cos_high = tl.load(table + HALF, in_half, other=0.0).to(tl.float32)
    sin_low = tl.load(table + 2 * HALF, in_half, other=0.0).to(tl.float32)
    sin_high = tl.load(table + 3 * HALF, in_half, other=0.0).to(tl.float32)
    rotated_low = (new_low * cos_low + new_high * sin_low).to(low.dtype)
    rotated_high = (new_high * cos_high + new_low * sin_high).to(high.dtype)
    tl.store(here, rotated_low, inside & is_rotated)
    tl.store(here + HALF, rotated_high, inside & is_rotated)

    slot = tl.load(slots + token).to(tl.int64)
    if slot >= 0:
        is_stored = inside & (head >= QUERY_HEADS)
        low = tl.where(is_rotated, rotated_low, low)
        high = tl.where(is_rotated, rotated_high, high)
        in_block = (slot % BLOCK_SIZE * 2 * KV_HEADS + head - QUERY_HEADS) * (2 * HALF) + column
        target = cache + slot // BLOCK_SIZE * cache_stride + in_block
        if IS_FP8:
            tl.store(target, _to_e4m3(low.to(tl.float32)), is_stored)
            tl.store(target + HALF, _to_e4m3(high.to(tl.float32)), is_stored)
        else:
            tl.store(target, low.to(cache.dtype.element_ty), is_stored)
            tl.store(target + HALF, high.to(cache.dtype.element_ty), is_stored)


@triton.jit
def _to_e4m3(x):
    """float32 to the bits of float8_e4m3fn: nearest even, saturated at the largest finite value."""
    size = tl.minimum(tl.abs(x), _E4M3_MAX)
    bits = size.to(tl.int32, bitcast=True)
    # 20 of 23 mantissa bits go; the exponent's bias falls from 127 to 7.
    normal = ((bits + 0x7FFFF + ((bits >> 20) & 1)) >> 20) - (120 << 3)
    # Below 2**-6 the format counts in steps of 2**-9, the unit in the last place of floats near 2**14.
    subnormal = (size + 16384.0).to(tl.int32, bitcast=True) - 0x46800000
    code = tl.where(size < 0.015625, subnormal, normal)
    code = tl.where(x == x, code, 0x7F)  # false for NaN
    sign = (x.to(tl.int32, bitcast=True) >> 24) & 0x80
    return (code | sign).to(tl.uint8)


def shipped_configurations() -> Iterator[ShippedConfiguration]:
    models = {"llama-8b": (32, 8, 128, False), "qwen3-0.6b": (16, 8, 128, True)}
    models |= {"gemma-4b": (8, 4, 256, True)}
    for (name, (queries, keys, width, has_norm)), is_fp8 in itertools.product(
        models.items(), (False, True)
    ):
        tile = rope_tile(width // 2)
        pointers = {"heads": "*bf16", "rotary_table": "*bf16", "head_norm_weight": "*fp32"}
        cache_dtype = "*u8" if is_fp8 else "*bf16"
        yield ShippedConfiguration(
            name=f"{name}{'-fp8' if is_fp8 else ''}",
            kernel=_rope_and_cache,
            arguments={
                **pointers,
                "eps": "fp32",
                "cache": cache_dtype,
                "positions": "*i64",
                "slots": "*i64",
                "cache_stride": "i32",
            },
            constants={
                **({} if has_norm else {"head_norm_weight": None}),
                "BLOCK_SIZE": 16,
                "QUERY_HEADS": queries,
                "KV_HEADS": keys,
                "HALF": width // 2,
                "HAS_NORM": has_norm,
                "IS_FP8": is_fp8,
                "HEADS": tile.rows,
                "COLUMNS": tile.columns,
            },
            num_warps=tile.num_warps,
            num_stages=1,
            max_narrow_loads=4,  # of the rotary table, which a program's heads share
            divisible=frozenset({"cache_stride"}),
        )
