"""Weight-only formats: matrices as small numbers with scales, read as such or rounded to nearest here.

Of those that are rounded here, without calibration, `int8` has one scale for each output feature and `int4`
one for each 32 inputs of an output feature; float8 has one for each output feature. All are symmetric: a
weight is its code times its scale, and zero stays zero.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Final

import torch

from octavo.kernels.fp4 import e2m1_numbers
from octavo.kernels.fp8 import E4M3_MAX

INT4_GROUP = 32
"""Inputs that share a scale."""


class Code(enum.Enum):
    """What holds each number of a weight: 4 bits, -8 to 7; 8 bits, -128 to 127; float8, e4m3; 4 bits, e2m1,
    whose scales are powers of two."""

    INT4 = "int4"
    INT8 = "int8"
    FLOAT8 = "float8"
    MXFP4 = "mxfp4"

    @classmethod
    def of_bits(cls, bits: int) -> Code:
        """The smallest that holds integers of so many bits."""
        return cls.INT4 if bits <= 4 else cls.INT8


@dataclass(frozen=True, slots=True)
class QuantizedWeight:
    """`weight[n, k] = (codes[n, k] - zeros[n, k // group]) * scales[n, k // group]`.

    Args:
        codes: `[out_features, in_features]` int8 or float8; -8 to 7 in int4. In uint8, the four bits of each
            e2m1: see `octavo.kernels.fp4`.
        scales: `[out_features, groups]` float32, 0 where all weights of a group are.
        zeros: `[out_features, groups]` int8, in the codes' range; None: 0 everywhere.
    """

    codes: torch.Tensor
    scales: torch.Tensor
    zeros: torch.Tensor | None = None

    @property
    def group(self) -> int:
        """Inputs that share a scale."""
        return self.codes.shape[1] // self.scales.shape[1]

    def dequantize(self) -> torch.Tensor:
        """`[out_features, in_features]` float32."""
        width, depth = self.codes.shape
        numbers = (
            e2m1_numbers(self.codes) if self.codes.dtype is torch.uint8 else self.codes.float()
        )
        grouped = numbers.view(width, -1, self.group)
        if self.zeros is not None:
            grouped = grouped - self.zeros.float().unsqueeze(-1)
        return (grouped * self.scales.unsqueeze(-1)).view(width, depth)

    def of_inputs(self, inputs: range) -> QuantizedWeight:
        """Some of the inputs. Of a group that is cut, each side keeps the scale."""
        codes, scales, zeros = self.codes[:, inputs.start : inputs.stop], self.scales, self.zeros
        if not codes.T.is_contiguous():
            codes = codes.contiguous()
        if scales.shape[1] > 1:
            group = math.gcd(self.group, inputs.start, inputs.stop)
            index = torch.arange(inputs.start, inputs.stop, group) // self.group
            scales, zeros = scales[:, index], None if zeros is None else zeros[:, index]
        return QuantizedWeight(codes, scales, zeros)


def quantize_int8(weight: torch.Tensor, inputs: range | None = None) -> QuantizedWeight:
    """The largest weight of an output feature becomes ±127.

    Args:
        inputs: Those that are wanted, with the codes that they have in the whole; None: all.
    """
    scales = _largest(weight) / 127
    return QuantizedWeight(_round(_columns(weight, inputs).float(), scales, -127, 127), scales)


def quantize_float8(weight: torch.Tensor, inputs: range | None = None) -> QuantizedWeight:
    """As `quantize_int8`, but the largest weight becomes the largest e4m3."""
    scales = _largest(weight) / E4M3_MAX
    safe = torch.where(scales == 0, 1.0, scales)
    codes = (_columns(weight, inputs).float() / safe).to(torch.float8_e4m3fn)
    return QuantizedWeight(codes, scales)


def quantize_int4(weight: torch.Tensor, inputs: range | None = None) -> QuantizedWeight:
    """As `quantize_int8`, but in groups: the weight that is largest by magnitude becomes -8, which uses all
    sixteen values where a largest of 7 would use fifteen. Scales are such as bfloat16 holds exactly.

    Raises ValueError when `in_features` is no multiple of `INT4_GROUP`.
    """
    width, depth = weight.shape
    if depth % INT4_GROUP:
        raise ValueError(f"in_features is {depth}; int4 takes multiples of {INT4_GROUP}.")
    groups = weight.float().view(width, -1, INT4_GROUP)
    largest = groups.gather(-1, groups.abs().argmax(dim=-1, keepdim=True))
    scales = (largest / -8).bfloat16().float()
    codes = _round(groups, scales, -8, 7)
    quantized = QuantizedWeight(codes.view(width, depth), scales.squeeze(-1))
    return quantized if inputs is None else quantized.of_inputs(inputs)


QUANTIZE: Final = {
    Code.INT4: quantize_int4,
    Code.INT8: quantize_int8,
    Code.FLOAT8: quantize_float8,
}


def _largest(weight: torch.Tensor) -> torch.Tensor:
    """Magnitudes `[out_features, 1]` float32, without a copy of the weight."""
    low, high = weight.aminmax(dim=-1, keepdim=True)
    return torch.maximum(-low, high).float()


def _columns(weight: torch.Tensor, inputs: range | None) -> torch.Tensor:
    return weight if inputs is None else weight[:, inputs.start : inputs.stop]


def _round(weight: torch.Tensor, scales: torch.Tensor, low: int, high: int) -> torch.Tensor:
    safe = torch.where(scales == 0, 1.0, scales)
    return (weight / safe).round_().clamp_(low, high).to(torch.int8)
