"""Product with a packed weight. `x @ weight.T + bias` of any number of rows: a stream of words for few, tiles
for many.

With few rows the inner axis is split over more programs, whose parts a second launch adds up, in one order.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from octavo.kernels.aligned_rows import aligned_rows
from octavo.kernels.gpu.compiling.compile import ShippedConfiguration, launch_options, pointer_to
from octavo.kernels.gpu.experts.tile import tile_and_columns
from octavo.kernels.gpu.packed.parts import add_parts
from octavo.kernels.gpu.packed.planes import (
    blocks_of_part,
    constants_of,
    products,
    weight_constants,
)
from octavo.kernels.gpu.tuning.chips import COMPACT_CHIPS, multiprocessors_of
from octavo.kernels.gpu.tuning.packed import PackedConfig, num_parts, packed_config
from octavo.kernels.packed_weight import PLANE, PackedWeight
from octavo.kernels.reference.weight_only import Code


def packed_linear(
    x: torch.Tensor,
    weight: PackedWeight,
    bias: torch.Tensor | None = None,
    *,
    is_aligned: bool = False,
) -> torch.Tensor:
    """As `reference.packed_linear`, computed in float32 and rounded once; `x` is contiguous."""
    num_rows, width = x.shape[0], weight.width
    device = x.device
    make = aligned_rows if is_aligned else torch.empty
    out = make(num_rows, width, dtype=x.dtype, device=device)
    if not num_rows:
        return out
    config = packed_config(x.dtype, num_rows)
    num_blocks = weight.words.shape[0] // PLANE
    parts = num_parts(config, multiprocessors_of(device), num_rows, width, num_blocks)
    target = out
    if parts > 1:
        target = torch.empty(parts, num_rows, width, dtype=torch.float32, device=device)
    programs = triton.cdiv(num_rows, config.rows) * triton.cdiv(width, config.columns)
    _packed_linear[(programs, parts)](
        x,
        weight.words,
        weight.scales,
        weight.zeros,
        bias if parts == 1 else None,
        target,
        num_rows,
        target.stride(-2),
        **_constants(config, width, parts),
        **weight_constants(weight),
        **launch_options(config.num_warps, config.num_stages),
    )
    if parts > 1:
        add_parts(target, bias, out)
    return out


def _constants(config: PackedConfig, width: int, parts: int) -> dict[str, int]:
    return {
        "WIDTH": width,
        "PARTS": parts,
        "BLOCK_ROWS": config.rows,
        "BLOCK_COLUMNS": config.columns,
        "TILES_TOGETHER": config.group,
    }


@triton.jit(do_not_specialize=["num_rows"])
def _packed_linear(
    x,
    words,
    scales,
    zeros,
    bias,
    out,
    num_rows,
    out_stride,
    WIDTH: tl.constexpr,
    PARTS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    TILES_TOGETHER: tl.constexpr,
    DEPTH: tl.constexpr,
    GROUP: tl.constexpr,
    PLANES: tl.constexpr,
    TOGETHER: tl.constexpr,
    IS_ONE_GROUP: tl.constexpr,
    IS_FLOAT: tl.constexpr,
    OFFSET: tl.constexpr,
    UNIT: tl.constexpr,
):
    """One tile of rows, one block of columns, one part of the inner axis."""
    COLUMN_BLOCKS: tl.constexpr = (WIDTH + BLOCK_COLUMNS - 1) // BLOCK_COLUMNS
    BLOCKS: tl.constexpr = (DEPTH + 16 * PLANES - 1) // (16 * PLANES)
    row_tiles = (num_rows + BLOCK_ROWS - 1) // BLOCK_ROWS
    tile, column_block = tile_and_columns(
        tl.program_id(0), row_tiles, COLUMN_BLOCKS, TILES_TOGETHER
    )
    part = tl.program_id(1)
    row = tile * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    column = column_block * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    inside = column < WIDTH
    # Beyond the last row it is read again: no load of rows needs a mask.
    rows = x + tl.minimum(row, num_rows - 1).to(tl.int64)[:, None] * DEPTH
    begin, end = blocks_of_part(part, BLOCKS, PARTS)
    total = products(
        rows,
        x.dtype.element_ty,
        begin,
        end,
        words,
        scales,
        zeros,
        column,
        inside,
        WIDTH,
        DEPTH,
        GROUP,
        PLANES,
        TOGETHER,
        IS_ONE_GROUP,
        IS_FLOAT,
        OFFSET,
        UNIT,
    )
    if bias is not None:
        total += tl.load(bias + column, inside, other=0.0).to(tl.float32)[None, :]
    target = out + (part.to(tl.int64) * num_rows + row)[:, None] * out_stride + column[None, :]
    tl.store(target, total.to(out.dtype.element_ty), (row < num_rows)[:, None] & inside[None, :])


def shipped_configurations() -> Iterator[ShippedConfiguration]:
    width, depth = 6144, 4096
    int4, int8, float8 = Code.INT4, Code.INT8, Code.FLOAT8
    bf16, fp16 = torch.bfloat16, torch.float16
    # Code, group, whether zeros, dtype, rows.
    forms = (
        *((int4, 32, False, bf16, rows) for rows in (16, 32, 64, 128)),
        *((int4, 128, True, fp16, rows) for rows in (16, 128)),
        *((int8, depth, False, bf16, rows) for rows in (16, 128)),
        *((float8, 128, False, bf16, rows) for rows in (16, 128)),
    )
    on_chips = [(form, chip) for form in forms for chip in (80, 90)]
    on_chips += [(form, 89) for form in forms if form[1:4] == (128, True, fp16)]
    for (code, group, has_zeros, dtype, rows), capability in on_chips:
        config = packed_config(dtype, rows)
        parts = 4 if rows == 16 else 1
        yield ShippedConfiguration(
            name=f"{code.value}-{group}-{rows}",
            kernel=_packed_linear,
            arguments={
                "x": pointer_to(dtype),
                "words": "*i32",
                "scales": "*fp32",
                "zeros": "*i8",
                "out": "*fp32" if parts > 1 else pointer_to(dtype),
                "num_rows": "i32",
                "out_stride": "i32",
            },
            constants={
                "bias": None,
                **({} if has_zeros else {"zeros": None}),
                **_constants(config, width, parts),
                **constants_of(code, depth, group),
            },
            num_warps=config.num_warps,
            num_stages=config.num_stages,
            divisible=frozenset({"out_stride"}),
            capabilities=(capability,),
            shares_tiles_with=COMPACT_CHIPS if capability == 80 else (),
            uses_wgmma=rows >= 64,
            overlaps_copies=True,
            max_narrow_loads=4 if has_zeros else 1,
        )
