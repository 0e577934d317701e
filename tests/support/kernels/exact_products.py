"""Exact products: what a kernel's may differ by from those in double precision."""

from __future__ import annotations

import torch


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def check(
    result: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> None:
    """Sums in float32, in any order, are off by an ulp for each term at most; then the result is rounded."""
    x, weight = x.double(), weight.double()
    expected = x @ weight.T
    summed = x.abs() @ weight.abs().T
    if bias is not None:
        expected = expected + bias.double()
        summed = summed + bias.double().abs()
    last = 2**-8 if result.dtype is torch.bfloat16 else 2**-23
    allowed = (weight.shape[1] + 4) * 2**-24 * summed + last * expected.abs()
    assert ((result.double() - expected).abs() <= allowed).all()
