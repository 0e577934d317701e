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

from octavo.kernels.fp4 import MXFP4_GROUP, exponents_of, nibbles, powers_of_two
from octavo.kernels.reference.weight_only import Code, QuantizedWeight

PLANE: Final = 16
"""Inputs of a plane, and what groups are multiples of."""

_NIBBLE_PLANES = 8  # of codes of four bits
# In words integers are stored with this added, so that none is negative.
OFFSETS: Final = {Code.INT4: 8, Code.INT8: 128, Code.FLOAT8: 0, Code.MXFP4: 0}


@dataclass(frozen=True, slots=True)
class PackedWeight:
    """See `QuantizedWeight` for what the numbers mean. Of several experts everything has one more axis, the
    first.

    Args:
        words: `[rows, width]` int32.
        scales: `[groups, width]`, any floating-point dtype. Of mxfp4 `[blocks, width]` int32: the exponents
            (E8M0) of a block's four groups, the first in the lowest byte.
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
        return MXFP4_GROUP if self.code is Code.MXFP4 else self.depth // self.scales.shape[-2]

    @property
    def num_bytes(self) -> int:
        zeros = 0 if self.zeros is None else self.zeros.nbytes
        return self.words.nbytes + self.scales.nbytes + zeros

    def of(self, expert: int) -> PackedWeight:
        """One of several."""
        zeros = None if self.zeros is None else self.zeros[expert]
        return replace(self, words=self.words[expert], scales=self.scales[expert], zeros=zeros)

    def with_outputs(self, rows: torch.Tensor) -> PackedWeight:
        """Of a single matrix, these outputs `[count]` int64 in their order."""
        zeros = None if self.zeros is None else self.zeros[:, rows]
        return replace(self, words=self.words[:, rows], scales=self.scales[:, rows], zeros=zeros)

    def unpack(self) -> QuantizedWeight:
        """Of a single matrix, what `pack` was given."""
        planes = codes_per_word(self.code)
        stored = self.words.view(-1, PLANE, self.width, 1).contiguous().view(torch.uint8)
        if planes == _NIBBLE_PLANES:
            stored = nibbles(stored)
        codes = stored.view(-1, PLANE, self.width, planes).permute(2, 0, 3, 1)
        codes = codes.reshape(self.width, -1)[:, : self.depth]
        if self.code is Code.MXFP4:
            four = torch.stack([self.scales >> shift & 0xFF for shift in (0, 8, 16, 24)], dim=1)
            exponents = four.flatten(0, 1)[: self.depth // self.group].T
            return QuantizedWeight(codes, powers_of_two(exponents))
        if self.code is Code.FLOAT8:
            codes = codes.contiguous().view(torch.float8_e4m3fn)
        else:
            codes = (codes.to(torch.int16) - OFFSETS[self.code]).to(torch.int8)
        zeros = None if self.zeros is None else self.zeros.T
        return QuantizedWeight(codes, self.scales.T.float(), zeros)


def fits(depth: int, group: int, code: Code) -> bool:
    """Whether a weight of so many inputs, in such groups, can be packed."""
    if code is Code.MXFP4:
        return group == MXFP4_GROUP
    return group % PLANE == 0 or group == depth


def pack(
    weight: QuantizedWeight, code: Code, scale_dtype: torch.dtype = torch.float32
) -> PackedWeight:
    """
    Args:
        scale_dtype: One that holds the scales exactly; mxfp4 has its own.

    Raises ValueError for what does not fit.
    """
    width, depth = weight.codes.shape
    if not fits(depth, weight.group, code):
        allowed = MXFP4_GROUP if code is Code.MXFP4 else f"multiples of {PLANE}"
        raise ValueError(f"groups are of {weight.group} inputs; packed are {allowed}.")
    planes = codes_per_word(code)
    codes = weight.codes
    stored = (
        codes.view(torch.uint8) if codes.is_contiguous() else codes.contiguous().view(torch.uint8)
    )
    if OFFSETS[code]:
        stored = stored + OFFSETS[code]  # a byte wraps around
    stored = F.pad(stored, (0, _rows(depth, code) * planes - depth), value=OFFSETS[code])
    stored = stored.view(width, -1, planes, PLANE).permute(1, 3, 0, 2)
    if planes == _NIBBLE_PLANES:
        stored = stored[..., 0::2] | (stored[..., 1::2] << 4)
    words = stored.contiguous().view(torch.int32).view(-1, width)
    zeros = None if weight.zeros is None else weight.zeros.T.contiguous()
    if code is Code.MXFP4:
        exponents = exponents_of(weight.scales)
        scales = F.pad(exponents, (0, -exponents.shape[1] % 4)).view(torch.int32)
    else:
        scales = weight.scales.to(scale_dtype)
    return PackedWeight(code, words, scales.T.contiguous(), zeros, depth)


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


def _alike(weight: PackedWeight) -> tuple[Code, int, int, torch.Size]:
    return weight.code, weight.group, weight.depth, weight.words.shape


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
    rows = _rows(depth, code)
    if code is Code.MXFP4:
        return width * (rows + rows // PLANE) * torch.int32.itemsize
    of_group = scale_bytes + (torch.int8.itemsize if has_zeros else 0)
    return width * (rows * torch.int32.itemsize + depth // group * of_group)


def codes_per_word(code: Code) -> int:
    return _NIBBLE_PLANES if code in (Code.INT4, Code.MXFP4) else 4


def _rows(depth: int, code: Code) -> int:
    """Rows of words: whole blocks."""
    return math.ceil(depth / (PLANE * codes_per_word(code))) * PLANE
