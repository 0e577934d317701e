"""Product of float8 whose scales hold for groups of 128 inputs: one matrix instruction's sums after the other
are scaled and added up in float32.

With few rows the inner axis is split over more programs, as with packed weights.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from octavo.kernels.gpu.compiling.compile import ShippedConfiguration, launch_options
from octavo.kernels.gpu.experts.tile import tile_and_columns
from octavo.kernels.gpu.packed.parts import add_parts
from octavo.kernels.gpu.tuning.chips import COMPACT_CHIPS, multiprocessors_of
from octavo.kernels.gpu.tuning.packed import PackedConfig, num_parts
from octavo.kernels.gpu.tuning.scaled import scaled_config
from octavo.kernels.scaled_weight import GROUP, ScaledWeight

_GROUP = tl.constexpr(GROUP)


def grouped_product(
    codes: torch.Tensor,
    scales: torch.Tensor,
    weight: ScaledWeight,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    """`rows @ weight.T + bias`, computed in float32 and rounded once.

    Args:
        codes: `[rows, depth]` float8_e4m3fn, contiguous; one row at least.
        scales: `[groups, rows]` float32, contiguous.
        weight: In groups of `GROUP` inputs.
        dtype: Of the result.
    """
    num_rows, width, device = codes.shape[0], weight.width, codes.device
    out = torch.empty(num_rows, width, dtype=dtype, device=device)
    config = scaled_config(num_rows)
    groups = weight.scales.shape[0]
    parts = num_parts(config, multiprocessors_of(device), num_rows, width, groups)
    target = out
    if parts > 1:
        target = torch.empty(parts, num_rows, width, dtype=torch.float32, device=device)
    programs = triton.cdiv(num_rows, config.rows) * triton.cdiv(width, config.columns)
    _grouped_product[(programs, parts)](
        codes,
        scales,
        weight.codes,
        weight.scales,
        bias if parts == 1 else None,
        target,
        num_rows,
        **_constants(config, width, groups, parts),
        **launch_options(config.num_warps, config.num_stages),
    )
    if parts > 1:
        add_parts(target, bias, out)
    return out


def _constants(config: PackedConfig, width: int, groups: int, parts: int) -> dict[str, int]:
    return {
        "WIDTH": width,
        "GROUPS": groups,
        "PARTS": parts,
        "BLOCK_ROWS": config.rows,
        "BLOCK_COLUMNS": config.columns,
        "TILES_TOGETHER": config.group,
    }


@triton.jit(do_not_specialize=["num_rows"])
def _grouped_product(
    codes,
    row_scales,
    weight,
    scales,
    bias,
    out,
    num_rows,
    WIDTH: tl.constexpr,
    GROUPS: tl.constexpr,
    PARTS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    TILES_TOGETHER: tl.constexpr,
):
    """One tile of rows, one block of columns, one part of the inner axis."""
    COLUMN_BLOCKS: tl.constexpr = (WIDTH + BLOCK_COLUMNS - 1) // BLOCK_COLUMNS
    STEPS: tl.constexpr = (GROUPS + PARTS - 1) // PARTS
    DEPTH: tl.constexpr = GROUPS * _GROUP
    row_tiles = (num_rows + BLOCK_ROWS - 1) // BLOCK_ROWS
    tile, column_block = tile_and_columns(
        tl.program_id(0), row_tiles, COLUMN_BLOCKS, TILES_TOGETHER
    )
    part = tl.program_id(1)
    row = tile * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    column = column_block * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    # Beyond the last row and column these are read again: no load of the loop needs a mask.
    own_row, own_column = tl.minimum(row, num_rows - 1), tl.minimum(column, WIDTH - 1)
    inner = tl.arange(0, _GROUP)[None, :]
    left = codes + own_row.to(tl.int64)[:, None] * DEPTH + inner
    right = weight + own_column.to(tl.int64)[:, None] * DEPTH + inner
    total = tl.zeros([BLOCK_ROWS, BLOCK_COLUMNS], tl.float32)
    begin = part * STEPS
    end = begin + STEPS
    if GROUPS % PARTS:
        end = tl.minimum(end, GROUPS)
    for group in range(begin, end):
        rows = tl.load(left + group * _GROUP)
        columns = tl.load(right + group * _GROUP)
        sums = tl.dot(rows, columns.T)
        row_scale = tl.load(row_scales + group * num_rows + own_row)
        column_scale = tl.load(scales + group * WIDTH + own_column)
        total += sums * row_scale[:, None] * column_scale[None, :]
    inside = column < WIDTH
    if bias is not None:
        total += tl.load(bias + column, inside, other=0.0).to(tl.float32)[None, :]
    target = out + (part.to(tl.int64) * num_rows + row)[:, None] * WIDTH + column[None, :]
    tl.store(target, total.to(out.dtype.element_ty), (row < num_rows)[:, None] & inside[None, :])


def shipped_configurations() -> Iterator[ShippedConfiguration]:
    width, groups = 6144, 32
    for rows in (16, 32, 64, 128):
        config = scaled_config(rows)
        parts = 4 if rows == 16 else 1
        yield ShippedConfiguration(
            name=f"{rows}",
            kernel=_grouped_product,
            arguments={
                "codes": "*fp8e4nv",
                "row_scales": "*fp32",
                "weight": "*fp8e4nv",
                "scales": "*fp32",
                "out": "*fp32" if parts > 1 else "*bf16",
                "num_rows": "i32",
            },
            constants={"bias": None, **_constants(config, width, groups, parts)},
            num_warps=config.num_warps,
            num_stages=config.num_stages,
            capabilities=(89, 90),
            shares_tiles_with=COMPACT_CHIPS,
            uses_wgmma=rows >= 64,
            overlaps_copies=True,
        )
