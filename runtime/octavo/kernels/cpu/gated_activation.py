"""Gate of a feed-forward block (Shazeer, 2020) for CPUs: one pass over both halves."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from octavo.kernels import reference
from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.jit import kernel, part, team_kernel
from octavo.kernels.cpu.compiling.team import is_for_team, run_on_rows
from octavo.kernels.reference import gelu_and_mul

__all__ = ["gelu_and_mul", "silu_and_mul"]

_SIGNATURE = "void(int64, int64, int64, int64)"


@part
def _rows(gate_up: Any, out: Any, first: int, end: int, width: int) -> None:
    zero, one = v.splat(np.float32(0)), v.splat(np.float32(1))
    for r in range(first, end):
        for c in range(0, width, v.LANES):
            gate = v.load(gate_up, 2 * r * width + c)
            up = v.load(gate_up, (2 * r + 1) * width + c)
            silu = v.divide(gate, v.add(one, v.exp(v.subtract(zero, gate))))
            v.store(out, r * width + c, v.multiply(silu, up))


@kernel(_SIGNATURE)
def _float32(gate_up: int, out: int, rows: int, width: int) -> None:
    _rows(v.float32_at(gate_up), v.float32_at(out), 0, rows, width)


@kernel(_SIGNATURE)
def _bfloat16(gate_up: int, out: int, rows: int, width: int) -> None:
    _rows(v.bfloat16_at(gate_up), v.bfloat16_at(out), 0, rows, width)


@part
def _run(gate_up: Any, out: Any, job: Any) -> None:
    """`job` is `run_on_rows`'s for (gate and up, out)."""
    first = v.count_up(job, 0) * job[2]
    while first < job[1]:
        _rows(gate_up, out, first, min(first + job[2], job[1]), job[3])
        first = v.count_up(job, 0) * job[2]


@team_kernel
def _float32_on_team(address: int) -> None:
    job = v.int64_at(address)
    _run(v.float32_at(job[4]), v.float32_at(job[5]), job)


@team_kernel
def _bfloat16_on_team(address: int) -> None:
    job = v.int64_at(address)
    _run(v.bfloat16_at(job[4]), v.bfloat16_at(job[5]), job)


_KERNELS = {torch.float32: _float32, torch.bfloat16: _bfloat16}
_TEAM_KERNELS = {torch.float32: _float32_on_team, torch.bfloat16: _bfloat16_on_team}


def silu_and_mul(gate_up: torch.Tensor) -> torch.Tensor:
    """See `Kernels.silu_and_mul`."""
    run = _KERNELS.get(gate_up.dtype)
    width = gate_up.shape[-1] // 2
    if run is None or width % v.LANES or not gate_up.is_contiguous():
        return reference.silu_and_mul(gate_up)
    out = gate_up.new_empty((*gate_up.shape[:-1], width))
    rows = gate_up.numel() // (2 * width)
    if is_for_team(out.numel()):
        team = _TEAM_KERNELS[gate_up.dtype]
        run_on_rows(team, rows, width, gate_up.data_ptr(), out.data_ptr())
    else:
        run(gate_up.data_ptr(), out.data_ptr(), rows, width)
    return out
