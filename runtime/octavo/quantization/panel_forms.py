"""Panels as forms of quantised weights: a CPU's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from octavo.config import Quantization
from octavo.kernels.reference.weight_only import Code, QuantizedWeight, quantize_float8
from octavo.kernels.scaled_weight import RoundedInputs
from octavo.layers.linear import Linear, PlainWeight
from octavo.quantization.unquantised import fastest
from octavo.quantization.weight_forms import plain_bytes

if TYPE_CHECKING:
    from octavo.kernels.cpu.products.weight_panels import Grouping, PanelFormat


@dataclass(frozen=True, slots=True)
class PanelForms:
    """See `WeightForms`. What is stored fits where inputs and groups are in eights and outputs in sixteens.

    A weight that int4 does not fit (inputs in groups of 32) is rounded to int8; one that int8 or fp8 does not
    fit (inputs in eights, outputs in sixteens) stays as it is. Activations are rounded for no product.
    """

    rounds_tied_tables: Final = True

    def plain(self, weight: PlainWeight, *, is_head: bool = False) -> Linear:
        return fastest(weight)

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
        from octavo.kernels.cpu.products.pack_grouped import pack_grouped  # needs numba
        from octavo.kernels.cpu.products.panel_linear import PanelLinear

        width, depth = weight.codes.shape
        panels = _panels(width, depth, code, weight.group, has_zeros=weight.zeros is not None)
        if panels is None:
            return None
        return PanelLinear(pack_grouped(weight, panels[0]), dtype, bias)

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
        from octavo.kernels.cpu.products.weight_panels import packed_bytes  # needs numba

        panels = _panels(width, depth, code, group, has_zeros=has_zeros)
        if panels is None:
            return None
        return packed_bytes(width, depth, *panels) + _bias_bytes(width, has_bias=has_bias)

    def code(self, width: int, depth: int, rounding: Quantization) -> Code | None:
        if rounding is Quantization.FP8:
            panels = _panels(width, depth, Code.FLOAT8, depth, has_zeros=False)
            return None if panels is None else Code.FLOAT8
        from octavo.kernels.cpu.products.weight_panels import PanelFormat  # needs numba

        codes = {PanelFormat.INT4: Code.INT4, PanelFormat.INT8: Code.INT8, None: None}
        return codes[_panel_format(width, depth, rounding)]

    def rounded(
        self, weight: PlainWeight, rounding: Quantization, *, is_head: bool = False
    ) -> Linear:
        from octavo.kernels.cpu.products.pack_panels import pack  # needs numba
        from octavo.kernels.cpu.products.panel_linear import PanelLinear

        matrix = weight.weight
        if rounding is Quantization.FP8:
            quantized = quantize_float8(matrix)
            linear = self.stored(Code.FLOAT8, quantized, weight.bias, matrix.dtype)
            return linear or fastest(weight)
        width, depth = matrix.shape
        panel_format = _panel_format(width, depth, rounding)
        if panel_format is None:
            return fastest(weight)
        return PanelLinear(pack(matrix, panel_format), matrix.dtype, weight.bias)

    def rounded_bytes(
        self,
        width: int,
        depth: int,
        rounding: Quantization,
        dtype: torch.dtype,
        *,
        has_bias: bool,
    ) -> int:
        from octavo.kernels.cpu.products.weight_panels import packed_bytes  # needs numba

        if rounding is Quantization.FP8:
            held = self.stored_bytes(
                Code.FLOAT8, width, depth, depth, dtype, has_zeros=False, has_bias=has_bias
            )
            return plain_bytes(width, depth, dtype, has_bias=has_bias) if held is None else held
        panel_format = _panel_format(width, depth, rounding)
        if panel_format is None:
            return plain_bytes(width, depth, dtype, has_bias=has_bias)
        return packed_bytes(width, depth, panel_format) + _bias_bytes(width, has_bias=has_bias)


PANELS: Final = PanelForms()


def _bias_bytes(width: int, *, has_bias: bool) -> int:
    return width * torch.float32.itemsize if has_bias else 0


def _panels(
    width: int, depth: int, code: Code, group: int, *, has_zeros: bool
) -> tuple[PanelFormat, Grouping] | None:
    """How a weight lies in panels; None where it fits none."""
    from octavo.kernels.cpu.products import weight_panels  # needs numba

    panel_format = {
        Code.INT4: weight_panels.PanelFormat.GROUPED_INT4,
        Code.INT8: weight_panels.PanelFormat.GROUPED_INT8,
        Code.FLOAT8: weight_panels.PanelFormat.GROUPED_FLOAT8,
        Code.MXFP4: weight_panels.PanelFormat.GROUPED_MXFP4,
    }[code]
    if group % weight_panels.STEP or not weight_panels.fits(width, depth, panel_format):
        return None
    return panel_format, weight_panels.Grouping(group, has_zeros)


def _panel_format(width: int, depth: int, rounding: Quantization) -> PanelFormat | None:
    """How a weight of this shape is to lie in panels; None where it fits none."""
    from octavo.kernels.cpu.products.weight_panels import PanelFormat, fits  # needs numba

    wanted = [PanelFormat.INT8]
    if rounding is Quantization.INT4:
        wanted.insert(0, PanelFormat.INT4)
    return next((one for one in wanted if fits(width, depth, one)), None)
