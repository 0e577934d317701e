"""Norm and product. A product behind a norm, for a few rows, in one launch.

The norm's scale is one number a row, so it can be applied to the sums: the pass over the weights gathers the
squares beside them, and nothing waits for a norm to be finished first.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from octavo.kernels.gpu.compiling.compile import ShippedConfiguration, launch_options
from octavo.kernels.gpu.few_rows.row_products import row_products, tile_constants, tile_of
from octavo.kernels.gpu.tuning.chips import DEFAULT_MULTIPROCESSORS
from octavo.kernels.gpu.tuning.few_rows import rows_tile


def norm_linear(
    x: torch.Tensor,
    norm_weight: torch.Tensor,
    eps: float,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """`rms_norm(x) @ weight.T + bias`, computed in float32 and rounded once.

    Args:
        x: `[rows, width]`, contiguous, of 1 to 4 rows.
        norm_weight: `[width]`.
        weight: `[outputs, width]`, contiguous; `bias` is `[outputs]`.
    """
    num_rows, width = x.shape
    num_outputs = weight.shape[0]
    out = torch.empty(num_rows, num_outputs, dtype=x.dtype, device=x.device)
    tile = tile_of(x, weight)
    _norm_linear[(triton.cdiv(num_outputs, tile.outputs),)](
        x,
        norm_weight,
        weight,
        bias,
        out,
        num_rows,
        eps,
        WIDTH=width,
        OUTPUTS=num_outputs,
        **tile_constants(tile),
        **launch_options(tile.num_warps, 1),
    )
    return out


@triton.jit(do_not_specialize=["num_rows"])
def _norm_linear(
    x,
    norm_weight,
    weight,
    bias,
    out,
    num_rows,
    eps,
    WIDTH: tl.constexpr,
    OUTPUTS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    GROUP: tl.constexpr,
):
    output = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    inside = output < OUTPUTS
    sums, squares = row_products(
        x,
        norm_weight,
        weight,
        tl.minimum(output, OUTPUTS - 1),
        num_rows,
        WIDTH,
        ROWS,
        BLOCK_IN,
        GROUP,
    )
    added = tl.zeros([BLOCK_OUT], tl.float32)
    if bias is not None:
        added = tl.load(bias + output, inside, other=0.0).to(tl.float32)
    for row in tl.static_range(ROWS):
        result = sums[row] * tl.rsqrt(squares[row] / WIDTH + eps) + added
        if row < num_rows:
            tl.store(out + row * OUTPUTS + output, result.to(out.dtype.element_ty), inside)


def shipped_configurations() -> Iterator[ShippedConfiguration]:
    for num_rows in (1, 2, 4):
        tile = rows_tile(num_rows, 6144, 4096, 2, DEFAULT_MULTIPROCESSORS)
        yield ShippedConfiguration(
            name=f"llama-{num_rows}",
            kernel=_norm_linear,
            arguments={
                **dict.fromkeys(("x", "norm_weight", "weight", "out"), "*bf16"),
                "num_rows": "i32",
                "eps": "fp32",
            },
            constants={"bias": None, "WIDTH": 4096, "OUTPUTS": 6144, **tile_constants(tile)},
            num_warps=tile.num_warps,
            num_stages=1,
        )
