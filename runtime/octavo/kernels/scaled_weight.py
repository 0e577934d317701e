"""Scaled weight: a float8 matrix as matrix units multiply it, for products whose inputs are rounded, too.

Products of e4m3 are summed and scaled (Micikevicius et al., 2022): by a scale of the row and one of the
output where all inputs share one, else group by group of 128 inputs, as DeepSeek-V3's format has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

from octavo.kernels.reference.weight_only import Code, QuantizedWeight

GROUP: Final = 128
"""Inputs that share a scale, where not all of them do."""

# Of inputs and outputs: what cuBLAS asks of float8.
_MULTIPLE: Final = 16


@dataclass(frozen=True, slots=True)
class RoundedInputs:
    """How a checkpoint says that a product's inputs are rounded to e4m3 before they are multiplied.

    Args:
        group: Inputs of a row that share a scale; None: all of them.
        is_static: The checkpoint holds one scale for all rows. Else the largest number of those that share a
            scale becomes the largest e4m3.
    """

    group: int | None = None
    is_static: bool = False

    def group_of(self, depth: int) -> int:
        """Of a row of so many inputs."""
        return depth if self.group is None else min(self.group, depth)


@dataclass(frozen=True, slots=True, eq=False)
class ScaledWeight:
    """
    Args:
        codes: `[width, depth]` float8_e4m3fn, contiguous.
        scales: `[groups, width]` float32: one group, or groups of `GROUP` inputs.
        input_scale: `[1]` float32, what inputs are divided by before they are rounded; None: that of each row
            and group follows from its largest number.
    """

    codes: torch.Tensor
    scales: torch.Tensor
    input_scale: torch.Tensor | None = None

    @property
    def width(self) -> int:
        """Outputs."""
        return self.codes.shape[0]

    @property
    def depth(self) -> int:
        """Inputs."""
        return self.codes.shape[1]

    @property
    def group(self) -> int:
        """Inputs that share a scale."""
        return self.depth // self.scales.shape[0]

    @property
    def num_bytes(self) -> int:
        own = 0 if self.input_scale is None else self.input_scale.nbytes
        return self.codes.nbytes + self.scales.nbytes + own

    def dequantize(self) -> torch.Tensor:
        """`[width, depth]` float32."""
        return QuantizedWeight(self.codes, self.scales.T).dequantize()


def fits(width: int, depth: int, group: int, code: Code, inputs: RoundedInputs | None) -> bool:
    """Whether a product of these sizes has such a weight: inputs and outputs are in sixteens, and the scales
    of both factors hold for the same inputs.

    Args:
        group: Inputs that share a scale of the weight.
    """
    if inputs is None or code is not Code.FLOAT8 or width % _MULTIPLE or depth % _MULTIPLE:
        return False
    if group == depth:
        return inputs.group_of(depth) == depth
    return group == inputs.group == GROUP and not inputs.is_static


def scaled_weight(weight: QuantizedWeight, input_scale: torch.Tensor | None) -> ScaledWeight:
    """Of one that fits."""
    return ScaledWeight(weight.codes.contiguous(), weight.scales.T.contiguous(), input_scale)


def scaled_bytes(width: int, depth: int, group: int, inputs: RoundedInputs) -> int:
    """What `ScaledWeight.num_bytes` will be."""
    scales = depth // group * width + (1 if inputs.is_static else 0)
    return width * depth + scales * torch.float32.itemsize
