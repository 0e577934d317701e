"""Rotary embedding and KV-cache write for CPUs. Between the QKV product and attention, for CPUs: normalise,
rotate and store in one pass over the rows.

See `kernels.reference.rope_and_cache`. Everything is float32 inside; heads and cache are float32 or bfloat16.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.jit import kernel, part, team_kernel
from octavo.kernels.cpu.compiling.team import float32_bits, is_for_team, run_on_rows

_SIGNATURE = "void(UniTuple(int64, 4), UniTuple(int64, 2), UniTuple(int64, 4), float64)"


@part
def _rotate(heads: Any, at: int, norm: Any, eps: Any, table: Any, d: int) -> None:
    """`heads[at : at + d]`, normalised and rotated in place.

    `norm` is (whether there is one, pointer, offset); `table` is (pointer, offset).
    """
    has_norm, weight, weight_at = norm
    rotary, cos = table
    sin = cos + d  # the sine's first half is negated
    half = d // 2
    factors = v.splat(np.float32(1))
    if has_norm:
        squares = v.splat(np.float32(0))
        for c in range(at, at + d, v.LANES):
            x = v.load(heads, c)
            squares = v.multiply_add(x, x, squares)
        mean = v.sum_lanes(squares) / np.float32(d)
        factors = v.splat(np.float32(1) / np.float32(math.sqrt(mean + eps)))
    for c in range(0, half, v.LANES):
        low, high = v.load(heads, at + c), v.load(heads, at + half + c)
        if has_norm:
            low = v.multiply(v.multiply(low, factors), v.load(weight, weight_at + c))
            high = v.multiply(v.multiply(high, factors), v.load(weight, weight_at + half + c))
        new_low = v.multiply(high, v.load(rotary, sin + c))
        new_high = v.multiply(low, v.load(rotary, sin + half + c))
        new_low = v.multiply_add(low, v.load(rotary, cos + c), new_low)
        new_high = v.multiply_add(high, v.load(rotary, cos + half + c), new_high)
        v.store(heads, at + c, new_low)
        v.store(heads, at + half + c, new_high)


@part
def _rows(tensors: Any, indexes: Any, sizes: Any, has_norm: bool, eps: Any) -> None:
    heads, cache, rotary, norm = tensors
    positions, slots = indexes
    first, end, query_heads, kv_heads, d = sizes
    kv_width = 2 * kv_heads * d
    for r in range(first, end):
        row_at = r * (query_heads * d + kv_width)
        table = (rotary, positions[r] * 2 * d)
        for j in range(query_heads + kv_heads):
            _rotate(heads, row_at + j * d, (has_norm, norm, j * d), eps, table, d)
        if slots[r] >= 0:
            kv_at = row_at + query_heads * d
            for c in range(0, kv_width, v.LANES):
                v.store(cache, slots[r] * kv_width + c, v.load(heads, kv_at + c))


@kernel(_SIGNATURE)
def _float32(
    tensors: tuple[int, ...], indexes: tuple[int, ...], sizes: tuple[int, ...], eps: float
) -> None:
    heads, cache, rotary, norm = tensors
    _rows(
        (v.float32_at(heads), v.float32_at(cache), v.float32_at(rotary), v.float32_at(norm)),
        (v.int64_at(indexes[0]), v.int64_at(indexes[1])),
        (0, *sizes),
        norm != 0,
        np.float32(eps),
    )


@kernel(_SIGNATURE)
def _bfloat16(
    tensors: tuple[int, ...], indexes: tuple[int, ...], sizes: tuple[int, ...], eps: float
) -> None:
    heads, cache, rotary, norm = tensors
    _rows(
        (v.bfloat16_at(heads), v.bfloat16_at(cache), v.bfloat16_at(rotary), v.float32_at(norm)),
        (v.int64_at(indexes[0]), v.int64_at(indexes[1])),
        (0, *sizes),
        norm != 0,
        np.float32(eps),
    )


@part
def _run(heads: Any, cache: Any, rotary: Any, job: Any) -> None:
    """`job` is `run_on_rows`'s for (heads, cache, rotary table, norm or 0, positions, slots, query heads, KV
    heads, head_dim, eps)."""
    tensors = (heads, cache, rotary, v.float32_at(job[7]))
    indexes = (v.int64_at(job[8]), v.int64_at(job[9]))
    first = v.count_up(job, 0) * job[2]
    while first < job[1]:
        sizes = (first, min(first + job[2], job[1]), job[10], job[11], job[12])
        _rows(tensors, indexes, sizes, job[7] != 0, v.float32_of(job[13]))
        first = v.count_up(job, 0) * job[2]


@team_kernel
def _float32_on_team(address: int) -> None:
    job = v.int64_at(address)
    _run(v.float32_at(job[4]), v.float32_at(job[5]), v.float32_at(job[6]), job)


@team_kernel
def _bfloat16_on_team(address: int) -> None:
    job = v.int64_at(address)
    _run(v.bfloat16_at(job[4]), v.bfloat16_at(job[5]), v.bfloat16_at(job[6]), job)


_KERNELS = {torch.float32: _float32, torch.bfloat16: _bfloat16}
_TEAM_KERNELS = {torch.float32: _float32_on_team, torch.bfloat16: _bfloat16_on_team}


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
    """Rotates queries and keys in place, after their norm, and stores keys and values.

    Args:
        heads: `[tokens, query_heads + 2 * kv_heads, head_dim]`: queries, keys and values, contiguous.
        cache: `[num_blocks, block_size, 2, kv_heads, head_dim]`, contiguous.
        rotary_table: `[positions, 2, 1, head_dim]`, the sine's first half negated.
        positions, slots: `[tokens]` int64; a row with a negative slot is not stored.
        head_norm_weight: `[query_heads + kv_heads, head_dim]` float32; None: no norm.

    All others of one dtype, float32 or bfloat16, and `head_dim` a multiple of 32.
    """
    rows, all_heads, head_dim = heads.shape
    tensors = (
        heads.data_ptr(),
        cache.data_ptr(),
        rotary_table.data_ptr(),
        0 if head_norm_weight is None else head_norm_weight.data_ptr(),
    )
    indexes = (positions.data_ptr(), slots.data_ptr())
    if is_for_team(heads.numel()):
        heads_of = (num_query_heads, num_kv_heads, head_dim)
        job = (*tensors, *indexes, *heads_of, float32_bits(eps))
        run_on_rows(_TEAM_KERNELS[heads.dtype], rows, all_heads * head_dim, *job)
    else:
        sizes = (rows, num_query_heads, num_kv_heads, head_dim)
        _KERNELS[heads.dtype](tensors, indexes, sizes, eps)
