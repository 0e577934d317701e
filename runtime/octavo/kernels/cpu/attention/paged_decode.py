"""Attention of decode rows over the paged cache for CPUs: no gather, no padding, one call per layer.

All of torch's threads share it.
Everything is float32 inside; heads, cache and output are float32 or bfloat16.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba.core import types

from octavo.kernels.attention_options import AttentionOptions
from octavo.kernels.cpu.attention.head_values import addresses_of_heads
from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.jit import part, team_kernel
from octavo.kernels.cpu.compiling.team import float32_bits, run_on_team
from octavo.kernels.cpu.products import unpack_panels as unpack
from octavo.kernels.cpu.products.unpack_panels import has_pair_products
from octavo.kernels.decode_rows import DecodeRows

# Beyond a context, and behind a sliding window: exp(_HIDDEN - anything) is 0.
_HIDDEN = np.float32(-3.0e38)


@part
def _score(query: Any, query_at: int, cache: Any, pages: Any, n: int, d: int, out: Any) -> None:
    """`out[t] = query · key[t]` for n keys of one block, in whole eights: what is beyond is arbitrary.

    `pages` is (offset of the first key, elements from key to key); `out` is (pointer, offset).
    """
    base, stride = pages
    scores, scores_at = out
    for t in range(0, n, 8):
        at = base + t * stride
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = v.splat(np.float32(0))
        for c in range(0, d, 16):
            q = v.load(query, query_at + c)
            k = at + c
            s0 = v.multiply_add(q, v.load(cache, k), s0)
            s1 = v.multiply_add(q, v.load(cache, k + stride), s1)
            s2 = v.multiply_add(q, v.load(cache, k + 2 * stride), s2)
            s3 = v.multiply_add(q, v.load(cache, k + 3 * stride), s3)
            s4 = v.multiply_add(q, v.load(cache, k + 4 * stride), s4)
            s5 = v.multiply_add(q, v.load(cache, k + 5 * stride), s5)
            s6 = v.multiply_add(q, v.load(cache, k + 6 * stride), s6)
            s7 = v.multiply_add(q, v.load(cache, k + 7 * stride), s7)
        sums = v.sum_lanes_of_eight(s0, s1, s2, s3, s4, s5, s6, s7)
        v.store(scores, scores_at + t, sums)


@v.intrinsic
def _add_products(typing_context: Any, total: Any, a: Any, a_at: Any, b: Any, b_at: Any) -> Any:
    """`total` plus the products of 32 bfloat16 each, two in a lane."""
    del typing_context, a_at, b_at

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        total, a, a_at, b, b_at = arguments
        sides = []
        for pointer, at in ((a, a_at), (b, b_at)):
            place = builder.bitcast(builder.gep(pointer, [at]), ir.IntType(8).as_pointer())
            sides.append(unpack.load(builder, place, 0, ir.VectorType(ir.IntType(32), 16)))
        name = "llvm.x86.avx512bf16.dpbf16ps.512"
        return v.call(builder, name, unpack.FLOATS, total, *sides)

    return v.VECTOR(v.VECTOR, a, types.int64, b, types.int64), generate


@part
def _score_two(query: Any, query_at: int, cache: Any, pages: Any, n: int, d: int, out: Any) -> None:
    """As `_score`, of two heads with the same keys, by products of pairs of bfloat16.

    `query` is as the model gave it; `out` is (pointer, offset, offset of the second head, scale).
    """
    base, stride = pages
    scores, scores_at, second_at, scale = out
    for t in range(0, n, 4):
        at = base + t * stride
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = v.splat(np.float32(0))
        for c in range(0, d, 32):
            q, p, k = query_at + c, query_at + d + c, at + c
            s0 = _add_products(s0, query, q, cache, k)
            s1 = _add_products(s1, query, q, cache, k + stride)
            s2 = _add_products(s2, query, q, cache, k + 2 * stride)
            s3 = _add_products(s3, query, q, cache, k + 3 * stride)
            s4 = _add_products(s4, query, p, cache, k)
            s5 = _add_products(s5, query, p, cache, k + stride)
            s6 = _add_products(s6, query, p, cache, k + 2 * stride)
            s7 = _add_products(s7, query, p, cache, k + 3 * stride)
        sums = v.sum_lanes_of_eight(s0, s1, s2, s3, s4, s5, s6, s7)
        _store_fours(v.multiply(sums, scale), scores, scores_at + t, second_at + t)


@v.intrinsic
def _store_fours(typing_context: Any, value: Any, out: Any, at: Any, second_at: Any) -> Any:
    """The first four lanes at one place, the next four at another."""
    del typing_context, at, second_at

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del signature
        value, out, at, second_at = arguments
        for first, place in ((0, at), (4, second_at)):
            lanes = ir.Constant(ir.VectorType(ir.IntType(32), 4), list(range(first, first + 4)))
            four = builder.shuffle_vector(value, value, lanes)
            address = builder.gep(out, [place])
            builder.store(four, builder.bitcast(address, four.type.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(v.VECTOR, out, types.int64, types.int64), generate


@part
def _softmax(scores: Any, first: int, length: int, softcap: Any, head: Any) -> None:
    """Softmax of `scores[first:length]`, in place. Up to 15 scores after `length` are overwritten.

    `head` is (slope, sink, pointer to the numbers 0 to 15); a sink of `_HIDDEN` weighs nothing.
    """
    slope, sink, numbers = head
    end = first + (length - first + 15) // 16 * 16
    if softcap > np.float32(0):
        one, two, cap = v.splat(np.float32(1)), v.splat(np.float32(2)), v.splat(softcap)
        for t in range(first, end, 16):
            # tanh(x) = 1 - 2 / (exp(2 x) + 1)
            power = v.exp(v.divide(v.multiply(two, v.load(scores, t)), cap))
            tanh = v.subtract(one, v.divide(two, v.add(power, one)))
            v.store(scores, t, v.multiply(cap, tanh))
    if slope > np.float32(0):
        slopes, lanes = v.splat(slope), v.load(numbers, 0)
        for t in range(first, end, 16):
            distance = v.add(lanes, v.splat(np.float32(t - length + 1)))
            v.store(scores, t, v.multiply_add(slopes, distance, v.load(scores, t)))
    for t in range(length, end):
        scores[t] = _HIDDEN
    top = v.splat(sink)
    for t in range(first, end, 16):
        top = v.larger(v.load(scores, t), top)
    top = v.splat(v.max_lanes(top))
    total = v.splat(np.float32(0))
    for t in range(first, end, 16):
        power = v.exp(v.subtract(v.load(scores, t), top))
        v.store(scores, t, power)
        total = v.add(total, power)
    unused = v.max_lanes(v.exp(v.subtract(v.splat(sink), top)))
    scale = v.splat(np.float32(1) / (v.sum_lanes(total) + unused))
    for t in range(first, end, 16):
        v.store(scores, t, v.multiply(v.load(scores, t), scale))


@part
def _weigh(
    weights: Any, at: int, cache: Any, pages: Any, first: int, n: int, d: int, out: Any, out_at: int
) -> None:
    """`out += sum of weights[at + t] * value[t]` for t in [first, n) of one block; `pages` as in `_score`."""
    base, stride = pages
    for c in range(0, d, 32):
        a0, a1 = v.load(out, out_at + c), v.load(out, out_at + c + 16)
        b0 = b1 = v.splat(np.float32(0))
        t = first
        while t + 2 <= n:
            place = base + t * stride + c
            p, q = v.splat(weights[at + t]), v.splat(weights[at + t + 1])
            a0 = v.multiply_add(p, v.load(cache, place), a0)
            a1 = v.multiply_add(p, v.load(cache, place + 16), a1)
            b0 = v.multiply_add(q, v.load(cache, place + stride), b0)
            b1 = v.multiply_add(q, v.load(cache, place + stride + 16), b1)
            t += 2
        if t < n:
            place = base + t * stride + c
            p = v.splat(weights[at + t])
            a0 = v.multiply_add(p, v.load(cache, place), a0)
            a1 = v.multiply_add(p, v.load(cache, place + 16), a1)
        v.store(out, out_at + c, v.add(a0, b0))
        v.store(out, out_at + c + 16, v.add(a1, b1))


@part
def _weigh_two(
    weights: Any, at: Any, cache: Any, pages: Any, keys: Any, d: int, out: Any, out_at: int
) -> None:
    """As `_weigh`, of two heads with the same values: `at` is (the first's weights, the second's), `keys`
    (first, n)."""
    base, stride = pages
    first, n = keys
    own, other = at
    for c in range(0, d, 32):
        a0, a1 = v.load(out, out_at + c), v.load(out, out_at + c + 16)
        b0, b1 = v.load(out, out_at + d + c), v.load(out, out_at + d + c + 16)
        for t in range(first, n):
            place = base + t * stride + c
            low, high = v.load(cache, place), v.load(cache, place + 16)
            p, q = v.splat(weights[own + t]), v.splat(weights[other + t])
            a0, a1 = v.multiply_add(p, low, a0), v.multiply_add(p, high, a1)
            b0, b1 = v.multiply_add(q, low, b0), v.multiply_add(q, high, b1)
        v.store(out, out_at + c, a0)
        v.store(out, out_at + c + 16, a1)
        v.store(out, out_at + d + c, b0)
        v.store(out, out_at + d + c + 16, b1)


def _make_score_block(are_pairs: bool) -> Any:
    """`score_block(queries, cache, pages, n, shape, out)`: all heads of a piece with n keys of one block.

    `queries` is (the model's, a place in them, scaled ones, the scale), `pages` (offset of the first head's
    first key, numbers from key to key), `shape` (heads, those that share keys, d), `out` (pointer, offset,
    numbers from head to head).
    """

    @part
    def score_block(queries: Any, cache: Any, pages: Any, n: int, shape: Any, out: Any) -> None:
        heads, heads_at, query, scales = queries
        base, stride = pages
        share, group, d = shape
        scores, scores_at, span = out
        j = 0
        while j < share:
            place = scores_at + j * span
            keys = (base + j // group * d, stride)
            if are_pairs and (j + 1) % group != 0:
                two = (scores, place, place + span, scales)
                _score_two(heads, heads_at + j * d, cache, keys, n, d, two)
                j += 2
            else:
                _score(query, j * d, cache, keys, n, d, (scores, place))
                j += 1

    return score_block


def _make_weigh_block(are_pairs: bool) -> Any:
    """`weigh_block(weights, cache, pages, keys, shape, sums)`: values `keys[0]` to `keys[1]` of one block;
    `weights` is as `out` of `score_block`."""

    @part
    def weigh_block(weights: Any, cache: Any, pages: Any, keys: Any, shape: Any, sums: Any) -> None:
        pointer, weights_at, span = weights
        base, stride = pages
        share, group, d = shape
        first, n = keys
        j = 0
        while j < share:
            at = weights_at + j * span
            values = (base + j // group * d, stride)
            if are_pairs and (j + 1) % group != 0:
                _weigh_two(pointer, (at, at + span), cache, values, keys, d, sums, j * d)
                j += 2
            else:
                _weigh(pointer, at, cache, values, first, n, d, sums, j * d)
                j += 1

    return weigh_block


def make_rows(*, are_pairs: bool) -> Any:
    """`rows(tensors, job)`, a `part`. With pairs, heads and cache are bfloat16 and the CPU multiplies pairs
    of them."""
    score_block, weigh_block = _make_score_block(are_pairs), _make_weigh_block(are_pairs)

    @part
    def rows(tensors: Any, job: Any) -> None:
        """A piece is a row's share of the heads, and whichever thread is free takes the next one.

        Within it block by block, and all heads of a block in turn: a block is read once from far and then
        from the nearest cache. With pairs, heads that share keys are taken by twos, so that a key is read
        once for both.
        """
        heads, cache, out = tensors
        blocks, contexts = v.int64_at(job[4]), v.int64_at(job[5])
        count, max_blocks, query_heads, kv_heads = job[6], job[7], job[8], job[9]
        d, block_size, window, parts = job[10], job[11], job[12], job[13]
        scales, softcap = v.splat(v.float32_of(job[14])), v.float32_of(job[15])
        slopes, sinks = v.float32_at(job[16]), v.float32_at(job[17])
        longest = 0
        for r in range(count):
            longest = max(longest, contexts[r])
        share = query_heads // parts  # heads of a piece
        width = share * d
        span = longest + block_size + 32  # scores of one head
        scratch = np.empty(2 * width + share * span + 16, dtype=np.float32)
        query = v.float32_at(scratch.ctypes.data)
        sums = v.float32_at(scratch.ctypes.data + 4 * width)
        scores = v.float32_at(scratch.ctypes.data + 8 * width)
        numbers = v.float32_at(scratch.ctypes.data + 8 * width + 4 * share * span)
        for lane in range(16):
            numbers[lane] = np.float32(lane)
        stride = 2 * kv_heads * d
        group = query_heads // kv_heads
        shape = (share, group, d)
        zero = v.splat(np.float32(0))
        piece = v.count_up(job, 0)
        while piece < count * parts:
            r, part_of_row = piece // parts, piece % parts
            row_at = r * (query_heads + 2 * kv_heads) * d + part_of_row * width
            first_kv = part_of_row * share // group
            for c in range(0, width, 16):
                v.store(query, c, v.multiply(v.load(heads, row_at + c), scales))
                v.store(sums, c, zero)
            length = contexts[r]
            first = max(0, length - window) if window > 0 else 0
            first_block, last_block = first // block_size, (length - 1) // block_size + 1
            queries = (heads, row_at, query, scales)
            for b in range(first_block, last_block):
                base = blocks[r * max_blocks + b] * block_size * stride + first_kv * d
                n = min(block_size, length - b * block_size)
                target = (scores, b * block_size, span)
                score_block(queries, cache, (base, stride), n, shape, target)
            for j in range(share):
                own = part_of_row * share + j
                slope = slopes[own] if job[16] != 0 else np.float32(0)
                sink = sinks[own] if job[17] != 0 else _HIDDEN
                head = (slope, sink, numbers)
                _softmax(scores, j * span + first, j * span + length, softcap, head)
            for b in range(first_block, last_block):
                base = blocks[r * max_blocks + b] * block_size * stride
                base += (kv_heads + first_kv) * d
                keys = (max(0, first - b * block_size), min(block_size, length - b * block_size))
                weights = (scores, b * block_size, span)
                weigh_block(weights, cache, (base, stride), keys, shape, sums)
            out_at = r * query_heads * d + part_of_row * width
            for c in range(0, width, 16):
                v.store(out, out_at + c, v.load(sums, c))
            piece = v.count_up(job, 0)
        v.keep(scratch)

    return rows


_rows_of_floats = make_rows(are_pairs=False)
_rows_of_bfloats = make_rows(are_pairs=has_pair_products())


@team_kernel
def _float32(address: int) -> None:
    job = v.int64_at(address)
    _rows_of_floats((v.float32_at(job[1]), v.float32_at(job[2]), v.float32_at(job[3])), job)


@team_kernel
def _bfloat16(address: int) -> None:
    job = v.int64_at(address)
    _rows_of_bfloats((v.bfloat16_at(job[1]), v.bfloat16_at(job[2]), v.bfloat16_at(job[3])), job)


KERNELS = {torch.float32: _float32, torch.bfloat16: _bfloat16}


def supports(dtype: torch.dtype, cache_dtype: torch.dtype, head_dim: int) -> bool:
    """Whether `rope_and_cache`, `paged_decode` and `paged_prefill` take such heads and such a cache."""
    return dtype in KERNELS and cache_dtype == dtype and head_dim % 32 == 0


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
        out: `[tokens, query_heads * head_dim]`; the first rows are written.

    All of one dtype, float32 or bfloat16; see `supports`.
    """
    kv_heads = cache.shape[3]
    run_on_team(
        KERNELS[heads.dtype],
        heads.data_ptr(),
        cache.data_ptr(),
        out.data_ptr(),
        rows.block_tables.data_ptr(),
        rows.context_lens.data_ptr(),
        rows.count,
        rows.block_tables.shape[1],
        heads.shape[1] - 2 * kv_heads,
        kv_heads,
        heads.shape[2],
        cache.shape[1],
        options.sliding_window or 0,
        _parts(rows.count, kv_heads, torch.get_num_threads()),
        float32_bits(options.scale),
        float32_bits(options.softcap or 0.0),
        *addresses_of_heads(options),
    )


@functools.cache
def _parts(rows: int, kv_heads: int, threads: int) -> int:
    """Pieces that a row is cut into, by KV heads: enough that no thread waits for one with a long row."""
    if threads == 1:
        return 1
    enough = (p for p in range(1, kv_heads) if kv_heads % p == 0 and rows * p >= 2 * threads)
    return next(enough, kv_heads)
