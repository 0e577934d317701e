"""Down projection of experts. The second half of a mixture of experts in one launch: a grouped product over
the tiles of the first.

Results go where their choice stands, so that a token's lie side by side for `combine_experts`. With few
rows the inner axis is split over more programs, whose parts are summed there, in one order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from octavo.kernels.gpu.compiling.compile import ShippedConfiguration, launch_options
from octavo.kernels.gpu.experts.tile import tile_and_columns
from octavo.kernels.gpu.tuning.chips import COMPACT_CHIPS, capability_of, multiprocessors_of
from octavo.kernels.gpu.tuning.experts import ExpertsConfig, down_parts, experts_config
from octavo.kernels.reference.experts.route import ExpertRouting


def experts_down(
    inner: torch.Tensor,
    weight: torch.Tensor,
    routing: ExpertRouting,
    *,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """As `reference.experts_down`; everything is contiguous."""
    _, hidden, width = weight.shape
    tokens, per_token = routing.shares.shape
    choices = tokens * per_token
    device = inner.device
    config = experts_config(capability_of(device), inner.dtype, routing.block_rows)
    tile = config.down
    parts = down_parts(
        config, multiprocessors_of(device), tokens, per_token, (weight.shape[0], hidden, width)
    )
    out = torch.empty(
        parts,
        choices,
        hidden,
        dtype=inner.dtype if parts == 1 else torch.float32,
        device=device,
    )
    num_tiles = routing.tiles.shape[0]
    if choices:
        _down[(num_tiles * triton.cdiv(hidden, tile.columns), parts)](
            inner,
            weight,
            bias,
            routing.order,
            routing.tiles,
            out,
            num_tiles,
            choices,
            **_constants(config, hidden, width, parts),
            **launch_options(tile.num_warps, tile.num_stages),
        )
    return out


def _constants(config: ExpertsConfig, hidden: int, width: int, parts: int) -> dict[str, int]:
    return {
        "HIDDEN": hidden,
        "WIDTH": width,
        "PARTS": parts,
        "BLOCK_ROWS": config.block_rows,
        "BLOCK_COLUMNS": config.down.columns,
        "BLOCK_INNER": config.down.inner,
        "GROUP": config.group,
    }


@triton.jit(do_not_specialize=["num_tiles", "num_choices"])
def _down(
    values,
    weight,
    bias,
    order,
    tiles,
    out,
    num_tiles,
    num_choices,
    HIDDEN: tl.constexpr,
    WIDTH: tl.constexpr,
    PARTS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    BLOCK_INNER: tl.constexpr,
    GROUP: tl.constexpr,
):
    """One tile's rows, one block of columns, one part of the inner axis."""
    COLUMN_BLOCKS: tl.constexpr = (HIDDEN + BLOCK_COLUMNS - 1) // BLOCK_COLUMNS
    STEPS: tl.constexpr = (WIDTH + BLOCK_INNER * PARTS - 1) // (BLOCK_INNER * PARTS)
    tile, column_block = tile_and_columns(tl.program_id(0), num_tiles, COLUMN_BLOCKS, GROUP)
    expert = tl.load(tiles + tile * 3)
    if expert < 0:
        return
    first = tl.load(tiles + tile * 3 + 1)
    end = tl.load(tiles + tile * 3 + 2)
    part = tl.program_id(1)

    place = first + tl.arange(0, BLOCK_ROWS)
    column = column_block * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    begin = part * (STEPS * BLOCK_INNER)
    inner = begin + tl.arange(0, BLOCK_INNER)
    # Beyond the tile's end and the last column the last ones are read again: no load needs a mask.
    last_place = tl.minimum(place, end - 1)
    rows = values + last_place.to(tl.int64)[:, None] * WIDTH + inner[None, :]
    columns = (
        weight
        + expert.to(tl.int64) * (HIDDEN * WIDTH)
        + tl.minimum(column, HIDDEN - 1)[None, :] * WIDTH
        + inner[:, None]
    )
    total = tl.zeros([BLOCK_ROWS, BLOCK_COLUMNS], tl.float32)
    for start in range(0, STEPS * BLOCK_INNER, BLOCK_INNER):
        if WIDTH % (BLOCK_INNER * PARTS) == 0:
            row_values = tl.load(rows + start)
            column_weights = tl.load(columns + start)
        else:
            inside = start + inner < WIDTH
            row_values = tl.load(rows + start, inside[None, :], other=0.0)
            column_weights = tl.load(columns + start, inside[:, None], other=0.0)
        total = tl.dot(row_values, column_weights, total, input_precision="ieee")

    if bias is not None:
        own = bias + expert.to(tl.int64) * HIDDEN + tl.minimum(column, HIDDEN - 1)
        once = tl.where(part == 0, 1.0, 0.0)
        total += once * tl.load(own).to(tl.float32)[None, :]
    choice = tl.load(order + last_place)
    target = part.to(tl.int64) * num_choices + choice
    tl.store(
        out + target[:, None] * HIDDEN + column[None, :],
        total.to(out.dtype.element_ty),
        (place < end)[:, None] & (column < HIDDEN)[None, :],
    )


def shipped_configurations() -> Iterator[ShippedConfiguration]:
    forms = ((16, 2), (32, 1), (64, 1), (128, 1))
    for capability, (block_rows, parts) in itertools.product((80, 90), forms):
        config = experts_config(capability, torch.bfloat16, block_rows)
        yield ShippedConfiguration(
            name=f"mixtral-{block_rows}" + (f"-{parts}-parts" if parts > 1 else ""),
            kernel=_down,
            arguments={
                "values": "*bf16",
                "weight": "*bf16",
                "order": "*i32",
                "tiles": "*i32",
                "out": "*bf16" if parts == 1 else "*fp32",
                "num_tiles": "i32",
                "num_choices": "i32",
            },
            constants={"bias": None, **_constants(config, 4096, 14336, parts)},
            num_warps=config.down.num_warps,
            num_stages=config.down.num_stages,
            capabilities=(capability,),
            shares_tiles_with=COMPACT_CHIPS if capability == 80 else (),
            uses_wgmma=block_rows >= 64,
            overlaps_copies=True,
        )
