"""Product with a scaled weight in plain torch: rows are rounded to e4m3, and then multiplied exactly."""

from __future__ import annotations

import torch

from octavo.kernels.fp8 import E4M3_MAX
from octavo.kernels.scaled_weight import ScaledWeight


def scaled_linear(
    x: torch.Tensor, weight: ScaledWeight, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """`x @ weight.T + bias` of rounded rows, computed in float32 (float64 of float64) and rounded once.

    Args:
        x: `[rows, depth]`.
        bias: `[width]`.

    Returns `[rows, width]`.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    codes, scales = round_inputs(x, weight.group, weight.input_scale)
    rounded = codes.to(wide) * scales.to(wide).repeat_interleave(weight.group, -1)
    result = rounded @ weight.dequantize().to(wide).T
    if bias is not None:
        result += bias
    return result.to(x.dtype)


def round_inputs(
    x: torch.Tensor, group: int, scale: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows as e4m3, and what these are to be multiplied with.

    Args:
        x: `[rows, depth]`.
        group: Inputs that share a scale.
        scale: `[1]` float32; None: the largest number of a group becomes the largest e4m3.

    Returns `[rows, depth]` float8_e4m3fn, saturated at ±448, and `[rows, depth // group]` float32.
    """
    rows, depth = x.shape
    grouped = x.float().reshape(rows, depth // group, group)
    if scale is None:
        scales = grouped.abs().amax(-1) / E4M3_MAX
        scales = torch.where(scales == 0, 1.0, scales)
    else:
        scales = scale.expand(grouped.shape[:-1])
    codes = (grouped / scales.unsqueeze(-1)).clamp(-E4M3_MAX, E4M3_MAX)
    return codes.view(rows, depth).to(torch.float8_e4m3fn), scales
