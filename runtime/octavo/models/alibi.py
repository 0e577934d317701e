"""ALiBi: slopes of attention with linear biases (Press et al., arXiv 2108.12409), which takes the place of
positions.

Rotary tables are of zero width then: kernels turn nothing. What is added to a score is exact here, slope
times distance in float32; transformers rounds it to the dtype of the model, and Falcon's to bfloat16 always.
"""

from __future__ import annotations

import math

import torch

from octavo.layers.rotary import RopeConfig

NO_ROTATION = (RopeConfig(width=0),)
"""Rotary tables of a model without positions."""


def alibi_slopes(num_heads: int) -> tuple[float, ...]:
    """The paper's, `[num_heads]`: a geometric series, and where that is not a power of two every second of
    the series for twice as many behind it (BLOOM, Falcon)."""
    power = 2 ** math.floor(math.log2(num_heads))
    between = _series(2 * power)[::2]
    return (*_series(power), *between[: num_heads - power])


def mpt_slopes(num_heads: int, exponent: float) -> tuple[float, ...]:
    """MPT's, `[num_heads]`: of the series for the next power of two, which ends at `2 ** -exponent`, every
    second first."""
    power = 2 ** math.ceil(math.log2(num_heads))
    series = _series(power, exponent)
    return series if power == num_heads else (*series[1::2], *series[::2])[:num_heads]


def rounded_to_bfloat16(slopes: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(torch.tensor(slopes).bfloat16().tolist())


def _series(count: int, exponent: float = 8.0) -> tuple[float, ...]:
    return tuple(2.0 ** (-exponent * number / count) for number in range(1, count + 1))
