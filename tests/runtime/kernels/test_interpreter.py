"""The interpreter of the kernels' tests promises no more than a GPU does."""

from __future__ import annotations

import pytest
import torch

from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)
import triton.language as tl
from triton.runtime.interpreter import (
    InterpretedFunction,
    ReduceOps,
    ScanOps,
    interpreter_builder,
)

from tests.support.kernels.interpreter import interpreted_kernels


def _arrive(ticket, arrived):
    place = tl.atomic_add(ticket, 1)
    program = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    tl.store(arrived + place, program)


def _copy(source, target):
    lane = tl.arange(0, 4)
    tl.store(target + lane, tl.load(source + lane, lane < 2))


def test_every_program_runs_once_and_in_no_order_to_rely_on() -> None:
    arrived = torch.full((15,), -1, dtype=torch.int32)
    with interpreted_kernels():
        InterpretedFunction(_arrive)[(3, 5)](torch.zeros(1, dtype=torch.int32), arrived)
    order = arrived.tolist()
    assert sorted(order) == list(range(15))
    assert order not in (list(range(15)), list(range(14, -1, -1)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.int32])
def test_lanes_behind_a_mask_are_poison(dtype: torch.dtype) -> None:
    target = torch.zeros(4, dtype=dtype)
    with interpreted_kernels():
        InterpretedFunction(_copy)[(1,)](torch.ones(4, dtype=dtype), target)
    assert target[:2].tolist() == [1, 1]
    expected = torch.full((2,), -1, dtype=torch.int32).view(torch.uint8)
    assert torch.equal(target[2:].view(torch.uint8), expected[: target[2:].nbytes])


def test_the_interpreter_is_put_back() -> None:
    owners = interpreter_builder, ReduceOps, ScanOps
    before = [dict(vars(owner)) for owner in owners]
    with interpreted_kernels():
        assert all(vars(owner) != old for owner, old in zip(owners, before, strict=True))
    assert [dict(vars(owner)) for owner in owners] == before
