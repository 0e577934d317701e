"""Gate of a feed-forward block (Shazeer, 2020) for CPUs: one pass over both halves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from octavo.kernels import reference
from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.jit import TeamKernel, kernel, part, team_kernel
from octavo.kernels.cpu.compiling.team import is_for_team, run_on_rows

_SIGNATURE = "void(int64, int64, int64, int64)"


@part
def _silu_exponent(gate: Any) -> Any:
    return gate


@part
def _gelu_exponent(gate: Any) -> Any:
    """The tanh form of GELU is `gate * sigmoid(2 u)`, with `u = sqrt(2 / pi) (gate + 0.044715 gate^3)`."""
    cubic = v.multiply(v.splat(np.float32(0.07135481627)), v.multiply(gate, gate))
    return v.multiply(gate, v.add(v.splat(np.float32(1.595769122)), cubic))


def _make_rows(exponent: Any) -> Any:
    @part
    def rows(gate_up: Any, out: Any, first: int, end: int, width: int) -> None:
        """`gate * sigmoid(exponent(gate)) * up`."""
        zero, one = v.splat(np.float32(0)), v.splat(np.float32(1))
        for r in range(first, end):
            for c in range(0, width, v.LANES):
                gate = v.load(gate_up, 2 * r * width + c)
                up = v.load(gate_up, (2 * r + 1) * width + c)
                decay = v.exp(v.subtract(zero, exponent(gate)))
                v.store(out, r * width + c, v.multiply(v.divide(gate, v.add(one, decay)), up))

    return rows


def _make_run(rows: Any) -> Any:
    @part
    def run(gate_up: Any, out: Any, job: Any) -> None:
        """`job` is `run_on_rows`'s for (gate and up, out)."""
        first = v.count_up(job, 0) * job[2]
        while first < job[1]:
            rows(gate_up, out, first, min(first + job[2], job[1]), job[3])
            first = v.count_up(job, 0) * job[2]

    return run


_silu_rows, _gelu_rows = _make_rows(_silu_exponent), _make_rows(_gelu_exponent)
_silu_run, _gelu_run = _make_run(_silu_rows), _make_run(_gelu_rows)


@kernel(_SIGNATURE)
def _silu_float32(gate_up: int, out: int, rows: int, width: int) -> None:
    _silu_rows(v.float32_at(gate_up), v.float32_at(out), 0, rows, width)


@kernel(_SIGNATURE)
def _silu_bfloat16(gate_up: int, out: int, rows: int, width: int) -> None:
    _silu_rows(v.bfloat16_at(gate_up), v.bfloat16_at(out), 0, rows, width)


@kernel(_SIGNATURE)
def _gelu_float32(gate_up: int, out: int, rows: int, width: int) -> None:
    _gelu_rows(v.float32_at(gate_up), v.float32_at(out), 0, rows, width)


@kernel(_SIGNATURE)
def _gelu_bfloat16(gate_up: int, out: int, rows: int, width: int) -> None:
    _gelu_rows(v.bfloat16_at(gate_up), v.bfloat16_at(out), 0, rows, width)


@team_kernel
def _silu_float32_on_team(address: int) -> None:
    job = v.int64_at(address)
    _silu_run(v.float32_at(job[4]), v.float32_at(job[5]), job)


@team_kernel
def _silu_bfloat16_on_team(address: int) -> None:
    job = v.int64_at(address)
    _silu_run(v.bfloat16_at(job[4]), v.bfloat16_at(job[5]), job)


@team_kernel
def _gelu_float32_on_team(address: int) -> None:
    job = v.int64_at(address)
    _gelu_run(v.float32_at(job[4]), v.float32_at(job[5]), job)


@team_kernel
def _gelu_bfloat16_on_team(address: int) -> None:
    job = v.int64_at(address)
    _gelu_run(v.bfloat16_at(job[4]), v.bfloat16_at(job[5]), job)


_Alone = Callable[[int, int, int, int], None]
_SILU: Mapping[torch.dtype, tuple[_Alone, TeamKernel]] = {
    torch.float32: (_silu_float32, _silu_float32_on_team),
    torch.bfloat16: (_silu_bfloat16, _silu_bfloat16_on_team),
}
_GELU: Mapping[torch.dtype, tuple[_Alone, TeamKernel]] = {
    torch.float32: (_gelu_float32, _gelu_float32_on_team),
    torch.bfloat16: (_gelu_bfloat16, _gelu_bfloat16_on_team),
}


def silu_and_mul(gate_up: torch.Tensor) -> torch.Tensor:
    """See `Kernels.silu_and_mul`."""
    if not _suits(gate_up):
        return reference.silu_and_mul(gate_up)
    return _gated(gate_up, *_SILU[gate_up.dtype])


def gelu_and_mul(gate_up: torch.Tensor) -> torch.Tensor:
    """See `Kernels.gelu_and_mul`."""
    if not _suits(gate_up):
        return reference.gelu_and_mul(gate_up)
    return _gated(gate_up, *_GELU[gate_up.dtype])


def _suits(gate_up: torch.Tensor) -> bool:
    width = gate_up.shape[-1] // 2
    return gate_up.dtype in _SILU and width % v.LANES == 0 and gate_up.is_contiguous()


def _gated(gate_up: torch.Tensor, alone: _Alone, on_team: TeamKernel) -> torch.Tensor:
    width = gate_up.shape[-1] // 2
    out = gate_up.new_empty((*gate_up.shape[:-1], width))
    rows = gate_up.numel() // (2 * width)
    if is_for_team(out.numel()):
        run_on_rows(on_team, rows, width, gate_up.data_ptr(), out.data_ptr())
    else:
        alone(gate_up.data_ptr(), out.data_ptr(), rows, width)
    return out
