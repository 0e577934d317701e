"""Rounding: how far a kernel's result may lie from the exact one: as far as its roundings carry it."""

from __future__ import annotations

import torch

FLOATS = [torch.bfloat16, torch.float16, torch.float32]

# Of one rounding to nearest, relative: half the last of 24, 11 and 8 bits.
_UNIT_ROUNDOFF = {torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
# Of what kernels sum and evaluate in float32 before.
_COMPUTED = 1e-5


def tolerance(dtype: torch.dtype, roundings: int) -> float:
    """The relative error of a value that is rounded to `dtype` so many times, one after another."""
    return float((1 + _UNIT_ROUNDOFF[dtype]) ** roundings - 1 + _COMPUTED)


def in_range(size: float, dtype: torch.dtype) -> float:
    """`size`, or what squares of float16 hold of it: bfloat16 reaches as far as float32."""
    return min(size, 64) if dtype is torch.float16 else size


def assert_rounded(got: torch.Tensor, exact: torch.Tensor, roundings: int = 1) -> None:
    """`got` is `exact`, computed in float32 and rounded to its dtype so many times."""
    torch.testing.assert_close(
        got.double(), exact.double(), rtol=tolerance(got.dtype, roundings), atol=_COMPUTED
    )
