"""Norm, gate and up. The first half of a feed-forward block, for a few rows, in one launch: norm, gate and
up, and the gating.

A program computes the same columns of gate and of up, so that only their product reaches memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from octavo.kernels.gpu.compiling.compile import ShippedConfiguration, launch_options
from octavo.kernels.gpu.few_rows.row_products import row_products, tile_constants, tile_of
from octavo.kernels.gpu.gated_activation import activated
from octavo.kernels.gpu.tuning.chips import DEFAULT_MULTIPROCESSORS
from octavo.kernels.gpu.tuning.few_rows import rows_tile


def norm_gate_up(
    x: torch.Tensor,
    norm_weight: torch.Tensor,
    eps: float,
    weight: torch.Tensor,
    *,
    is_gelu: bool = False,
) -> torch.Tensor:
    """`activation(gate) * up` of `rms_norm(x) @ weight.T`, computed in float32 and rounded once.

    Args:
        x: `[rows, hidden]`, contiguous, of 1 to 4 rows.
        norm_weight: `[hidden]`.
        weight: `[2 * width, hidden]`, contiguous, the gate first.
        is_gelu: The tanh form of GELU in place of SiLU.

    Returns `[rows, width]`.
    """
    num_rows, hidden = x.shape
    width = weight.shape[0] // 2
    out = torch.empty(num_rows, width, dtype=x.dtype, device=x.device)
    tile = tile_of(x, weight)
    _norm_gate_up[(triton.cdiv(2 * width, tile.outputs),)](
        x,
        norm_weight,
        weight,
        out,
        num_rows,
        eps,
        HIDDEN=hidden,
        WIDTH=width,
        IS_GELU=is_gelu,
        **tile_constants(tile),
        **launch_options(tile.num_warps, 1),
    )
    return out


@triton.jit(do_not_specialize=["num_rows"])
def _norm_gate_up(
    x,
    norm_weight,
    weight,
    out,
    num_rows,
    eps,
    HIDDEN: tl.constexpr,
    WIDTH: tl.constexpr,
    IS_GELU: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    GROUP: tl.constexpr,
):
    COLUMNS: tl.constexpr = BLOCK_OUT // 2
    first = tl.program_id(0) * COLUMNS
    column = first + tl.arange(0, COLUMNS)
    inside = column < WIDTH
    # A gate's row and its up's in turn.
    place = tl.arange(0, BLOCK_OUT)
    gate_or_up = tl.minimum(first + place // 2, WIDTH - 1) + place % 2 * WIDTH
    sums, squares = row_products(
        x,
        norm_weight,
        weight,
        gate_or_up,
        num_rows,
        HIDDEN,
        ROWS,
        BLOCK_IN,
        GROUP,
    )
    for row in tl.static_range(ROWS):
        normed = sums[row] * tl.rsqrt(squares[row] / HIDDEN + eps)
        gate, up = tl.split(tl.reshape(normed, [COLUMNS, 2]))
        result = activated(gate, IS_GELU) * up
        if row < num_rows:
            tl.store(out + row * WIDTH + column, result.to(out.dtype.element_ty), inside)


def shipped_configurations() -> Iterator[ShippedConfiguration]:
    for num_rows in (1, 2, 4):
        tile = rows_tile(num_rows, 28672, 4096, 2, DEFAULT_MULTIPROCESSORS)
        yield ShippedConfiguration(
            name=f"llama-{num_rows}",
            kernel=_norm_gate_up,
            arguments={
                **dict.fromkeys(("x", "norm_weight", "weight", "out"), "*bf16"),
                "num_rows": "i32",
                "eps": "fp32",
            },
            constants={
                "HIDDEN": 4096,
                "WIDTH": 14336,
                "IS_GELU": num_rows == 4,
                **tile_constants(tile),
            },
            num_warps=tile.num_warps,
            num_stages=1,
        )
