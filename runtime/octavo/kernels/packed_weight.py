"""Packed weight: codes of a quantised matrix in words of 32 bits, as GPU kernels read them.

A block of inputs is as many planes of 16 as a word holds codes. Word `[16 * block + row, output]` holds one
code of each plane, the first in its lowest bits: input `block_inputs * block + 16 * plane + row`. A kernel
so takes a plane apart with one shift, for the 16 inputs that one matrix instruction multiplies, and nothing
has to be moved between its threads. Outputs lie side by side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812 (its established name)

from octavo.kernels.reference.weight_only import Code, QuantizedWeight

PLANE: Final = 16
"""Inputs of a plane, and what groups are multiples of."""

# In words integers are stored with this added, so that none is negative.
OFFSETS: Final = {Code.INT4: 8, Code.INT8: 128, Code.FLOAT8: 0}


@dataclass(frozen=True, slots=True)
class PackedWeight:
    """See `QuantizedWeight` for what the numbers mean. Of several experts everything has one more axis, the
    first.

    Args:
        words: `[rows, width]` int32.
        scales: `[groups, width]`, any floating-point dtype.
        zeros: `[groups, width]` int8, in the codes' range; None: 0 everywhere.
        depth: Inputs, of which the words may hold more: zeros behind them.
    """

    code: Code
    words: torch.Tensor
    scales: torch.Tensor
    zeros: torch.Tensor | None
    depth: int

    @property
    def width(self) -> int:
        """Outputs."""
        return self.words.shape[-1]

    @property
    def group(self) -> int:
        """Inputs that share a scale."""
        return self.depth // self.scales.shape[-2]

    @property
    def num_bytes(self) -> int:
        zeros = 0 if self.zeros is None else self.zeros.nbytes
        return self.words.nbytes + self.scales.nbytes + zeros

    def of(self, expert: int) -> PackedWeight:
        """One of several."""
        zeros = None if self.zeros is None else self.zeros[expert]
        return replace(self, words=self.words[expert], scales=self.scales[expert], zeros=zeros)

    def unpack(self) -> QuantizedWeight:
        """Of a single matrix, what `pack` was given."""
        planes = codes_per_word(self.code)
        stored = self.words.view(-1, PLANE, self.width, 1).contiguous().view(torch.uint8)
        if self.code is Code.INT4:
            stored = torch.stack((stored & 15, stored >> 4), -1).flatten(-2)
        codes = stored.view(-1, PLANE, self.width, planes).permute(2, 0, 3, 1)
        codes = codes.reshape(self.width, -1)[:, : self.depth]
        if self.code is Code.FLOAT8:
            codes = codes.contiguous().view(torch.float8_e4m3fn)
        else:
            codes = (codes.to(torch.int16) - OFFSETS[self.code]).to(torch.int8)
        zeros = None if self.zeros is None else self.zeros.T
        return QuantizedWeight(codes, self.scales.T.float(), zeros)


def fits(depth: int, group: int) -> bool:
    """Whether a weight of so many inputs, in such groups, can be packed."""
    return group % PLANE == 0 or group == depth


def pack(
    weight: QuantizedWeight, code: Code, scale_dtype: torch.dtype = torch.float32
) -> PackedWeight:
    """
    Args:
        scale_dtype: One that holds the scales exactly.

    Raises ValueError for what does not fit.
    """
    width, depth = weight.codes.shape
    if not fits(depth, weight.group):
        raise ValueError(f"groups are of {weight.group} inputs; packed are multiples of {PLANE}.")
    planes = codes_per_word(code)
    codes = weight.codes
    stored = (
        codes.view(torch.uint8) if codes.is_contiguous() else codes.contiguous().view(torch.uint8)
    )
    if code is not Code.FLOAT8:
        stored = stored + OFFSETS[code]  # a byte wraps around
    stored = F.pad(stored, (0, _rows(depth, code) * planes - depth), value=OFFSETS[code])
    stored = stored.view(width, -1, planes, PLANE).permute(1, 3, 0, 2)
    if code is Code.INT4:
        stored = stored[..., 0::2] | (stored[..., 1::2] << 4)
    words = stored.contiguous().view(torch.int32).view(-1, width)
    zeros = None if weight.zeros is None else weight.zeros.T.contiguous()
    return PackedWeight(code, words, weight.scales.T.to(scale_dtype).contiguous(), zeros, depth)


def stacked(weights: Sequence[PackedWeight]) -> PackedWeight | None:
    """Of experts, which are one weight where they are packed alike; None where they are not."""
    first = weights[0]
    if any(_alike(one) != _alike(first) for one in weights):
        return None
    zeros = None
    if any(one.zeros is not None for one in weights):
        absent = torch.zeros_like(first.scales, dtype=torch.int8)
        zeros = torch.stack([absent if one.zeros is None else one.zeros for one in weights])
    words = torch.stack([one.words for one in weights])
    return replace(
        first, words=words, scales=torch.stack([one.scales for one in weights]), zeros=zeros
    )


def _alike(weight: PackedWeight) -> tuple[Code, int, torch.Size]:
    return weight.code, weight.group, weight.words.shape


def packed_bytes(
    width: int,
    depth: int,
    code: Code,
    group: int,
    *,
    has_zeros: bool = False,
    scale_bytes: int = torch.float32.itemsize,
) -> int:
    """What `PackedWeight.num_bytes` will be, of groups of `group` inputs."""
    of_group = scale_bytes + (torch.int8.itemsize if has_zeros else 0)
    return width * (_rows(depth, code) * torch.int32.itemsize + depth // group * of_group)


def codes_per_word(code: Code) -> int:
    return 8 if code is Code.INT4 else 4


def _rows(depth: int, code: Code) -> int:
    """Rows of words: whole blocks."""
    return math.ceil(depth / (PLANE * codes_per_word(code))) * PLANE
