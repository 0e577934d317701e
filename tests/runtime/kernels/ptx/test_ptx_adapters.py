"""Compiled products of adapters give what the exact ones do."""

from __future__ import annotations

import pytest
import torch

from octavo.kernels.adapter_tiles import NO_SEAT
from tests.support.kernels.poison import poisoned_memory
from tests.support.kernels.seated_adapters import adapter_case, assert_added
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)
from octavo.kernels.gpu import device as gpu


@pytest.mark.parametrize(
    ("rows", "depth", "widths", "max_rank", "dtype"),
    [
        (5, 1024, (48, 32, 32), 16, torch.bfloat16),  # in splits
        (7, 200, (70,), 32, torch.float16),  # of widths that no block divides
        (130, 128, (64, 64), 48, torch.bfloat16),  # what an H100 multiplies by warpgroups
    ],
)
def test_each_row_gets_what_its_own_adapter_adds(
    device: torch.device,
    rows: int,
    depth: int,
    widths: tuple[int, ...],
    max_rank: int,
    dtype: torch.dtype,
) -> None:
    parts = len(widths)
    case = adapter_case(
        device,
        dtype,
        depth=depth,
        widths=widths,
        ranks=[(max_rank,) * parts, (16, 0, 16)[:parts]],
        seats=[(0, 1, NO_SEAT, 1)[row % 4] for row in range(rows)],
        max_rank=max_rank,
        spare_tiles=1,
    )
    got = case.out.clone()
    with poisoned_memory():
        gpu.adapter_expand(
            gpu.adapter_shrink(case.x, case.product, case.tiles), case.product, case.tiles, got
        )
    assert_added(got, case)
