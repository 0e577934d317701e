"""Stores round to bfloat16 as torch does, whether the CPU has an instruction for it or not."""

from __future__ import annotations

import torch

from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.NUMBA)
from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.jit import kernel

_LEAST_NORMAL = 2.0**-126


@kernel("void(int64, int64, int64)")
def _round(source: int, target: int, count: int) -> None:
    for i in range(0, count, v.LANES):
        v.store(v.bfloat16_at(target), i, v.load(v.float32_at(source), i))


def test_every_kind_of_number_is_rounded_to_nearest_even() -> None:
    upper = torch.arange(2**16, dtype=torch.int64).repeat_interleave(8) << 16
    # Below, at and above the middle between two bfloat16, and any.
    lower = torch.tensor([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 0x1234, 0xCBA9]).repeat(2**16)
    values = (upper | lower).to(torch.int32).view(torch.float32)
    rounded = torch.empty(len(values), dtype=torch.bfloat16)
    _round(values.data_ptr(), rounded.data_ptr(), len(values))
    expected = values.bfloat16()
    is_small = values.abs() < _LEAST_NORMAL
    torch.testing.assert_close(
        rounded[~is_small], expected[~is_small], rtol=0, atol=0, equal_nan=True
    )
    assert ((rounded == expected) | (rounded == 0))[is_small].all()
