"""Device functions over a row of logits as groups of 32 tokens: loading, ranking, measuring, perturbing.

A list of groups stands for a row, or for the part of it that matters: `size` ids at `listed` when it
`is_narrow`, else all `size` groups in order. The vocabulary's last group is filled up with -inf; where
memory goes on to its end (READABLE is a multiple of 32), it is read whole, as wide as all others.
"""

from __future__ import annotations

import triton
import triton.language as tl

from octavo.kernels.reference.sampling.sample import MASS_BITS

GROUP = tl.constexpr(32)
MASS_UNIT = tl.constexpr(2.0**MASS_BITS)


@triton.jit
def load_groups(row, group, inside, VOCAB: tl.constexpr, READABLE: tl.constexpr):
    """Logits of groups `[GROUPS]` as float32 `[GROUPS, 32]`; -inf outside, and for NaN."""
    token = group[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    inside = inside[:, None]
    if READABLE % GROUP.value != 0:
        # A mask that changes within a group makes a load of each value.
        inside &= token < VOCAB
    scores = tl.load(row + token, inside, other=float("-inf")).to(tl.float32)
    is_logit = scores == scores
    if READABLE != VOCAB:
        is_logit &= token < VOCAB
    return tl.where(is_logit, scores, float("-inf"))


@triton.jit
def load_listed(
    row, listed, is_narrow, size, start,
    VOCAB: tl.constexpr, READABLE: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Groups `start` to `start + TILE` of a list: ids `[TILE]` and logits `[TILE, 32]`."""
    group = start + tl.arange(0, TILE)
    inside = group < size
    if is_narrow:
        group = tl.load(listed + group, inside, other=0)
    return group, load_groups(row, group, inside, VOCAB, READABLE)


@triton.jit
def order_key(scores, SHIFT: tl.constexpr):
    """int32 that orders like the float32 it is made of; the SHIFT low bits that never vary are cut."""
    bits = tl.where(scores == 0, 0.0, scores).to(tl.int32, bitcast=True)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)) >> SHIFT


@triton.jit
def largest_below(key, SHIFT: tl.constexpr):
    """A float32 that no score with a smaller `order_key` exceeds."""
    bits = ((key.to(tl.int64) << SHIFT) - 1).to(tl.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def above(
    row, listed, is_narrow, size, pivot, top, inverse,
    VOCAB: tl.constexpr, READABLE: tl.constexpr, TILE: tl.constexpr, SHIFT: tl.constexpr,
):  # fmt: skip
    """Mass (int64, in units) and number (int32) of the listed tokens whose key is above `pivot`."""
    held = tl.zeros([TILE, GROUP], tl.int64)
    number = tl.zeros([TILE, GROUP], tl.int32)
    for start in range(0, size, TILE):
        _, scores = load_listed(row, listed, is_narrow, size, start, VOCAB, READABLE, TILE)
        is_above = order_key(scores, SHIFT) > pivot.to(tl.int32)
        weights = tl.where(is_above, tl.exp((scores - top) * inverse) * MASS_UNIT, 0.0)
        held += weights.to(tl.int64)
        number += is_above.to(tl.int32)
    return tl.sum(held), tl.sum(number)


@triton.jit
def threshold_key(
    row, listed, is_narrow, size, low, high, limit, top, inverse, by_mass,
    VOCAB: tl.constexpr, READABLE: tl.constexpr, TILE: tl.constexpr, SHIFT: tl.constexpr,
):  # fmt: skip
    """Least key that is kept: above it lies less than `limit` (float64), in mass or in number.

    It is above `low` and at most `high`, the best token's, by the caller's word.
    """
    number_low = tl.full([], VOCAB, tl.int32)
    number_high = tl.full([], 0, tl.int32)
    # The best token between the two is always kept, so that one alone needs no further search.
    while (high - low > 1) & (number_low - number_high > 1):
        middle = low + (high - low) // 2
        held, number = above(
            row, listed, is_narrow, size, middle, top, inverse, VOCAB, READABLE, TILE, SHIFT
        )
        measure = tl.where(by_mass, held.to(tl.float64), number.to(tl.float64))
        is_kept = measure < limit
        high = tl.where(is_kept, middle, high)
        number_high = tl.where(is_kept, number, number_high)
        low = tl.where(is_kept, low, middle)
        number_low = tl.where(is_kept, number_low, number)
    return low + 1


@triton.jit
def gumbel(seed, position, group):
    """Noise of the tokens of `group` `[GROUPS]` as `[GROUPS, 32]`; see the reference."""
    counter = (group[:, None] * (GROUP // 4) + tl.arange(0, GROUP // 4)[None, :]).to(tl.uint32)
    zero = counter * 0
    low = (position & 0xFFFFFFFF).to(tl.uint32) + zero
    high = ((position >> 32) & 0xFFFFFFFF).to(tl.uint32) + zero
    first, second, third, fourth = tl.philox(seed, counter, low, high, zero)
    bits = tl.join(tl.join(first, third), tl.join(second, fourth))
    bits = tl.reshape(bits, [group.shape[0], GROUP])
    uniform = tl.minimum((bits.to(tl.float32) + 0.5) * 2.3283064365386963e-10, 0.99999994039535522)
    tail = 1 + uniform * (1 / 2 + uniform * (1 / 3 + uniform * (1 / 4 + uniform / 5)))
    exponential = tl.where(uniform < 0.015625, uniform * tail, -tl.log(1 - uniform))
    return -tl.log(exponential)
