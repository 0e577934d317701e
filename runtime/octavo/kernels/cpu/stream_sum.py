"""Sum of the residual stream and what is pending, into memory of the caller's, for CPUs: what torch adds is
not written down by a recording, and a watched model's decodes are to be repeated like any other's."""

from __future__ import annotations

from typing import Any

import torch

from octavo.kernels import reference
from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.jit import kernel, part, team_kernel
from octavo.kernels.cpu.compiling.team import is_for_team, run_on_rows


@part
def _rows(residual: Any, delta: Any, has_delta: bool, out: Any, rows: Any, shape: Any) -> None:
    """Of `rows` (first, end); `shape` is their width, and what lies between two of `out`."""
    width, stride = shape
    for r in range(rows[0], rows[1]):
        for c in range(0, width, v.LANES):
            x = v.load(residual, r * width + c)
            if has_delta:
                x = v.add(x, v.load(delta, r * width + c))
            v.store(out, r * stride + c, x)


@part
def _run(residual: Any, delta: Any, out: Any, job: Any) -> None:
    """`job` is `run_on_rows`'s for (residual, delta or 0, out, stride)."""
    first = v.count_up(job, 0) * job[2]
    while first < job[1]:
        rows = (first, min(first + job[2], job[1]))
        _rows(residual, delta, job[5] != 0, out, rows, (job[3], job[7]))
        first = v.count_up(job, 0) * job[2]


_SIGNATURE = "void(int64, int64, int64, int64, int64, int64)"


@kernel(_SIGNATURE)
def _float32(residual: int, delta: int, out: int, rows: int, width: int, stride: int) -> None:
    r, d, o = v.float32_at(residual), v.float32_at(delta), v.float32_at(out)
    _rows(r, d, delta != 0, o, (0, rows), (width, stride))


@kernel(_SIGNATURE)
def _bfloat16(residual: int, delta: int, out: int, rows: int, width: int, stride: int) -> None:
    r, d, o = v.bfloat16_at(residual), v.bfloat16_at(delta), v.bfloat16_at(out)
    _rows(r, d, delta != 0, o, (0, rows), (width, stride))


@team_kernel
def _float32_on_team(address: int) -> None:
    job = v.int64_at(address)
    _run(v.float32_at(job[4]), v.float32_at(job[5]), v.float32_at(job[6]), job)


@team_kernel
def _bfloat16_on_team(address: int) -> None:
    job = v.int64_at(address)
    _run(v.bfloat16_at(job[4]), v.bfloat16_at(job[5]), v.bfloat16_at(job[6]), job)


_KERNELS = {
    torch.float32: (_float32, _float32_on_team),
    torch.bfloat16: (_bfloat16, _bfloat16_on_team),
}


def sum_stream(residual: torch.Tensor, pending: torch.Tensor | None, out: torch.Tensor) -> None:
    """See `StreamKernels.sum_stream`."""
    kernels = _KERNELS.get(residual.dtype)
    inputs = [residual] if pending is None else [residual, pending]
    is_dense = all(each.is_contiguous() and each.dtype == out.dtype for each in inputs)
    rows, width = residual.shape
    if kernels is None or not is_dense or width % v.LANES or out.stride(1) != 1:
        reference.sum_stream(residual, pending, out)
        return
    delta = 0 if pending is None else pending.data_ptr()
    alone, on_team = kernels
    addresses = (residual.data_ptr(), delta, out.data_ptr())
    if is_for_team(rows * width):
        run_on_rows(on_team, rows, width, *addresses, out.stride(0))
    else:
        alone(*addresses, rows, width, out.stride(0))
