"""Experts with packed weights. Both grouped products of a mixture of experts, of integers of 4 and 8 bits and
float8.

They work through the same tiles of rows as those of plain weights, and take blocks of inputs as
`packed_linear` does. A program of the first holds as many columns of the gate as of up, side by side, so that
rows are read once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from octavo.kernels.gpu.compiling.compile import ShippedConfiguration, launch_options
from octavo.kernels.gpu.experts.tile import tile_and_columns
from octavo.kernels.gpu.gated_activation import activated
from octavo.kernels.gpu.packed.planes import (
    block_products,
    constants_of,
    scaled,
    weight_constants,
)
from octavo.kernels.gpu.tuning.chips import COMPACT_CHIPS, multiprocessors_of
from octavo.kernels.gpu.tuning.packed import PackedConfig, num_expert_parts, packed_config
from octavo.kernels.packed_weight import PLANE, PackedWeight
from octavo.kernels.reference.experts.route import ExpertRouting
from octavo.kernels.reference.weight_only import Code


def packed_experts_gate_up(
    x: torch.Tensor, weight: PackedWeight, routing: ExpertRouting, *, is_gelu: bool = False
) -> torch.Tensor:
    """As `reference.packed_experts_gate_up`; the last axis of `x` is contiguous.

    Products and activation are float32 and are rounded once.
    """
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
            routing.order,
            routing.tiles,
            out,
            num_tiles,
            x.stride(0),
            WIDTH=width,
            PER_TOKEN=routing.per_token,
            IS_GELU=is_gelu,
            BLOCK_ROWS=routing.block_rows,
            BLOCK_COLUMNS=config.columns // 2,
            TILES_TOGETHER=config.group,
            **weight_constants(weight),
            **launch_options(config.num_warps, config.num_stages),
        )
    return out


def packed_experts_down(
    inner: torch.Tensor, weight: PackedWeight, routing: ExpertRouting
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


@triton.jit
def _of_expert(pointer, expert, SIZE: tl.constexpr):
    """Where one expert's numbers begin."""
    return pointer + expert.to(tl.int64) * SIZE


@triton.jit(do_not_specialize=["num_tiles"])
def _packed_gate_up(
    x,
    words,
    scales,
    zeros,
    order,
    tiles,
    out,
    num_tiles,
    x_stride,
    WIDTH: tl.constexpr,
    PER_TOKEN: tl.constexpr,
    IS_GELU: tl.constexpr,
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

    words = _of_expert(words, expert, BLOCKS * 16 * 2 * WIDTH)
    scales = _of_expert(scales, expert, DEPTH // GROUP * 2 * WIDTH)
    if zeros is not None:
        zeros = _of_expert(zeros, expert, DEPTH // GROUP * 2 * WIDTH)
    # The gate's columns, then up's.
    both = tl.arange(0, 2 * BLOCK_COLUMNS)
    within = column_block * BLOCK_COLUMNS + both % BLOCK_COLUMNS
    column = within + both // BLOCK_COLUMNS * WIDTH
    inside = within < WIDTH
    total = tl.zeros([BLOCK_ROWS, 2 * BLOCK_COLUMNS], tl.float32)
    for block in range(BLOCKS):
        total = block_products(
            total,
            rows,
            x.dtype.element_ty,
            block,
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
        )
    total = scaled(total, scales, column, inside, IS_ONE_GROUP, UNIT)
    halves = tl.permute(tl.reshape(total, [BLOCK_ROWS, 2, BLOCK_COLUMNS]), [0, 2, 1])
    gate, up = tl.split(halves)
    target = column_block * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    tl.store(
        out + place.to(tl.int64)[:, None] * WIDTH + target[None, :],
        (activated(gate, IS_GELU) * up).to(out.dtype.element_ty),
        (place < end)[:, None] & (target < WIDTH)[None, :],
    )


@triton.jit(do_not_specialize=["num_tiles", "num_choices"])
def _packed_down(
    values,
    words,
    scales,
    zeros,
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
    STEPS: tl.constexpr = (BLOCKS + PARTS - 1) // PARTS
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

    words = _of_expert(words, expert, BLOCKS * 16 * HIDDEN)
    scales = _of_expert(scales, expert, DEPTH // GROUP * HIDDEN)
    if zeros is not None:
        zeros = _of_expert(zeros, expert, DEPTH // GROUP * HIDDEN)
    column = column_block * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    inside = column < HIDDEN
    total = tl.zeros([BLOCK_ROWS, BLOCK_COLUMNS], tl.float32)
    begin = part * STEPS
    last = begin + STEPS
    if BLOCKS % PARTS:
        last = tl.minimum(last, BLOCKS)
    for block in range(begin, last):
        total = block_products(
            total,
            rows,
            values.dtype.element_ty,
            block,
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
        )
    total = scaled(total, scales, column, inside, IS_ONE_GROUP, UNIT)
    choice = tl.load(order + last_place)
    target = part.to(tl.int64) * num_choices + choice
    tl.store(
        out + target[:, None] * HIDDEN + column[None, :],
        total.to(out.dtype.element_ty),
        (place < end)[:, None] & inside[None, :],
    )


def shipped_configurations() -> Iterator[ShippedConfiguration]:
    hidden, width = 4096, 14336
    common = {
        "words": "*i32",
        "scales": "*fp32",
        "zeros": "*i8",
        "order": "*i32",
        "tiles": "*i32",
        "out": "*bf16",
        "num_tiles": "i32",
    }
    forms = (
        (Code.INT4, 128, True, 16),
        (Code.INT4, 32, False, 128),
        (Code.FLOAT8, 128, False, 64),
    )
    for (code, group, has_zeros, block_rows), capability in itertools.product(forms, (80, 90)):
        config = packed_config(torch.bfloat16, block_rows)
        shared: dict[str, object] = {
            "BLOCK_ROWS": block_rows,
            "TILES_TOGETHER": config.group,
            **({} if has_zeros else {"zeros": None}),
        }
        yield _shipped(
            f"gate-up-{code.value}-{block_rows}",
            _packed_gate_up,
            common | {"x": "*bf16", "x_stride": "i32"},
            {
                **shared,
                "WIDTH": width,
                "PER_TOKEN": 2,
                "IS_GELU": False,
                "BLOCK_COLUMNS": config.columns // 2,
                **constants_of(code, hidden, group),
            },
            config,
            capability,
            has_zeros=has_zeros,
        )
        yield _shipped(
            f"down-{code.value}-{block_rows}",
            _packed_down,
            common | {"values": "*bf16", "num_choices": "i32"},
            {
                **shared,
                "HIDDEN": hidden,
                "PARTS": 1,
                "BLOCK_COLUMNS": config.columns,
                **constants_of(code, width, group),
            },
            config,
            capability,
            has_zeros=has_zeros,
        )


def _shipped(
    name: str,
    kernel: object,
    arguments: dict[str, str],
    constants: dict[str, object],
    config: PackedConfig,
    capability: int,
    *,
    has_zeros: bool,
) -> ShippedConfiguration:
    return ShippedConfiguration(
        name=name,
        kernel=kernel,
        arguments=arguments,
        constants=constants,
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        divisible=frozenset({"x_stride"}),
        capabilities=(capability,),
        shares_tiles_with=COMPACT_CHIPS if capability == 80 else (),
        uses_wgmma=config.rows >= 64,
        overlaps_copies=True,
        max_narrow_loads=4 if has_zeros else 1,
    )
