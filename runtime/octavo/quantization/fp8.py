"""FP8 as DeepSeek, transformers (`FineGrainedFP8`, `fbgemm_fp8`) and AutoFP8 store it.

- `weight` float8 (e4m3) `[out, in]`.
- `weight_scale_inv`, or `weight_scale`: what it is to be multiplied with, one for each block of outputs and
  inputs (`weight_block_size`), or for the whole weight. The name says inverse; it is none.
- in their place, of a layer's experts, see `octavo.quantization.stacked_scales`.
- `input_scale`, or `activation_scale`: what activations are divided by before they are rounded, with
  `activation_scheme` static. With dynamic their scale follows from their largest, of a token or of a token's
  inputs in a block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
import torch

from octavo.errors import ModelInvalidError
from octavo.kernels.reference.weight_only import Code
from octavo.kernels.scaled_weight import RoundedInputs
from octavo.loading import WeightSource
from octavo.quantization.scales import (
    PER_OUTPUT,
    PER_TENSOR,
    Spread,
    pass_over,
    read_codes,
    read_input_scale,
    read_scales,
)
from octavo.quantization.stacked_scales import StackedScales
from octavo.quantization.stored import StoredLayout, StoredWeight, matrix_shape, quantized_weight
from octavo.quantization.stored_fields import read_fields, refused

_HARMLESS = frozenset({"quant_method", "kv_cache_scheme", "dequantize"})
_FBGEMM_HARMLESS = frozenset({"quant_method", "activation_scale_ub"})
_USUAL_BLOCK = Spread(128, 128)
_SCALES = ("weight_scale_inv", "weight_scale")
_INPUT_SCALES = ("input_scale", "activation_scale")
_OF_ACTIVATIONS = (*_INPUT_SCALES, "input_scale_inv", "output_scale")


class _Fields(msgspec.Struct):
    weight_block_size: list[int] | None = None
    modules_to_not_convert: list[str] = []
    ignored_layers: list[str] = []
    modules_to_convert: list[str] = []
    fmt: str = "e4m3"
    scale_fmt: str = "float"
    expert_dtype: str = "fp8"
    activation_scheme: str | None = None


class _FbgemmFields(msgspec.Struct):
    modules_to_not_convert: list[str] = []


@dataclass(frozen=True, slots=True)
class Fp8:
    """See `StoredFormat`.

    Args:
        block: Outputs and inputs that share a scale; None: all of them.
        kept: Parts of names of modules that are not quantised.
        activations: `dynamic` or `static`: how they are rounded; None: it does not say that they are.
    """

    method: ClassVar = "fp8"

    block: tuple[int, int] | None
    kept: tuple[str, ...] = ()
    activations: str | None = None

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Fp8:
        """By quantization_config. Raises `ModelInvalidError` and `ModelUnsupportedError`."""
        fields = read_fields(raw, _Fields, _HARMLESS)
        for name, value in (("fmt", "e4m3"), ("expert_dtype", "fp8")):
            if getattr(fields, name) != value:
                raise refused(name, getattr(fields, name), f"{value} with quant_method fp8")
        if fields.scale_fmt not in ("float", "ue8m0"):
            raise refused("scale_fmt", fields.scale_fmt, "float or ue8m0")
        if fields.modules_to_convert:
            raise refused("modules_to_convert", fields.modules_to_convert, "none")
        return cls(
            _block(fields.weight_block_size),
            (*fields.modules_to_not_convert, *fields.ignored_layers),
            fields.activation_scheme,
        )

    @classmethod
    def of_fbgemm(cls, raw: Mapping[str, Any]) -> Fp8:
        """As `of`, with `quant_method` fbgemm_fp8, which has one scale for each output. How it bounds the
        scale of activations (`activation_scale_ub`) is none of FP8's other forms': they keep their dtype."""
        fields = read_fields(raw, _FbgemmFields, _FBGEMM_HARMLESS)
        return cls(None, tuple(fields.modules_to_not_convert))

    def layout(self, name: str, depth: int) -> StoredLayout | None:
        if name == "lm_head" or any(part in name for part in self.kept):
            return None
        group = None if self.block is None else self.block[1]
        return StoredLayout(Code.FLOAT8, group, inputs=self._inputs(group))

    def read(self, name: str, width: int, depth: int, source: WeightSource) -> StoredWeight | None:
        stored = [scale for scale in _SCALES if source.has(f"{name}.{scale}")]
        stacked = None if stored else StackedScales.find(name, source)
        if stacked is not None:
            scales, spread = stacked.read(self._spreads(), width, depth, source)
        elif not stored and (self.layout(name, depth) is None or source.has(f"{name}.weight")):
            return None
        else:
            full = f"{name}.{(stored or _SCALES)[0]}"
            scales, spread = read_scales(full, self._spreads(), width, depth, source)
        codes = read_codes(f"{name}.weight", width, depth, torch.float8_e4m3fn, source)
        inputs, input_scale = self._inputs(spread.inputs), None
        if inputs is not None and inputs.is_static:
            input_scale = read_input_scale(tuple(f"{name}.{one}" for one in _INPUT_SCALES), source)
            inputs = None if input_scale is None else inputs
        pass_over(tuple(f"{name}.{one}" for one in _OF_ACTIVATIONS), source)
        return StoredWeight(
            Code.FLOAT8,
            quantized_weight(codes, scales, None, spread.inputs),
            inputs=inputs,
            input_scale=input_scale,
        )

    def sizes(self, name: str, source: WeightSource) -> tuple[int, int] | None:
        is_there = any(source.has(f"{name}.{scale}") for scale in _SCALES)
        is_there = is_there or StackedScales.find(name, source) is not None
        return matrix_shape(source, f"{name}.weight") if is_there else None

    def _inputs(self, group: int | None) -> RoundedInputs | None:
        """Of a weight with scales of so many inputs; None: of all."""
        if self.activations == "dynamic":
            return RoundedInputs(group)
        return RoundedInputs(is_static=True) if self.activations == "static" else None

    def _spreads(self) -> tuple[Spread, ...]:
        """What is stored counts: a config without block sizes is written for either."""
        whole = (PER_TENSOR, PER_OUTPUT)
        return (*whole, _USUAL_BLOCK) if self.block is None else (Spread(*self.block), *whole)


def _block(sizes: list[int] | None) -> tuple[int, int] | None:
    if sizes is None:
        return None
    if len(sizes) != 2 or min(sizes) < 1:
        raise ModelInvalidError(
            f"config.json: quantization_config.weight_block_size is {sizes}; it must be two positive "
            "integers, of outputs and inputs."
        )
    return sizes[0], sizes[1]
