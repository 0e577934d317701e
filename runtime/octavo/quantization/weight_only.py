"""Weight-only rounding: a 16- or 32-bit checkpoint's weights become int8, int4 or float8 as they are
read.

A rank's part of a weight has the numbers that it has in the whole one, whose sizes say what it is rounded to
and whose inputs, all of them, make its scales: else so many ranks would be so many models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from octavo.config import Quantization
from octavo.kernels.reference.weight_only import INT4_GROUP, QUANTIZE, Code, QuantizedWeight
from octavo.layers.linear import Linear, PlainWeight
from octavo.layers.projection import Projection
from octavo.layers.stored_weight import plain_weight
from octavo.loading import Placement, WeightSource
from octavo.quantization.forms import PlainLinear
from octavo.quantization.panel_forms import PANELS
from octavo.quantization.unquantised import Unquantised
from octavo.quantization.weight_forms import WeightForms, plain_bytes


@dataclass(frozen=True, slots=True)
class WeightOnly:
    """See `Scheme`; the forms say what becomes of a weight whose sizes the format does not fit. A part for
    whose sizes they have no form is dequantised.

    The head has eight bits at least, as in llama.cpp's mixed formats: errors there are errors of the answer,
    and its rows may be the token embeddings too.
    """

    quantization: Quantization
    forms: WeightForms = PANELS

    def load(self, projection: Projection, source: WeightSource, placement: Placement) -> Linear:
        return self._load(projection, source, placement, self.quantization, is_head=False)

    def load_head(
        self, projection: Projection, source: WeightSource, placement: Placement
    ) -> Linear:
        return self._load(projection, source, placement, Quantization.INT8, is_head=True)

    def head(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        *,
        whole_vocab: int | None = None,
    ) -> Linear:
        table, (vocab, hidden), rounding = (
            PlainWeight(weight, bias),
            weight.shape,
            Quantization.INT8,
        )
        if not self.forms.rounds_tied_tables:
            return self.forms.plain(table, is_head=True)
        code = self.forms.code(whole_vocab or vocab, hidden, rounding)
        if code is self.forms.code(vocab, hidden, rounding):
            return self.forms.rounded(table, rounding, is_head=True)
        if code is None:
            return self.forms.plain(table, is_head=True)
        # A form that gives rows back, as rounded tables do.
        return PlainLinear(_dequantised(QUANTIZE[code](weight), weight.dtype), bias)

    def num_bytes(self, projection: Projection, dtype: torch.dtype) -> int:
        return self._num_bytes(projection, dtype, self.quantization)

    def head_bytes(self, projection: Projection, dtype: torch.dtype, *, is_tied: bool) -> int:
        if is_tied and not self.forms.rounds_tied_tables:
            return Unquantised().num_bytes(projection, dtype)
        return self._num_bytes(projection, dtype, Quantization.INT8)

    def _load(
        self,
        projection: Projection,
        source: WeightSource,
        placement: Placement,
        rounding: Quantization,
        *,
        is_head: bool,
    ) -> Linear:
        code = self._code(projection.stored, rounding)
        if self._is_alike_alone(projection, rounding):
            own = plain_weight(projection, source, placement)
            return self.forms.rounded(own, rounding, is_head=is_head)
        if code is None:
            return self.forms.plain(plain_weight(projection, source, placement), is_head=is_head)
        inputs = _inputs(projection)
        read = plain_weight(projection if inputs is None else projection.stored, source, placement)
        part, bias, dtype = QUANTIZE[code](read.weight, inputs), read.bias, placement.dtype
        linear = self.forms.stored(code, part, bias, dtype, is_head=is_head)
        if linear is None:
            plain = PlainWeight(_dequantised(part, dtype), bias)
            return self.forms.plain(plain, is_head=is_head)
        return linear

    def _num_bytes(self, projection: Projection, dtype: torch.dtype, rounding: Quantization) -> int:
        width, depth, has_bias = projection.width, projection.in_features, projection.bias
        if self._is_alike_alone(projection, rounding):
            return self.forms.rounded_bytes(width, depth, rounding, dtype, has_bias=has_bias)
        code, held = self._code(projection.stored, rounding), None
        if code is not None:
            group = _group(code, projection)
            held = self.forms.stored_bytes(
                code, width, depth, group, dtype, has_zeros=False, has_bias=has_bias
            )
        return plain_bytes(width, depth, dtype, has_bias=has_bias) if held is None else held

    def _is_alike_alone(self, projection: Projection, rounding: Quantization) -> bool:
        """Whether the part's numbers, rounded without the rest, are those of the whole weight."""
        code, inputs = self._code(projection.stored, rounding), _inputs(projection)
        if self._code(projection, rounding) is not code:
            return False
        if inputs is None or code is None:
            return True
        return code is Code.INT4 and inputs.start % INT4_GROUP == 0

    def _code(self, projection: Projection, rounding: Quantization) -> Code | None:
        return self.forms.code(projection.width, projection.in_features, rounding)


def _inputs(projection: Projection) -> range | None:
    """Those of a rank; None: all."""
    return None if projection.cut is None else projection.cut.inputs


def _group(code: Code, projection: Projection) -> int:
    """Inputs that share a scale: of a group that is cut, fewer."""
    whole = projection.stored.in_features
    if code is not Code.INT4 or whole == INT4_GROUP:
        return projection.in_features
    inputs = _inputs(projection) or range(whole)
    return math.gcd(INT4_GROUP, inputs.start, inputs.stop)


def _dequantised(weight: QuantizedWeight, dtype: torch.dtype) -> torch.Tensor:
    return weight.dequantize().to(dtype)
