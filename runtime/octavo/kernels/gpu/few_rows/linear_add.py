"""Product and sum. A product that is added to the residual stream where it lies, for a few rows, in one
launch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from octavo.kernels.gpu.compiling.compile import ShippedConfiguration, launch_options
from octavo.kernels.gpu.few_rows.row_products import row_products, tile_constants, tile_of
from octavo.kernels.gpu.tuning.chips import DEFAULT_MULTIPROCESSORS
from octavo.kernels.gpu.tuning.few_rows import rows_tile


def linear_add(x: torch.Tensor, weight: torch.Tensor, residual: torch.Tensor) -> None:
    """`residual += x @ weight.T`, computed in float32 and rounded once.

    Args:
        x: `[rows, width]`, contiguous, of 1 to 4 rows.
        weight: `[outputs, width]`, contiguous.
        residual: `[rows, outputs]`, contiguous.
    """
    num_rows, width = x.shape
    num_outputs = weight.shape[0]
    tile = tile_of(x, weight)
    _linear_add[(triton.cdiv(num_outputs, tile.outputs),)](
        x,
        weight,
        residual,
        num_rows,
        WIDTH=width,
        OUTPUTS=num_outputs,
        **tile_constants(tile),
        **launch_options(tile.num_warps, 1),
    )


@triton.jit(do_not_specialize=["num_rows"])
def _linear_add(
    x,
    weight,
    residual,
    num_rows,
    WIDTH: tl.constexpr,
    OUTPUTS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    GROUP: tl.constexpr,
):
    output = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    inside = output < OUTPUTS
    sums, _ = row_products(
        x,
        None,
        weight,
        tl.minimum(output, OUTPUTS - 1),
        num_rows,
        WIDTH,
        ROWS,
        BLOCK_IN,
        GROUP,
    )
    for row in tl.static_range(ROWS):
        if row < num_rows:
            place = residual + row * OUTPUTS + output
            old = tl.load(place, inside, other=0.0).to(tl.float32)
            tl.store(place, (old + sums[row]).to(residual.dtype.element_ty), inside)


def shipped_configurations() -> Iterator[ShippedConfiguration]:
    for num_rows, num_outputs, width in (
        (1, 4096, 14336),
        (2, 4096, 14336),
        (4, 4096, 14336),
        (1, 1024, 3072),
        (4, 1024, 3072),
    ):
        tile = rows_tile(num_rows, num_outputs, width, 2, DEFAULT_MULTIPROCESSORS)
        yield ShippedConfiguration(
            name=f"{num_outputs}-{num_rows}",
            kernel=_linear_add,
            arguments={**dict.fromkeys(("x", "weight", "residual"), "*bf16"), "num_rows": "i32"},
            constants={"WIDTH": width, "OUTPUTS": num_outputs, **tile_constants(tile)},
            num_warps=tile.num_warps,
            num_stages=1,
        )
