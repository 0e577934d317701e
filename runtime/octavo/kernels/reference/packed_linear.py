"""Product with a packed weight in plain torch."""

from __future__ import annotations

import torch

from octavo.kernels.aligned_rows import aligned_rows
from octavo.kernels.packed_weight import PackedWeight


def packed_linear(
    x: torch.Tensor,
    weight: PackedWeight,
    bias: torch.Tensor | None = None,
    *,
    is_aligned: bool = False,
) -> torch.Tensor:
    """`x @ weight.T + bias`, computed in float32 (float64 of float64) and rounded once.

    Args:
        x: `[rows, depth]`.
        bias: `[width]`.
        is_aligned: Rows of the result begin aligned, whatever the width: see `octavo.kernels.aligned_rows`.

    Returns `[rows, width]`.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    result = x.to(wide) @ weight.unpack().dequantize().to(wide).T
    if bias is not None:
        result += bias
    if not is_aligned:
        return result.to(x.dtype)
    return aligned_rows(*result.shape, dtype=x.dtype, device=x.device).copy_(result)
