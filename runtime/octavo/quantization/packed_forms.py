"""Packed words, and float8 as matrix units multiply it, as forms of quantised weights: a GPU's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

from octavo.config import Quantization
from octavo.kernels.packed_weight import PackedWeight, fits, pack, packed_bytes
from octavo.kernels.protocols.layers import PackedKernels
from octavo.kernels.reference.weight_only import (
    INT4_GROUP,
    QUANTIZE,
    Code,
    QuantizedWeight,
)
from octavo.kernels.scaled_weight import (
    RoundedInputs,
    ScaledWeight,
    scaled_bytes,
    scaled_weight,
)
from octavo.kernels.scaled_weight import fits as fits_scaled
from octavo.layers.linear import Linear, PlainWeight
from octavo.layers.step import Step
from octavo.quantization.unquantised import Unquantised

# Those of groups of 32 inputs are rounded so that it holds them exactly.
_INT4_SCALES = torch.bfloat16
_SCALES = torch.float32


class WordsLinear:
    """A product with a packed weight.

    Args:
        bias: `[width]`, or None.
        is_head: Rows of the result begin aligned.
    """

    __slots__ = ("_is_head", "_kernels", "bias", "weight")

    plain: Final = None
    lookup: Final = None

    def __init__(
        self,
        weight: PackedWeight,
        bias: torch.Tensor | None,
        kernels: PackedKernels,
        *,
        is_head: bool = False,
    ) -> None:
        self.weight = weight
        self.bias = bias
        self._kernels = kernels
        self._is_head = is_head

    def __call__(self, x: torch.Tensor, step: Step | None = None) -> torch.Tensor:
        return self._kernels.packed_linear(
            x.contiguous(), self.weight, self.bias, is_aligned=self._is_head
        )

    def with_outputs(self, rows: torch.Tensor) -> WordsLinear:
        """These of its outputs, `[count]` int64, in their order."""
        bias = None if self.bias is None else self.bias[rows]
        return WordsLinear(self.weight.with_outputs(rows), bias, self._kernels)


class ScaledLinear:
    """A product with a scaled weight, whose rows are rounded to float8.

    Args:
        bias: `[width]`, or None.
    """

    __slots__ = ("_bias", "_kernels", "weight")

    plain: Final = None
    lookup: Final = None

    def __init__(
        self, weight: ScaledWeight, bias: torch.Tensor | None, kernels: PackedKernels
    ) -> None:
        self.weight = weight
        self._bias = bias
        self._kernels = kernels

    def __call__(self, x: torch.Tensor, step: Step | None = None) -> torch.Tensor:
        return self._kernels.scaled_linear(x.contiguous(), self.weight, self._bias)


@dataclass(frozen=True, slots=True)
class PackedForms:
    """See `WeightForms`. What is stored fits where groups are in sixteens, or of all inputs; MXFP4 where
    they are of 32.

    Where activations are rounded as checkpoints say, they are so for any number of rows: a token's numbers do
    not depend on how many others are computed with it. The product that scores the vocabulary keeps them.

    A weight that int4 does not fit (inputs in groups of 32) is rounded to int8. A table that is tied to the
    embeddings stays as it is, because a packed one does not give its rows back.

    Args:
        rounds_inputs: Whether activations are rounded to float8 where a checkpoint says so.
    """

    kernels: PackedKernels
    rounds_inputs: bool = False

    rounds_tied_tables: Final = False

    def plain(self, weight: PlainWeight, *, is_head: bool = False) -> Linear:
        as_it_is = Unquantised(is_plain=True)
        return as_it_is.head(weight.weight, weight.bias) if is_head else as_it_is.placed(weight)

    def stored(
        self,
        code: Code,
        weight: QuantizedWeight,
        bias: torch.Tensor | None,
        dtype: torch.dtype,
        *,
        is_head: bool = False,
        inputs: RoundedInputs | None = None,
        input_scale: torch.Tensor | None = None,
    ) -> Linear | None:
        width, depth = weight.codes.shape
        wanted = inputs if self.rounds_inputs and not is_head else None
        if fits_scaled(width, depth, weight.group, code, wanted):
            return ScaledLinear(scaled_weight(weight, input_scale), bias, self.kernels)
        if not fits(depth, weight.group, code):
            return None
        return WordsLinear(pack(weight, code, _SCALES), bias, self.kernels, is_head=is_head)

    def stored_bytes(
        self,
        code: Code,
        width: int,
        depth: int,
        group: int,
        dtype: torch.dtype,
        *,
        has_zeros: bool,
        has_bias: bool,
        inputs: RoundedInputs | None = None,
    ) -> int | None:
        of_bias = width * dtype.itemsize if has_bias else 0
        wanted = inputs if self.rounds_inputs else None
        if wanted is not None and fits_scaled(width, depth, group, code, wanted):
            return scaled_bytes(width, depth, group, wanted) + of_bias
        if not fits(depth, group, code):
            return None
        words = packed_bytes(
            width, depth, code, group, has_zeros=has_zeros, scale_bytes=_SCALES.itemsize
        )
        return words + of_bias

    def code(self, width: int, depth: int, rounding: Quantization) -> Code:
        return _rounding(depth, rounding)[0]

    def rounded(
        self, weight: PlainWeight, rounding: Quantization, *, is_head: bool = False
    ) -> Linear:
        code, scales = _rounding(weight.weight.shape[1], rounding)
        packed = pack(QUANTIZE[code](weight.weight), code, scales)
        return WordsLinear(packed, weight.bias, self.kernels, is_head=is_head)

    def rounded_bytes(
        self,
        width: int,
        depth: int,
        rounding: Quantization,
        dtype: torch.dtype,
        *,
        has_bias: bool,
    ) -> int:
        code, scales = _rounding(depth, rounding)
        group = INT4_GROUP if code is Code.INT4 else depth
        words = packed_bytes(width, depth, code, group, scale_bytes=scales.itemsize)
        return words + (width * dtype.itemsize if has_bias else 0)


def _rounding(depth: int, rounding: Quantization) -> tuple[Code, torch.dtype]:
    """What weights of so many inputs become, and the dtype of their scales."""
    if rounding is Quantization.INT4 and depth % INT4_GROUP == 0:
        return Code.INT4, _INT4_SCALES
    if rounding is Quantization.FP8:
        return Code.FLOAT8, _SCALES
    return Code.INT8, _SCALES
