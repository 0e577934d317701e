"""Attention scores. What decode and prefill share: where a head's keys lie, scores in units of log2, so that
the softmax is made of `exp2` alone, and the softmax itself, a tile of keys at a time."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from octavo.kernels.attention_options import AttentionOptions

_ALIGNED = 8


def check_strides(query: torch.Tensor, out: torch.Tensor) -> None:
    """Raises `ValueError` where kernels could not read and write several values of a head at once."""
    for name, tensor in (("query", query), ("out", out)):
        strides = tensor.stride()
        if strides[2] != 1 or strides[0] % _ALIGNED or strides[1] % _ALIGNED:
            raise ValueError(
                f"{name} has strides {strides}; the last must be 1, the others multiples of {_ALIGNED}"
            )


def absent_values(options: AttentionOptions) -> dict[str, None]:
    """Pointers to values of heads that are None: constants of a compilation."""
    values = {"slopes": options.slopes, "sinks": options.sinks}
    return {name: None for name, value in values.items() if value is None}


@triton.jit
def head_of_cache(cache, kv_head, stride_head, stride_kv, HEAD_DIM: tl.constexpr):
    """Pointers to the keys and the values of a KV head, in block 0 at token 0."""
    keys = kv_head * stride_head
    values = keys + stride_kv
    if HEAD_DIM % 16 != 0:
        # Of a stride Triton notices multiples of 16 alone: heads of 120 would be read value by value.
        keys = tl.multiple_of(keys, 8)
        values = tl.multiple_of(values, 8)
    return cache + keys, cache + values


@triton.jit
def begin_of_heads(begin_of_token, head, stride_head, HEAD_DIM: tl.constexpr):
    """Offsets of query heads, `[rows]`, of which Triton knows as much as of those of keys."""
    begin = begin_of_token + head * stride_head
    if HEAD_DIM % 16 != 0:
        begin = tl.multiple_of(begin, 8)
    return begin


@triton.jit
def scaled_scores(products, score_scale, softcap, HAS_SOFTCAP: tl.constexpr):
    """Products of queries and keys, float32 `[rows, keys]`, to scores times log2(e)."""
    LOG2E: tl.constexpr = 1.4426950408889634
    if HAS_SOFTCAP:
        # tanh(x) = 1 - 2 / (1 + e^2x), which neither overflows nor yields NaN at either end.
        doubled = products * (score_scale * 2.0 * LOG2E / softcap)
        scores = (softcap * LOG2E) * (1.0 - 2.0 / (1.0 + tl.exp2(doubled)))
    else:
        scores = products * (score_scale * LOG2E)
    return scores


@triton.jit
def lowered_scores(scores, slopes, distance, HAS_SLOPES: tl.constexpr):
    """Scores times log2(e) after ALiBi.

    Args:
        slopes: As `of_heads` gives them, `[rows]`.
        distance: From any place to the keys, `[keys]`: what another adds to all scores of a row is nothing.
    """
    if HAS_SLOPES:
        scores += slopes[:, None] * distance.to(tl.float32)[None, :]
    return scores


@triton.jit
def of_heads(values, head, owned, HAS_VALUES: tl.constexpr, other):
    """A number of each query head times log2(e), `[rows]` float32; `other` where there are none, and where a
    row is not `owned`."""
    LOG2E: tl.constexpr = 1.4426950408889634
    found = tl.full(head.shape, other, tl.float32)
    if HAS_VALUES:
        found = tl.where(owned, tl.load(values + head, owned, other=0.0) * LOG2E, found)
    return found


@triton.jit
def add_tile(
    scores, values, accumulated, best, total, DTYPE: tl.constexpr, MAY_HIDE_ALL: tl.constexpr
):
    """One step of the online softmax (Milakov and Gimelshein, arXiv 1805.02867).

    Args:
        scores: Float32 `[rows, keys]`, -inf where a row does not see a key.
        values: `[keys, BLOCK_D]`, in the dtype of the cache.
        accumulated, best, total: Float32 `[rows, BLOCK_D]`, `[rows]`, `[rows]`: sums over the tiles so far,
            weighed against the best score, which they come with.
        DTYPE: Of the queries, in which weights and values are multiplied.
        MAY_HIDE_ALL: Whether a row may see no key of this tile and none before; else `best` is finite.

    Returns the last three, this tile included.
    """
    better = tl.maximum(best, tl.max(scores, 1))
    reference = better
    if MAY_HIDE_ALL:
        reference = tl.where(better == float("-inf"), 0.0, better)
    weights = tl.exp2(scores - reference[:, None])
    shrink = tl.exp2(best - reference)
    total = total * shrink + tl.sum(weights, 1)
    accumulated = accumulated * shrink[:, None]
    accumulated = tl.dot(weights.to(DTYPE), values.to(DTYPE), accumulated, input_precision="ieee")
    return accumulated, better, total
