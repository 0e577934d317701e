"""Root-mean-square normalisation (Zhang and Sennrich, 2019) for CPUs: one pass with the residual's sum."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from octavo.kernels import reference
from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.jit import kernel, part, team_kernel
from octavo.kernels.cpu.compiling.team import float32_bits, is_for_team, run_on_rows

_SIGNATURE = "void(int64, int64, int64, int64, int64, int64, float64)"


@part
def _rows(
    residual: Any,
    delta: Any,
    has_delta: bool,
    weight: Any,
    out: Any,
    rows: Any,
    width: int,
    eps: Any,
) -> None:
    """`out = norm(residual + delta)` of `rows` (first, end); the sum is left in `residual`."""
    for start in range(rows[0] * width, rows[1] * width, width):
        squares = v.splat(np.float32(0))
        for c in range(start, start + width, v.LANES):
            if has_delta:
                v.store(residual, c, v.add(v.load(residual, c), v.load(delta, c)))
            x = v.load(residual, c)
            squares = v.multiply_add(x, x, squares)
        mean = v.sum_lanes(squares) / np.float32(width)
        scale = v.splat(np.float32(1) / np.float32(math.sqrt(mean + eps)))
        for c in range(0, width, v.LANES):
            x = v.multiply(v.load(residual, start + c), scale)
            v.store(out, start + c, v.multiply(x, v.load(weight, c)))


@kernel(_SIGNATURE)
def _float32(
    residual: int, delta: int, weight: int, out: int, rows: int, width: int, eps: float
) -> None:
    r, d, w, o = (
        v.float32_at(residual),
        v.float32_at(delta),
        v.float32_at(weight),
        v.float32_at(out),
    )
    _rows(r, d, delta != 0, w, o, (0, rows), width, np.float32(eps))


@kernel(_SIGNATURE)
def _bfloat16(
    residual: int, delta: int, weight: int, out: int, rows: int, width: int, eps: float
) -> None:
    r, d, w, o = (
        v.bfloat16_at(residual),
        v.bfloat16_at(delta),
        v.bfloat16_at(weight),
        v.bfloat16_at(out),
    )
    _rows(r, d, delta != 0, w, o, (0, rows), width, np.float32(eps))


@kernel(_SIGNATURE)
def _bfloat16_by_float32(
    residual: int, delta: int, weight: int, out: int, rows: int, width: int, eps: float
) -> None:
    r, d, w, o = (
        v.bfloat16_at(residual),
        v.bfloat16_at(delta),
        v.float32_at(weight),
        v.bfloat16_at(out),
    )
    _rows(r, d, delta != 0, w, o, (0, rows), width, np.float32(eps))


@part
def _run(residual: Any, delta: Any, weight: Any, out: Any, job: Any) -> None:
    """`job` is `run_on_rows`'s for (residual, delta or 0, weight, out, eps)."""
    first = v.count_up(job, 0) * job[2]
    while first < job[1]:
        rows = (first, min(first + job[2], job[1]))
        _rows(residual, delta, job[5] != 0, weight, out, rows, job[3], v.float32_of(job[8]))
        first = v.count_up(job, 0) * job[2]


@team_kernel
def _float32_on_team(address: int) -> None:
    job = v.int64_at(address)
    at = (v.float32_at(job[4]), v.float32_at(job[5]), v.float32_at(job[6]), v.float32_at(job[7]))
    _run(at[0], at[1], at[2], at[3], job)


@team_kernel
def _bfloat16_on_team(address: int) -> None:
    job = v.int64_at(address)
    at = (
        v.bfloat16_at(job[4]),
        v.bfloat16_at(job[5]),
        v.bfloat16_at(job[6]),
        v.bfloat16_at(job[7]),
    )
    _run(at[0], at[1], at[2], at[3], job)


@team_kernel
def _bfloat16_by_float32_on_team(address: int) -> None:
    job = v.int64_at(address)
    at = (
        v.bfloat16_at(job[4]),
        v.bfloat16_at(job[5]),
        v.float32_at(job[6]),
        v.bfloat16_at(job[7]),
    )
    _run(at[0], at[1], at[2], at[3], job)


# By the dtypes of rows and weight: some families keep theirs less one, whose sum is no bfloat16.
_KERNELS = {
    (torch.float32, torch.float32): (_float32, _float32_on_team),
    (torch.bfloat16, torch.bfloat16): (_bfloat16, _bfloat16_on_team),
    (torch.bfloat16, torch.float32): (_bfloat16_by_float32, _bfloat16_by_float32_on_team),
}


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """See `Kernels.rms_norm`."""
    if not _suits(x, weight):
        return reference.rms_norm(x, weight, eps)
    return _normalise(x, 0, weight, eps)


def add_rms_norm(
    residual: torch.Tensor, delta: torch.Tensor, weight: torch.Tensor, eps: float
) -> torch.Tensor:
    """See `Kernels.add_rms_norm`."""
    if not (_suits(residual, weight) and delta.is_contiguous() and delta.dtype == residual.dtype):
        return reference.add_rms_norm(residual, delta, weight, eps)
    return _normalise(residual, delta.data_ptr(), weight, eps)


def _normalise(x: torch.Tensor, delta: int, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """`delta` is an address, or 0 for none."""
    out, width = torch.empty_like(x), weight.shape[0]
    rows = x.numel() // width
    tensors = (x.data_ptr(), delta, weight.data_ptr(), out.data_ptr())
    alone, on_team = _KERNELS[x.dtype, weight.dtype]
    if is_for_team(x.numel()):
        run_on_rows(on_team, rows, width, *tensors, float32_bits(eps))
    else:
        alone(*tensors, rows, width, eps)
    return out


def _suits(x: torch.Tensor, weight: torch.Tensor) -> bool:
    return (
        (x.dtype, weight.dtype) in _KERNELS and weight.shape[0] % v.LANES == 0 and x.is_contiguous()
    )
