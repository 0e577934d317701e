"""Support of float8 products: whether a chip has them, and whether torch's come out right there."""

from __future__ import annotations

import torch

from octavo.kernels.gpu.scaled.linear import row_product
from octavo.kernels.gpu.tuning.chips import capability_of
from octavo.kernels.reference.scaled_linear import round_inputs, scaled_linear
from octavo.kernels.scaled_weight import ScaledWeight

_FIRST_CAPABILITY = 89
_ROWS, _WIDTH, _DEPTH = 5, 48, 256
# Of a sum of so few products: what float32 and one rounding to bfloat16 leave.
_TOLERANCE = 2.0**-6


def multiplies_float8(device: torch.device) -> bool:
    """Whether the chip has matrix instructions for it: L4, L40S, RTX 40, H100 and later ones."""
    return capability_of(device) >= _FIRST_CAPABILITY


def float8_fault(device: torch.device) -> str | None:
    """What is wrong with a small product of torch's there; None: nothing.

    It needs a build for the chip, and one that lacks it says so when it multiplies.
    """
    numbers = torch.arange(_WIDTH * _DEPTH, dtype=torch.float32, device=device)
    codes = (numbers.view(_WIDTH, _DEPTH) * 0.37).sin().to(torch.float8_e4m3fn)
    weight = ScaledWeight(codes, (1 + numbers[:_WIDTH] / _WIDTH).unsqueeze(0))
    x = (numbers[: _ROWS * _DEPTH].view(_ROWS, _DEPTH) * 0.11).cos()
    try:
        got = row_product(*round_inputs(x, _DEPTH), weight, None, torch.bfloat16)
    except RuntimeError as error:
        return str(error).split("\n")[0]
    exact = scaled_linear(x, weight)
    error_size = ((got.float() - exact).abs().amax() / exact.abs().amax()).item()
    return (
        None if error_size <= _TOLERANCE else f"a product is wrong by {error_size:.2g} of its size"
    )
