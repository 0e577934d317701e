"""Gate and up of experts with packed weights. The first grouped product of a mixture of experts, of integers
of 4 and 8 bits, float8 and MXFP4.

It works through the same tiles of rows as that of plain weights, and takes blocks of inputs as
`packed_linear` does. A program holds as many columns of the gate as of up, side by side, so that rows are
read once.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from octavo.kernels.expert_gate import SILU, ExpertGate
from octavo.kernels.gpu.compiling.compile import ShippedConfiguration, launch_options
from octavo.kernels.gpu.experts.tile import tile_and_columns
from octavo.kernels.gpu.gated_activation import gate_constants, gated
from octavo.kernels.gpu.packed.expert_forms import of_expert, scale_rows, shipped_experts
from octavo.kernels.gpu.packed.ordered_inputs import ordered_inputs
from octavo.kernels.gpu.packed.planes import products, weight_constants
from octavo.kernels.gpu.tuning.packed import packed_config
from octavo.kernels.packed_weight import PackedWeight
from octavo.kernels.reference.experts.route import ExpertRouting


def packed_experts_gate_up(
    x: torch.Tensor,
    weight: PackedWeight,
    routing: ExpertRouting,
    *,
    gate: ExpertGate = SILU,
    bias: torch.Tensor | None = None,
    input_order: torch.Tensor | None = None,
) -> torch.Tensor:
    """As `reference.packed_experts_gate_up`; the last axis of `x` is contiguous.

    Products and activation are float32 and are rounded once.
    """
    per_token = routing.per_token
    if input_order is not None:
        x, per_token = ordered_inputs(x, input_order, routing), 1
    width = weight.width // 2
    choices = routing.order.shape[0]
    out = torch.empty(choices, width, dtype=x.dtype, device=x.device)
    config = packed_config(x.dtype, routing.block_rows)
    num_tiles = routing.tiles.shape[0]
    if choices:
        _packed_gate_up[(num_tiles * triton.cdiv(width, config.columns // 2),)](
            x,
            weight.words,
            weight.scales,
            weight.zeros,
            bias,
            routing.order,
            routing.tiles,
            out,
            num_tiles,
            x.stride(0),
            WIDTH=width,
            PER_TOKEN=per_token,
            **gate_constants(gate),
            BLOCK_ROWS=routing.block_rows,
            BLOCK_COLUMNS=config.columns // 2,
            TILES_TOGETHER=config.group,
            **weight_constants(weight),
            **launch_options(config.num_warps, config.num_stages),
        )
    return out


@triton.jit(do_not_specialize=["num_tiles"])
def _packed_gate_up(
    x,
    words,
    scales,
    zeros,
    bias,
    order,
    tiles,
    out,
    num_tiles,
    x_stride,
    WIDTH: tl.constexpr,
    PER_TOKEN: tl.constexpr,
    IS_GELU: tl.constexpr,
    ALPHA: tl.constexpr,
    LIMIT: tl.constexpr,
    SHIFT: tl.constexpr,
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
    COLUMN_BLOCKS: tl.constexpr = (WIDTH + BLOCK_COLUMNS - 1) // BLOCK_COLUMNS
    BLOCKS: tl.constexpr = (DEPTH + 16 * PLANES - 1) // (16 * PLANES)
    tile, column_block = tile_and_columns(
        tl.program_id(0), num_tiles, COLUMN_BLOCKS, TILES_TOGETHER
    )
    expert = tl.load(tiles + tile * 3)
    if expert < 0:
        return
    first = tl.load(tiles + tile * 3 + 1)
    end = tl.load(tiles + tile * 3 + 2)
    place = first + tl.arange(0, BLOCK_ROWS)
    # Beyond the tile's end the last row is read again.
    token = tl.load(order + tl.minimum(place, end - 1)) // PER_TOKEN
    rows = x + token.to(tl.int64)[:, None] * x_stride

    words = of_expert(words, expert, BLOCKS * 16 * 2 * WIDTH)
    scales = of_expert(scales, expert, scale_rows(scales, DEPTH, GROUP, BLOCKS) * 2 * WIDTH)
    if zeros is not None:
        zeros = of_expert(zeros, expert, DEPTH // GROUP * 2 * WIDTH)
    # The gate's columns, then up's.
    both = tl.arange(0, 2 * BLOCK_COLUMNS)
    within = column_block * BLOCK_COLUMNS + both % BLOCK_COLUMNS
    column = within + both // BLOCK_COLUMNS * WIDTH
    inside = within < WIDTH
    total = products(
        rows,
        x.dtype.element_ty,
        0,
        BLOCKS,
        words,
        scales,
        zeros,
        column,
        inside,
        2 * WIDTH,
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
        own = of_expert(bias, expert, 2 * WIDTH)
        total += tl.load(own + column, inside, other=0.0).to(tl.float32)[None, :]
    halves = tl.permute(tl.reshape(total, [BLOCK_ROWS, 2, BLOCK_COLUMNS]), [0, 2, 1])
    gate, up = tl.split(halves)
    target = column_block * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    tl.store(
        out + place.to(tl.int64)[:, None] * WIDTH + target[None, :],
        gated(gate, up, IS_GELU, ALPHA, LIMIT, SHIFT).to(out.dtype.element_ty),
        (place < end)[:, None] & (target < WIDTH)[None, :],
    )


def shipped_configurations() -> Iterator[ShippedConfiguration]:
    for form, config, common in shipped_experts():
        constants = {
            "WIDTH": form.width,
            "PER_TOKEN": form.per_token,
            "BLOCK_COLUMNS": config.columns // 2,
            **gate_constants(form.gate),
        }
        yield form.configuration(
            "gate-up",
            _packed_gate_up,
            common | {"x": "*bf16", "x_stride": "i32"},
            constants,
            form.hidden,
        )
