"""Root-mean-square normalisation (Zhang and Sennrich, 2019) for CPUs: one pass with the residual's sum."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from octavo.kernels import reference
from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.jit import kernel, part

_SIGNATURE = "void(int64, int64, int64, int64, int64, int64, float64)"


@part
def _rows(
    residual: Any,
    delta: Any,
    has_delta: bool,
    weight: Any,
    out: Any,
    rows: int,
    width: int,
    eps: float,
) -> None:
    """`out = norm(residual + delta)`, row by row; the sum is left in `residual`."""
    for start in range(0, rows * width, width):
        squares = v.splat(np.float32(0))
        for c in range(start, start + width, v.LANES):
            if has_delta:
                v.store(residual, c, v.add(v.load(residual, c), v.load(delta, c)))
            x = v.load(residual, c)
            squares = v.multiply_add(x, x, squares)
        mean = v.sum_lanes(squares) / np.float32(width)
        scale = v.splat(np.float32(1) / np.float32(math.sqrt(mean + np.float32(eps))))
        for c in range(0, width, v.LANES):
            x = v.multiply(v.load(residual, start + c), scale)
            v.store(out, start + c, v.multiply(x, v.load(weight, c)))


@kernel(_SIGNATURE)
def _float32(
    residual: int, delta: int, weight: int, out: int, rows: int, width: int, eps: float
) -> None:
    r, d = v.float32_at(residual), v.float32_at(delta)
    _rows(r, d, delta != 0, v.float32_at(weight), v.float32_at(out), rows, width, eps)


@kernel(_SIGNATURE)
def _bfloat16(
    residual: int, delta: int, weight: int, out: int, rows: int, width: int, eps: float
) -> None:
    r, d = v.bfloat16_at(residual), v.bfloat16_at(delta)
    _rows(r, d, delta != 0, v.bfloat16_at(weight), v.bfloat16_at(out), rows, width, eps)


_KERNELS = {torch.float32: _float32, torch.bfloat16: _bfloat16}


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """See `Kernels.rms_norm`."""
    if not _suits(x, weight):
        return reference.rms_norm(x, weight, eps)
    out = torch.empty_like(x)
    width = weight.shape[0]
    rows = x.numel() // width
    _KERNELS[x.dtype](x.data_ptr(), 0, weight.data_ptr(), out.data_ptr(), rows, width, eps)
    return out


def add_rms_norm(
    residual: torch.Tensor, delta: torch.Tensor, weight: torch.Tensor, eps: float
) -> torch.Tensor:
    """See `Kernels.add_rms_norm`."""
    if not (_suits(residual, weight) and delta.is_contiguous() and delta.dtype == residual.dtype):
        return reference.add_rms_norm(residual, delta, weight, eps)
    out = torch.empty_like(residual)
    width = weight.shape[0]
    _KERNELS[residual.dtype](
        residual.data_ptr(),
        delta.data_ptr(),
        weight.data_ptr(),
        out.data_ptr(),
        residual.numel() // width,
        width,
        eps,
    )
    return out


def _suits(x: torch.Tensor, weight: torch.Tensor) -> bool:
    return (
        x.dtype in _KERNELS
        and weight.dtype == x.dtype
        and weight.shape[0] % v.LANES == 0
        and x.is_contiguous()
    )
