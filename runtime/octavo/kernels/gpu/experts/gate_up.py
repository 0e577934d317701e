"""Gate and up projection of experts. The first half of a mixture of experts in one launch: a grouped product
with the gating in its epilogue.

A program multiplies one tile of an expert's rows, which it gathers itself, with as many columns of the gate
as of up, and writes what the gate makes of them: the two products never reach memory. Its grid is what the
tiles' bound and the width ask for, and programs without a tile end at once: a CUDA graph holds it, and only
the weights of chosen experts are read.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from octavo.kernels.expert_gate import SILU, ExpertGate
from octavo.kernels.gpu.compiling.compile import ShippedConfiguration, launch_options, pointer_to
from octavo.kernels.gpu.experts.tile import tile_and_columns
from octavo.kernels.gpu.gated_activation import gate_constants, gated
from octavo.kernels.gpu.tuning.chips import COMPACT_CHIPS, capability_of
from octavo.kernels.gpu.tuning.experts import ExpertsConfig, experts_config
from octavo.kernels.reference.experts.route import ExpertRouting


def experts_gate_up(
    x: torch.Tensor,
    weight: torch.Tensor,
    routing: ExpertRouting,
    *,
    gate: ExpertGate = SILU,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """As `reference.experts_gate_up`; the last axis of `x` and all of the others are contiguous.

    Products and activation are float32 and are rounded once.
    """
    width, hidden = weight.shape[1] // 2, weight.shape[2]
    choices = routing.order.shape[0]
    out = torch.empty(choices, width, dtype=x.dtype, device=x.device)
    config = experts_config(capability_of(x.device), x.dtype, routing.block_rows)
    tile = config.gate_up
    num_tiles = routing.tiles.shape[0]
    if choices:
        _gate_up[(num_tiles * triton.cdiv(width, tile.columns),)](
            x,
            weight,
            bias,
            routing.order,
            routing.tiles,
            out,
            num_tiles,
            x.stride(0),
            **_constants(config, hidden, width, routing.per_token, gate),
            **launch_options(tile.num_warps, tile.num_stages),
        )
    return out


def _constants(
    config: ExpertsConfig, hidden: int, width: int, per_token: int, gate: ExpertGate
) -> dict[str, int | float | bool | None]:
    return {
        "HIDDEN": hidden,
        "WIDTH": width,
        "PER_TOKEN": per_token,
        **gate_constants(gate),
        "BLOCK_ROWS": config.block_rows,
        "BLOCK_COLUMNS": config.gate_up.columns,
        "BLOCK_INNER": config.gate_up.inner,
        "GROUP": config.group,
    }


@triton.jit(do_not_specialize=["num_tiles"])
def _gate_up(
    x,
    weight,
    bias,
    order,
    tiles,
    out,
    num_tiles,
    x_stride,
    HIDDEN: tl.constexpr,
    WIDTH: tl.constexpr,
    PER_TOKEN: tl.constexpr,
    IS_GELU: tl.constexpr,
    ALPHA: tl.constexpr,
    LIMIT: tl.constexpr,
    SHIFT: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    BLOCK_INNER: tl.constexpr,
    GROUP: tl.constexpr,
):
    COLUMN_BLOCKS: tl.constexpr = (WIDTH + BLOCK_COLUMNS - 1) // BLOCK_COLUMNS
    tile, column_block = tile_and_columns(tl.program_id(0), num_tiles, COLUMN_BLOCKS, GROUP)
    expert = tl.load(tiles + tile * 3)
    if expert < 0:
        return
    first = tl.load(tiles + tile * 3 + 1)
    end = tl.load(tiles + tile * 3 + 2)

    place = first + tl.arange(0, BLOCK_ROWS)
    column = column_block * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    inner = tl.arange(0, BLOCK_INNER)
    # Beyond the tile's end and the width the last ones are read again, so that no load needs a mask.
    token = tl.load(order + tl.minimum(place, end - 1)) // PER_TOKEN
    rows = x + token.to(tl.int64)[:, None] * x_stride + inner[None, :]
    gates = (
        weight
        + expert.to(tl.int64) * (2 * WIDTH * HIDDEN)
        + tl.minimum(column, WIDTH - 1)[None, :] * HIDDEN
        + inner[:, None]
    )
    gate = tl.zeros([BLOCK_ROWS, BLOCK_COLUMNS], tl.float32)
    up = tl.zeros([BLOCK_ROWS, BLOCK_COLUMNS], tl.float32)
    for start in range(0, HIDDEN, BLOCK_INNER):
        if HIDDEN % BLOCK_INNER == 0:
            values = tl.load(rows + start)
            gate_weights = tl.load(gates + start)
            up_weights = tl.load(gates + WIDTH * HIDDEN + start)
        else:
            inside = start + inner < HIDDEN
            values = tl.load(rows + start, inside[None, :], other=0.0)
            gate_weights = tl.load(gates + start, inside[:, None], other=0.0)
            up_weights = tl.load(gates + WIDTH * HIDDEN + start, inside[:, None], other=0.0)
        gate = tl.dot(values, gate_weights, gate, input_precision="ieee")
        up = tl.dot(values, up_weights, up, input_precision="ieee")

    if bias is not None:
        own = bias + expert.to(tl.int64) * (2 * WIDTH) + tl.minimum(column, WIDTH - 1)
        gate += tl.load(own).to(tl.float32)[None, :]
        up += tl.load(own + WIDTH).to(tl.float32)[None, :]
    tl.store(
        out + place.to(tl.int64)[:, None] * WIDTH + column[None, :],
        gated(gate, up, IS_GELU, ALPHA, LIMIT, SHIFT).to(out.dtype.element_ty),
        (place < end)[:, None] & (column < WIDTH)[None, :],
    )


def shipped_configurations() -> Iterator[ShippedConfiguration]:
    bf16, fp32 = torch.bfloat16, torch.float32
    forms = [(bf16, rows, chip) for chip in (80, 90) for rows in (16, 32, 64, 128)]
    for dtype, block_rows, capability in (*forms, (bf16, 128, 120), (fp32, 128, 80)):
        config = experts_config(capability, dtype, block_rows)
        yield ShippedConfiguration(
            name=f"mixtral-{block_rows}" + ("-fp32" if dtype == fp32 else ""),
            kernel=_gate_up,
            arguments={
                **dict.fromkeys(("x", "weight", "out"), pointer_to(dtype)),
                "order": "*i32",
                "tiles": "*i32",
                "num_tiles": "i32",
                "x_stride": "i32",
            },
            constants={"bias": None, **_constants(config, 4096, 14336, 2, SILU)},
            num_warps=config.gate_up.num_warps,
            num_stages=config.gate_up.num_stages,
            divisible=frozenset({"x_stride"}),
            capabilities=(capability,),
            shares_tiles_with=COMPACT_CHIPS if capability == 80 else (),
            uses_wgmma=block_rows >= 64,
            overlaps_copies=dtype != fp32,
        )
