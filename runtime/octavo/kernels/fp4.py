"""Float4 of quantised weights: e2m1, and the scales that go with it (OCP Microscaling Formats 1.0).

A number is a sign, two bits of exponent and one of mantissa. In MXFP4 the numbers of a group are multiplied
by a power of two, whose exponent is stored as a byte (E8M0): 127 more than it is.
"""

from __future__ import annotations

from typing import Final

import torch

_MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
E2M1_VALUES: Final = (*_MAGNITUDES, *(-one for one in _MAGNITUDES))
"""By the four bits of each."""
E2M1_MAX: Final = max(_MAGNITUDES)
EXPONENT_BIAS: Final = 127
"""Of E8M0."""
E8M0_NAN: Final = 255
MXFP4_GROUP: Final = 32
"""Inputs that share a power of two."""


def e2m1_numbers(codes: torch.Tensor) -> torch.Tensor:
    """float32, of the four bits of each in a byte, uint8."""
    return torch.tensor(E2M1_VALUES, device=codes.device)[codes.int()]


def nibbles(pairs: torch.Tensor) -> torch.Tensor:
    """Codes of four bits, `[..., 2 * n]` uint8, of two in each byte, the lower half first."""
    return torch.stack((pairs & 0x0F, pairs >> 4), dim=-1).flatten(-2)


def powers_of_two(exponents: torch.Tensor) -> torch.Tensor:
    """float32, of E8M0: all of it but NaN (255)."""
    bits = exponents.int() << 23
    return torch.where(bits == 0, 1 << 22, bits).view(torch.float32)


def exponents_of(powers: torch.Tensor) -> torch.Tensor:
    """E8M0, uint8, of powers of two from 2⁻¹²⁷ to 2¹²⁷: what `powers_of_two` was given."""
    # Of the least one, which is no normal float32, these bits are 0, as they should be.
    return (powers.contiguous().view(torch.int32) >> 23).to(torch.uint8)
