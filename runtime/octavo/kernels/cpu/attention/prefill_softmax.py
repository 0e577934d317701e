"""Online softmax of a prompt's attention: scores of a block of keys become weights.

Queries lie in lanes, so that a maximum over keys takes whole vectors, one after another.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from octavo.kernels.cpu.attention.prefill_layout import Layout, at_most
from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.jit import part

HIDDEN = np.float32(-3.0e38)
"""The score of a key that a query does not see, and what a maximum begins with."""

_LOG2_E = np.float32(1.4426950408889634)


@part
def _scale(scores: Any, at: int, end: int, width: int, scale: Any, softcap: Any) -> None:
    scales = v.splat(scale)
    for t in range(at, end, width):
        v.store(scores, t, v.multiply(v.load(scores, t), scales))
    if softcap > np.float32(0):
        one, two, cap = v.splat(np.float32(1)), v.splat(np.float32(2)), v.splat(softcap)
        for t in range(at, end, width):
            # tanh(x) = 1 - 2 / (exp(2 x) + 1)
            power = v.exp(v.divide(v.multiply(two, v.load(scores, t)), cap))
            tanh = v.subtract(one, v.divide(two, v.add(power, one)))
            v.store(scores, t, v.multiply(cap, tanh))


@part
def _fall(scores: Any, at: int, n: int, width: int, places: Any, slopes: Any) -> None:
    """Lowers the scores of `_hide`'s keys by their distance."""
    for t in range(n):
        distance = v.subtract(v.splat(np.float32(t)), places)
        place = at + t * width
        v.store(scores, place, v.multiply_add(slopes, distance, v.load(scores, place)))


@part
def _hide(scores: Any, at: int, n: int, width: int, places: Any, window: int) -> None:
    """Hides the keys that a query does not see; `places` are the queries' own among the block's keys."""
    hidden = v.splat(HIDDEN)
    behind = v.subtract(places, v.splat(np.float32(window)))
    for t in range(n):
        key = v.splat(np.float32(t))
        value = at_most(key, places, v.load(scores, at + t * width), hidden)
        if window > 0:
            value = at_most(key, behind, hidden, value)
        v.store(scores, at + t * width, value)


def make_weigh(layout: Layout, width: int) -> Any:
    """`weigh(scores, weights, n, state, seen, options)`, a `part`, for `width` queries and n keys.

    `scores` are `[n, width]`, `weights` `[n / packing, width]` elements. `state` is (pointer, place) of the
    queries' (factors, maxima, sums of weights, places, slopes), `width` numbers each: factors are what sums
    of earlier blocks are worth beside these weights. `seen` is (whether any key is hidden, what is added to
    places), `options` (scale, softcap, window, whether there are slopes, whether there are sinks).
    """
    packing, store_weights = layout.packing, layout.store_weights
    depth = layout.step * packing
    # What is rounded to bfloat16 has 8 bits.
    power = v.exp2 if packing == 1 else v.exp2_coarse

    @part
    def weigh(scores: Any, weights: Any, n: int, state: Any, seen: Any, options: Any) -> None:
        scale, softcap, window, has_slopes, has_sinks = options
        end = (n + depth - 1) // depth * depth
        # Else scores are compared as they are, since the scale is positive, and scaled with the exponent.
        is_scaled = softcap > np.float32(0) or has_slopes or has_sinks
        scales = v.splat(_LOG2_E if is_scaled else scale * _LOG2_E)
        for lane in range(0, width, v.LANES):
            at = state[1] + lane
            if is_scaled:
                _scale(scores, lane, lane + n * width, width, scale, softcap)
            own = v.add(v.load(state[0], at + 3 * width), v.splat(np.float32(seen[1])))
            if has_slopes:
                _fall(scores, lane, n, width, own, v.load(state[0], at + 4 * width))
            if seen[0]:
                _hide(scores, lane, n, width, own, window)
            for t in range(n, end):
                v.store(scores, t * width + lane, v.splat(HIDDEN))
            before = v.load(state[0], at + width)
            top = before
            for t in range(n):
                top = v.larger(v.load(scores, t * width + lane), top)
            factor = v.exp2(v.multiply(v.subtract(before, top), scales))
            total = v.multiply(v.load(state[0], at + 2 * width), factor)
            for t in range(0, end, packing):
                place = t * width + lane
                first = power(v.multiply(v.subtract(v.load(scores, place), top), scales))
                second = first
                total = v.add(total, first)
                if packing == 2:
                    behind = v.subtract(v.load(scores, place + width), top)
                    second = power(v.multiply(behind, scales))
                    total = v.add(total, second)
                store_weights(weights, t // packing * width + lane, first, second)
            v.store(state[0], at, factor)
            v.store(state[0], at + width, top)
            v.store(state[0], at + 2 * width, total)

    return weigh
