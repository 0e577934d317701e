"""Way back of experts with packed weights. The second grouped product of a mixture of experts; see
`octavo.kernels.gpu.packed.gate_up`."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from octavo.kernels.gpu.compiling.compile import ShippedConfiguration, launch_options
from octavo.kernels.gpu.experts.tile import tile_and_columns
from octavo.kernels.gpu.packed.expert_forms import of_expert, scale_rows, shipped_experts
from octavo.kernels.gpu.packed.planes import blocks_of_part, products, weight_constants
from octavo.kernels.gpu.tuning.chips import multiprocessors_of
from octavo.kernels.gpu.tuning.packed import num_expert_parts, packed_config
from octavo.kernels.packed_weight import PLANE, PackedWeight
from octavo.kernels.reference.experts.route import ExpertRouting


def packed_experts_down(
    inner: torch.Tensor,
    weight: PackedWeight,
    routing: ExpertRouting,
    *,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """As `reference.packed_experts_down`; `inner` is contiguous."""
    num_experts, rows, hidden = weight.words.shape
    tokens, per_token = routing.shares.shape
    choices = tokens * per_token
    device = inner.device
    config = packed_config(inner.dtype, routing.block_rows)
    parts = num_expert_parts(
        config,
        multiprocessors_of(device),
        tokens,
        per_token,
        (num_experts, hidden),
        rows // PLANE,
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
        _packed_down[(num_tiles * triton.cdiv(hidden, config.columns), parts)](
            inner,
            weight.words,
            weight.scales,
            weight.zeros,
            bias,
            routing.order,
            routing.tiles,
            out,
            num_tiles,
            choices,
            HIDDEN=hidden,
            PARTS=parts,
            BLOCK_ROWS=routing.block_rows,
            BLOCK_COLUMNS=config.columns,
            TILES_TOGETHER=config.group,
            **weight_constants(weight),
            **launch_options(config.num_warps, config.num_stages),
        )
    return out


@triton.jit(do_not_specialize=["num_tiles", "num_choices"])
def _packed_down(
    values,
    words,
    scales,
    zeros,
    bias,
    order,
    tiles,
    out,
    num_tiles,
    num_choices,
    HIDDEN: tl.constexpr,
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
    """One tile's rows, one block of columns, one part of the inner axis."""
    COLUMN_BLOCKS: tl.constexpr = (HIDDEN + BLOCK_COLUMNS - 1) // BLOCK_COLUMNS
    BLOCKS: tl.constexpr = (DEPTH + 16 * PLANES - 1) // (16 * PLANES)
    tile, column_block = tile_and_columns(
        tl.program_id(0), num_tiles, COLUMN_BLOCKS, TILES_TOGETHER
    )
    expert = tl.load(tiles + tile * 3)
    if expert < 0:
        return
    first = tl.load(tiles + tile * 3 + 1)
    end = tl.load(tiles + tile * 3 + 2)
    part = tl.program_id(1)
    place = first + tl.arange(0, BLOCK_ROWS)
    # Beyond the tile's end the last row is read again.
    last_place = tl.minimum(place, end - 1)
    rows = values + last_place.to(tl.int64)[:, None] * DEPTH

    words = of_expert(words, expert, BLOCKS * 16 * HIDDEN)
    scales = of_expert(scales, expert, scale_rows(scales, DEPTH, GROUP, BLOCKS) * HIDDEN)
    if zeros is not None:
        zeros = of_expert(zeros, expert, DEPTH // GROUP * HIDDEN)
    column = column_block * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    inside = column < HIDDEN
    begin, last = blocks_of_part(part, BLOCKS, PARTS)
    total = products(
        rows,
        values.dtype.element_ty,
        begin,
        last,
        words,
        scales,
        zeros,
        column,
        inside,
        HIDDEN,
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
        own = of_expert(bias, expert, HIDDEN)
        once = tl.where(part == 0, 1.0, 0.0)
        total += once * tl.load(own + column, inside, other=0.0).to(tl.float32)[None, :]
    choice = tl.load(order + last_place)
    target = part.to(tl.int64) * num_choices + choice
    tl.store(
        out + target[:, None] * HIDDEN + column[None, :],
        total.to(out.dtype.element_ty),
        (place < end)[:, None] & inside[None, :],
    )


def shipped_configurations() -> Iterator[ShippedConfiguration]:
    for form, config, common in shipped_experts():
        constants = {"HIDDEN": form.hidden, "PARTS": 1, "BLOCK_COLUMNS": config.columns}
        yield form.configuration(
            "down",
            _packed_down,
            common | {"values": "*bf16", "num_choices": "i32"},
            constants,
            form.width,
        )
