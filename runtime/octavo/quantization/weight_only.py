"""Weight-only rounding: a 16- or 32-bit checkpoint's weights become int8, int4 or float8 as they are
read."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octavo.config import Quantization
from octavo.layers.linear import Linear, PlainWeight
from octavo.layers.projection import Projection
from octavo.layers.stored_weight import plain_weight
from octavo.loading import Placement, WeightSource
from octavo.quantization.panel_forms import PANELS
from octavo.quantization.unquantised import Unquantised
from octavo.quantization.weight_forms import WeightForms


@dataclass(frozen=True, slots=True)
class WeightOnly:
    """See `Scheme`; the forms say what becomes of a weight whose sizes the format does not fit.

    The head has eight bits at least, as in llama.cpp's mixed formats: errors there are errors of the answer,
    and its rows may be the token embeddings too.
    """

    quantization: Quantization
    forms: WeightForms = PANELS

    def load(self, projection: Projection, source: WeightSource, placement: Placement) -> Linear:
        return self.forms.rounded(plain_weight(projection, source, placement), self.quantization)

    def load_head(
        self, projection: Projection, source: WeightSource, placement: Placement
    ) -> Linear:
        stored = plain_weight(projection, source, placement)
        return self.forms.rounded(stored, Quantization.INT8, is_head=True)

    def head(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> Linear:
        table = PlainWeight(weight, bias)
        if not self.forms.rounds_tied_tables:
            return self.forms.plain(table, is_head=True)
        return self.forms.rounded(table, Quantization.INT8, is_head=True)

    def num_bytes(self, projection: Projection, dtype: torch.dtype) -> int:
        return self._num_bytes(projection, dtype, self.quantization)

    def head_bytes(self, projection: Projection, dtype: torch.dtype, *, is_tied: bool) -> int:
        if is_tied and not self.forms.rounds_tied_tables:
            return Unquantised().num_bytes(projection, dtype)
        return self._num_bytes(projection, dtype, Quantization.INT8)

    def _num_bytes(self, projection: Projection, dtype: torch.dtype, rounding: Quantization) -> int:
        width, depth = projection.width, projection.in_features
        return self.forms.rounded_bytes(width, depth, rounding, dtype, has_bias=projection.bias)
