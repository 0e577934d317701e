"""Rounding of a product's inputs to e4m3, with a scale for each row, or for each 128 inputs of a row.

A row's largest number must be known before its first one is rounded: a program reads its row twice, the
second time from the cache. The scale is divided by, exactly: products are those of the numbers that a
checkpoint was made for.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from octavo.kernels.fp8 import E4M3_MAX
from octavo.kernels.gpu.compiling.compile import ShippedConfiguration, launch_options
from octavo.kernels.gpu.tuning.scaled import GROUPS_TOGETHER, GROUPS_WARPS, row_tile
from octavo.kernels.scaled_weight import GROUP

_E4M3_MAX = tl.constexpr(E4M3_MAX)
_GROUP = tl.constexpr(GROUP)


def round_rows(
    x: torch.Tensor, scale: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `reference.round_inputs` with one group, of which `x` is contiguous.

    Returns `[rows, depth]` float8_e4m3fn and `[rows, 1]` float32.
    """
    num_rows, depth = x.shape
    codes = torch.empty(x.shape, dtype=torch.float8_e4m3fn, device=x.device)
    scales = torch.empty(num_rows, 1, dtype=torch.float32, device=x.device)
    tile = row_tile(depth)
    _round_rows[(num_rows,)](
        x,
        scale,
        codes,
        scales,
        DEPTH=depth,
        COLUMNS=tile.columns,
        **launch_options(tile.num_warps, 1),
    )
    return codes, scales


def round_groups(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `reference.round_inputs` in groups of 128, of which `x` is contiguous.

    Returns `[rows, depth]` float8_e4m3fn and `[groups, rows]` float32: a tile of rows reads neighbours.
    """
    num_rows, depth = x.shape
    groups = depth // GROUP
    codes = torch.empty(x.shape, dtype=torch.float8_e4m3fn, device=x.device)
    scales = torch.empty(groups, num_rows, dtype=torch.float32, device=x.device)
    _round_groups[(num_rows, triton.cdiv(groups, GROUPS_TOGETHER))](
        x,
        codes,
        scales,
        num_rows,
        GROUPS=groups,
        TOGETHER=GROUPS_TOGETHER,
        **launch_options(GROUPS_WARPS, 1),
    )
    return codes, scales


@triton.jit
def _round_rows(x, scale, codes, scales, DEPTH: tl.constexpr, COLUMNS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, COLUMNS)
    source = x + row * DEPTH
    if scale is None:
        largest = tl.zeros([COLUMNS], tl.float32)
        for begin in range(0, DEPTH, COLUMNS):
            numbers = tl.load(source + begin + column, begin + column < DEPTH, other=0.0)
            largest = tl.maximum(largest, tl.abs(numbers.to(tl.float32)))
        divisor = _scale_of(tl.max(largest, axis=0))
    else:
        divisor = tl.load(scale)
    for begin in range(0, DEPTH, COLUMNS):
        inside = begin + column < DEPTH
        numbers = tl.load(source + begin + column, inside, other=0.0)
        tl.store(codes + row * DEPTH + begin + column, _rounded(numbers, divisor), inside)
    tl.store(scales + row, divisor)


@triton.jit(do_not_specialize=["num_rows"])
def _round_groups(x, codes, scales, num_rows, GROUPS: tl.constexpr, TOGETHER: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    group = tl.program_id(1) * TOGETHER + tl.arange(0, TOGETHER)
    place = row * (GROUPS * _GROUP) + group[:, None] * _GROUP + tl.arange(0, _GROUP)[None, :]
    inside = group < GROUPS
    numbers = tl.load(x + place, inside[:, None], other=0.0)
    divisor = _scale_of(tl.max(tl.abs(numbers.to(tl.float32)), axis=1))
    tl.store(codes + place, _rounded(numbers, divisor[:, None]), inside[:, None])
    tl.store(scales + group * num_rows + row, divisor, inside)


@triton.jit
def _scale_of(largest):
    """What makes it the largest e4m3; 1 of zeros."""
    return tl.where(largest == 0, 1.0, tl.div_rn(largest, _E4M3_MAX))


@triton.jit
def _rounded(numbers, divisor):
    """To nearest even, saturated; NaN stays NaN."""
    return tl.div_rn(numbers.to(tl.float32), divisor).to(tl.float8e4nv)


def shipped_configurations() -> Iterator[ShippedConfiguration]:
    # A cast to this format exists on no GPU before compute capability 8.9.
    chips = (89, 90)
    for depth, is_static in ((1024, False), (14336, False), (4096, True)):
        tile = row_tile(depth)
        yield ShippedConfiguration(
            name=f"rows-{depth}{'-static' if is_static else ''}",
            kernel=_round_rows,
            arguments={
                "x": "*bf16",
                "scale": "*fp32",
                "codes": "*fp8e4nv",
                "scales": "*fp32",
            },
            constants={
                **({} if is_static else {"scale": None}),
                "DEPTH": depth,
                "COLUMNS": tile.columns,
            },
            num_warps=tile.num_warps,
            num_stages=1,
            capabilities=chips,
        )
    yield ShippedConfiguration(
        name="groups",
        kernel=_round_groups,
        arguments={"x": "*bf16", "codes": "*fp8e4nv", "scales": "*fp32", "num_rows": "i32"},
        constants={"GROUPS": 32, "TOGETHER": GROUPS_TOGETHER},
        num_warps=GROUPS_WARPS,
        num_stages=1,
        capabilities=chips,
    )
