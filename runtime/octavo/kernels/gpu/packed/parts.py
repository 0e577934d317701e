"""Parts of a product whose inner axis is split over programs, added up in one order."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from octavo.kernels.gpu.compiling.compile import ShippedConfiguration, launch_options
from octavo.kernels.gpu.tuning.packed import ADD_COLUMNS


def add_parts(parts: torch.Tensor, bias: torch.Tensor | None, out: torch.Tensor) -> None:
    """Writes the sum over the first axis, and `bias`, into `out`.

    Args:
        parts: `[parts, rows, width]` float32, contiguous.
        bias: `[width]`.
        out: `[rows, width]`.
    """
    num_parts, num_rows, width = parts.shape
    _add_parts[(num_rows, triton.cdiv(width, ADD_COLUMNS))](
        parts,
        bias,
        out,
        out.stride(0),
        WIDTH=width,
        PARTS=num_parts,
        COLUMNS=ADD_COLUMNS,
        **launch_options(4, 1),
    )


@triton.jit
def _add_parts(
    parts,
    bias,
    out,
    out_stride,
    WIDTH: tl.constexpr,
    PARTS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < WIDTH
    part_stride = tl.num_programs(0).to(tl.int64) * WIDTH
    total = tl.zeros([COLUMNS], tl.float32)
    if bias is not None:
        total += tl.load(bias + column, inside, other=0.0).to(tl.float32)
    for part in tl.static_range(PARTS):
        total += tl.load(parts + part * part_stride + row * WIDTH + column, inside, other=0.0)
    tl.store(out + row * out_stride + column, total.to(out.dtype.element_ty), inside)


def shipped_configurations() -> Iterator[ShippedConfiguration]:
    yield ShippedConfiguration(
        name="add-4",
        kernel=_add_parts,
        arguments={"parts": "*fp32", "out": "*bf16", "out_stride": "i32"},
        constants={"bias": None, "WIDTH": 6144, "PARTS": 4, "COLUMNS": ADD_COLUMNS},
        num_warps=4,
        num_stages=1,
        divisible=frozenset({"out_stride"}),
    )
