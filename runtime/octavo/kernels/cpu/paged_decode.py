"""Attention of decode rows over the paged cache for CPUs: no gather, no padding, one call per layer.

Everything is float32 inside; heads, cache and output are float32 or bfloat16.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from octavo.kernels.attention_options import AttentionOptions
from octavo.kernels.cpu import vector as v
from octavo.kernels.cpu.jit import kernel, part
from octavo.kernels.decode_rows import DecodeRows

# Beyond a context, and behind a sliding window: exp(_HIDDEN - anything) is 0.
_HIDDEN = np.float32(-3.0e38)

_SIGNATURE = "void(UniTuple(int64, 3), UniTuple(int64, 2), UniTuple(int64, 9), float64, float64)"


@part
def _score(query: Any, cache: Any, pages: Any, first: int, length: int, d: int, out: Any) -> None:
    """`out[t] = query · key[t]` for t in [first, length), in whole eights: what is beyond is arbitrary."""
    blocks, table_at, block_size, stride, head_at = pages
    for t in range(first // 8 * 8, length, 8):
        block = t // block_size
        place = blocks[table_at + block] * block_size + t - block * block_size
        at = place * stride + head_at
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = v.splat(np.float32(0))
        for c in range(at, at + d, 16):
            q = v.load(query, c - at)
            s0 = v.multiply_add(q, v.load(cache, c), s0)
            s1 = v.multiply_add(q, v.load(cache, c + stride), s1)
            s2 = v.multiply_add(q, v.load(cache, c + 2 * stride), s2)
            s3 = v.multiply_add(q, v.load(cache, c + 3 * stride), s3)
            s4 = v.multiply_add(q, v.load(cache, c + 4 * stride), s4)
            s5 = v.multiply_add(q, v.load(cache, c + 5 * stride), s5)
            s6 = v.multiply_add(q, v.load(cache, c + 6 * stride), s6)
            s7 = v.multiply_add(q, v.load(cache, c + 7 * stride), s7)
        v.store(out, t, v.sum_lanes_of_eight(s0, s1, s2, s3, s4, s5, s6, s7))


@part
def _softmax(scores: Any, first: int, length: int, softcap: Any) -> Any:
    """Exponentials of `scores[first:length]` less their maximum, in place; returns their sum.

    Up to 15 scores after `length` are overwritten.
    """
    end = first + (length - first + 15) // 16 * 16
    if softcap > np.float32(0):
        one, two, cap = v.splat(np.float32(1)), v.splat(np.float32(2)), v.splat(softcap)
        for t in range(first, end, 16):
            # tanh(x) = 1 - 2 / (exp(2 x) + 1)
            power = v.exp(v.divide(v.multiply(two, v.load(scores, t)), cap))
            tanh = v.subtract(one, v.divide(two, v.add(power, one)))
            v.store(scores, t, v.multiply(cap, tanh))
    for t in range(length, end):
        scores[t] = _HIDDEN
    top = v.splat(_HIDDEN)
    for t in range(first, end, 16):
        top = v.maximum(top, v.load(scores, t))
    top = v.splat(v.max_lanes(top))
    total = v.splat(np.float32(0))
    for t in range(first, end, 16):
        power = v.exp(v.subtract(v.load(scores, t), top))
        v.store(scores, t, power)
        total = v.add(total, power)
    return v.sum_lanes(total)


@part
def _weigh(
    weights: Any,
    total: Any,
    cache: Any,
    pages: Any,
    first: int,
    length: int,
    d: int,
    out: Any,
    out_at: int,
) -> None:
    """`out = sum of weights[t] * value[t] / total`, 32 channels at a time."""
    blocks, table_at, block_size, stride, head_at = pages
    inverse = v.splat(np.float32(1) / total)
    for c in range(0, d, 32):
        a0 = a1 = b0 = b1 = v.splat(np.float32(0))
        t = first
        while t < length:
            block = t // block_size
            base = (blocks[table_at + block] - block) * block_size * stride + head_at + c
            end = min((block + 1) * block_size, length)
            while t + 2 <= end:
                at = base + t * stride
                p, q = v.splat(weights[t]), v.splat(weights[t + 1])
                a0 = v.multiply_add(p, v.load(cache, at), a0)
                a1 = v.multiply_add(p, v.load(cache, at + 16), a1)
                b0 = v.multiply_add(q, v.load(cache, at + stride), b0)
                b1 = v.multiply_add(q, v.load(cache, at + stride + 16), b1)
                t += 2
            if t < end:
                at = base + t * stride
                p = v.splat(weights[t])
                a0 = v.multiply_add(p, v.load(cache, at), a0)
                a1 = v.multiply_add(p, v.load(cache, at + 16), a1)
                t += 1
        v.store(out, out_at + c, v.multiply(v.add(a0, b0), inverse))
        v.store(out, out_at + c + 16, v.multiply(v.add(a1, b1), inverse))


@part
def _rows(tensors: Any, indexes: Any, sizes: Any, scale: Any, softcap: Any) -> None:
    heads, cache, out = tensors
    blocks, contexts = indexes
    first_row, last_row, max_blocks, query_heads, kv_heads, d, block_size, window, longest = sizes
    scratch = np.empty(longest + 32 + d, dtype=np.float32)
    scores = v.float32_at(scratch.ctypes.data)
    query = v.float32_at(scratch.ctypes.data + (longest + 32) * 4)
    stride = 2 * kv_heads * d
    group = query_heads // kv_heads
    scales = v.splat(scale)
    for r in range(first_row, last_row):
        row_at = r * (query_heads + 2 * kv_heads) * d
        length = contexts[r]
        first = max(0, length - window) if window > 0 else 0
        for j in range(query_heads):
            for c in range(0, d, 16):
                v.store(query, c, v.multiply(v.load(heads, row_at + j * d + c), scales))
            head_at = j // group * d
            pages = (blocks, r * max_blocks, block_size, stride, head_at)
            _score(query, cache, pages, first, length, d, scores)
            total = _softmax(scores, first, length, softcap)
            pages = (blocks, r * max_blocks, block_size, stride, kv_heads * d + head_at)
            at = (r * query_heads + j) * d
            _weigh(scores, total, cache, pages, first, length, d, out, at)


@kernel(_SIGNATURE)
def _float32(
    tensors: tuple[int, ...],
    indexes: tuple[int, ...],
    sizes: tuple[int, ...],
    scale: float,
    softcap: float,
) -> None:
    heads, cache, out = tensors
    _rows(
        (v.float32_at(heads), v.float32_at(cache), v.float32_at(out)),
        (v.int64_at(indexes[0]), v.int64_at(indexes[1])),
        sizes,
        np.float32(scale),
        np.float32(softcap),
    )


@kernel(_SIGNATURE)
def _bfloat16(
    tensors: tuple[int, ...],
    indexes: tuple[int, ...],
    sizes: tuple[int, ...],
    scale: float,
    softcap: float,
) -> None:
    heads, cache, out = tensors
    _rows(
        (v.bfloat16_at(heads), v.bfloat16_at(cache), v.bfloat16_at(out)),
        (v.int64_at(indexes[0]), v.int64_at(indexes[1])),
        sizes,
        np.float32(scale),
        np.float32(softcap),
    )


_KERNELS = {torch.float32: _float32, torch.bfloat16: _bfloat16}


def supports(dtype: torch.dtype, cache_dtype: torch.dtype, head_dim: int) -> bool:
    """Whether `rope_and_cache` and `paged_decode` take such heads and such a cache."""
    return dtype in _KERNELS and cache_dtype == dtype and head_dim % 32 == 0


def paged_decode(
    heads: torch.Tensor,
    cache: torch.Tensor,
    rows: DecodeRows,
    options: AttentionOptions,
    out: torch.Tensor,
) -> None:
    """Attends the first `rows.count` rows to their contexts, which the cache holds already.

    Args:
        heads: `[tokens, query_heads + 2 * kv_heads, head_dim]`, contiguous; only queries are read.
        cache: `[num_blocks, block_size, 2, kv_heads, head_dim]`, contiguous.
        options: Without `alibi_slopes`.
        out: `[tokens, query_heads * head_dim]`; the first rows are written.

    All of one dtype, float32 or bfloat16; see `supports`.
    """
    kv_heads = cache.shape[3]
    _KERNELS[heads.dtype](
        (heads.data_ptr(), cache.data_ptr(), out.data_ptr()),
        (rows.block_tables.data_ptr(), rows.context_lens.data_ptr()),
        (
            0,
            rows.count,
            rows.block_tables.shape[1],
            heads.shape[1] - 2 * kv_heads,
            kv_heads,
            heads.shape[2],
            cache.shape[1],
            options.sliding_window or 0,
            rows.longest,
        ),
        options.scale,
        options.softcap or 0.0,
    )
