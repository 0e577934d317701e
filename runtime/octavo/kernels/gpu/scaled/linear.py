"""Product with a scaled weight. Rows are rounded to e4m3 and multiplied as float8.

Where all inputs share a scale torch multiplies (cuBLAS, or CUTLASS where that has no such product), without
its fast accumulation: sums are kept in float32. Where groups of inputs do a kernel of ours multiplies, on any
chip that has float8 products.
"""

from __future__ import annotations

import torch

from octavo.kernels.gpu.scaled.grouped import grouped_product
from octavo.kernels.gpu.scaled.round_inputs import round_groups, round_rows
from octavo.kernels.scaled_weight import ScaledWeight


def scaled_linear(
    x: torch.Tensor, weight: ScaledWeight, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """As `reference.scaled_linear`, of which `x` is contiguous."""
    if not x.shape[0]:
        return x.new_empty(0, weight.width)
    if weight.group < weight.depth:
        return grouped_product(*round_groups(x), weight, bias, x.dtype)
    codes, scales = round_rows(x, weight.input_scale)
    return row_product(codes, scales, weight, bias, x.dtype)


def row_product(
    codes: torch.Tensor,
    scales: torch.Tensor,
    weight: ScaledWeight,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    """`rows @ weight.T + bias`, of rows and a weight that have one group each.

    Args:
        codes: `[rows, depth]` float8_e4m3fn, contiguous.
        scales: `[rows, 1]` float32.
        dtype: Of the result.
    """
    # In float32 it takes no bias.
    own_bias = None if dtype is torch.float32 else bias
    product: torch.Tensor = torch._scaled_mm(  # noqa: SLF001 - torch.nn.functional.scaled_mm is for GPUs alone
        codes,
        weight.codes.T,
        scale_a=scales,
        scale_b=weight.scales,
        bias=own_bias,
        out_dtype=dtype,
    )
    if bias is not None and own_bias is None:
        product += bias
    return product
