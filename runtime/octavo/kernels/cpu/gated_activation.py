"""Gate of a feed-forward block (Shazeer, 2020) for CPUs: one pass over both halves."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from octavo.kernels import reference
from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.jit import kernel, part
from octavo.kernels.reference import gelu_and_mul

__all__ = ["gelu_and_mul", "silu_and_mul"]

_SIGNATURE = "void(int64, int64, int64, int64)"


@part
def _rows(gate_up: Any, out: Any, rows: int, width: int) -> None:
    zero, one = v.splat(np.float32(0)), v.splat(np.float32(1))
    for r in range(rows):
        for c in range(0, width, v.LANES):
            gate = v.load(gate_up, 2 * r * width + c)
            up = v.load(gate_up, (2 * r + 1) * width + c)
            silu = v.divide(gate, v.add(one, v.exp(v.subtract(zero, gate))))
            v.store(out, r * width + c, v.multiply(silu, up))


@kernel(_SIGNATURE)
def _float32(gate_up: int, out: int, rows: int, width: int) -> None:
    _rows(v.float32_at(gate_up), v.float32_at(out), rows, width)


@kernel(_SIGNATURE)
def _bfloat16(gate_up: int, out: int, rows: int, width: int) -> None:
    _rows(v.bfloat16_at(gate_up), v.bfloat16_at(out), rows, width)


_KERNELS = {torch.float32: _float32, torch.bfloat16: _bfloat16}


def silu_and_mul(gate_up: torch.Tensor) -> torch.Tensor:
    """See `Kernels.silu_and_mul`."""
    run = _KERNELS.get(gate_up.dtype)
    width = gate_up.shape[-1] // 2
    if run is None or width % v.LANES or not gate_up.is_contiguous():
        return reference.silu_and_mul(gate_up)
    out = gate_up.new_empty((*gate_up.shape[:-1], width))
    run(gate_up.data_ptr(), out.data_ptr(), gate_up.numel() // (2 * width), width)
    return out
