"""What decode and prefill share: scores in units of log2, so that the softmax is made of `exp2` alone."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def scaled_scores(
    products,
    score_scale,
    softcap,
    slopes,
    distance,
    HAS_SOFTCAP: tl.constexpr,
    HAS_ALIBI: tl.constexpr,
):
    """Products of queries and keys, float32 `[rows, keys]`, to scores times log2(e).

    Args:
        slopes: ALiBi's, float32 `[rows]`.
        distance: Key position minus query position, `[rows, keys]` or `[1, keys]`.
    """
    LOG2E: tl.constexpr = 1.4426950408889634
    if HAS_SOFTCAP:
        # tanh(x) = 1 - 2 / (1 + e^2x), which neither overflows nor yields NaN at either end.
        doubled = products * (score_scale * 2.0 * LOG2E / softcap)
        scores = (softcap * LOG2E) * (1.0 - 2.0 / (1.0 + tl.exp2(doubled)))
    else:
        scores = products * (score_scale * LOG2E)
    if HAS_ALIBI:
        scores += (slopes * LOG2E)[:, None] * distance
    return scores
