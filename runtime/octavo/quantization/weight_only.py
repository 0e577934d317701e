"""Weight-only rounding: a 16- or 32-bit checkpoint's weights become int8 or int4 as they are read (CPU)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from octavo.config import Quantization
from octavo.layers.linear import Linear, PlainWeight
from octavo.layers.projection import Projection
from octavo.layers.stored_weight import plain_weight
from octavo.loading import Placement, WeightSource
from octavo.quantization.unquantised import Unquantised, fastest

if TYPE_CHECKING:
    from octavo.kernels.cpu.products.weight_panels import PanelFormat


@dataclass(frozen=True, slots=True)
class WeightOnly:
    """See `Scheme`. A weight that int4 does not fit (inputs in groups of 32) is rounded to int8; one that
    int8 does not fit (inputs in eights, outputs in sixteens) stays as it is.

    The head has eight bits at least, as in llama.cpp's mixed formats: errors there are errors of the answer,
    and its rows may be the token embeddings too.
    """

    quantization: Quantization

    def load(self, projection: Projection, source: WeightSource, placement: Placement) -> Linear:
        return _rounded(plain_weight(projection, source, placement), self.quantization)

    def load_head(
        self, projection: Projection, source: WeightSource, placement: Placement
    ) -> Linear:
        stored = plain_weight(projection, source, placement)
        return self.head(stored.weight, stored.bias)

    def head(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> Linear:
        return _rounded(PlainWeight(weight, bias), Quantization.INT8)

    def num_bytes(self, projection: Projection, dtype: torch.dtype) -> int:
        return _num_bytes(projection, dtype, self.quantization)

    def head_bytes(self, projection: Projection, dtype: torch.dtype, *, is_tied: bool) -> int:
        return _num_bytes(projection, dtype, Quantization.INT8)


def _rounded(weight: PlainWeight, quantization: Quantization) -> Linear:
    from octavo.kernels.cpu.products.pack_panels import pack  # needs numba
    from octavo.kernels.cpu.products.panel_linear import PanelLinear

    matrix = weight.weight
    width, depth = matrix.shape
    panel_format = _panel_format(width, depth, quantization)
    if panel_format is None:
        return fastest(weight)
    return PanelLinear(pack(matrix, panel_format), matrix.dtype, weight.bias)


def _num_bytes(projection: Projection, dtype: torch.dtype, quantization: Quantization) -> int:
    from octavo.kernels.cpu.products.weight_panels import packed_bytes  # needs numba

    width, depth = projection.width, projection.in_features
    panel_format = _panel_format(width, depth, quantization)
    if panel_format is None:
        return Unquantised().num_bytes(projection, dtype)
    biases = width * torch.float32.itemsize if projection.bias else 0
    return packed_bytes(width, depth, panel_format) + biases


def _panel_format(width: int, depth: int, quantization: Quantization) -> PanelFormat | None:
    """How a weight of this shape is to lie in panels; None where it fits none."""
    from octavo.kernels.cpu.products.weight_panels import PanelFormat, fits  # needs numba

    wanted = [PanelFormat.INT8]
    if quantization is Quantization.INT4:
        wanted.insert(0, PanelFormat.INT4)
    return next((one for one in wanted if fits(width, depth, one)), None)
