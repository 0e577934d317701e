"""Expert gate: how an expert's gate and up become one (SwiGLU, Shazeer 2020, and its bounded kin)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class ExpertGate:
    """`g * sigmoid(alpha * g) * (u + shift)`, where `g` is the gate and `u` is up.

    gpt-oss has all of it: both are bounded, SiLU is steeper, and up counts from -1.

    Args:
        is_gelu: The tanh form of GELU in place of `g * sigmoid(alpha * g)`.
        limit: Neither is more, and up is not less than `-limit`; None: they are what they are.
    """

    is_gelu: bool = False
    alpha: float = 1.0
    limit: float | None = None
    shift: float = 0.0


SILU: Final = ExpertGate()
GELU_TANH: Final = ExpertGate(is_gelu=True)
