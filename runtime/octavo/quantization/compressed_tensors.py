"""Compressed-tensors, as LLM Compressor writes it: formats pack-quantized, int-, float- and naive-quantized,
and mxfp4-pack-quantized.

- `weight_packed` int32 `[out, in * bits / 32]`: integers of 2 to 8 bits along the inputs, as what they are
  more than the least one. Its size is `weight_shape`.
- or `weight` `[out, in]`: int8, or float8 (e4m3); in MXFP4 `weight_packed` uint8 `[out, in / 2]`: numbers of
  four bits (E2M1), two to a byte, the lower half first.
- `weight_scale`: a weight is its integer less its zero, times its scale. For which numbers it holds is told
  by `strategy`: tensor, channel, group or block.
- `weight_zero_point`: where `symmetric` is false; packed along the outputs where the weight is.
- `weight_g_idx` int32 `[in]`: each input's group, where a group's inputs lie apart.
- `input_scale`: what activations are divided by before they are rounded, where `input_activations` has
  `dynamic` false. They are rounded to FP8 alone; where they would be integers they are left as they are,
  which loses nothing that the checkpoint holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
import torch

from octavo.kernels.fp4 import E8M0_NAN, MXFP4_GROUP, nibbles, powers_of_two
from octavo.kernels.reference.weight_only import Code, QuantizedWeight
from octavo.loading import WeightSource
from octavo.quantization.config_groups import (
    ConfigGroup,
    WeightSettings,
    check_format,
    check_pattern,
    is_in,
    read_groups,
    settings_for,
)
from octavo.quantization.input_order import read_order
from octavo.quantization.packed_words import num_words, unpack_words
from octavo.quantization.scales import (
    pass_over,
    read_codes,
    read_input_scale,
    read_scales,
    read_zeros,
)
from octavo.quantization.stored import (
    StoredLayout,
    StoredWeight,
    matrix_shape,
    num_groups,
    quantized_weight,
    tensors_of,
)
from octavo.quantization.stored_fields import read_fields, refused

_PATH = "config.json: quantization_config"
_HARMLESS = frozenset(
    {
        "quant_method",
        "quantization_status",
        "global_compression_ratio",
        "version",
        "kv_cache_scheme",
    }
)
_MIXED = "mixed-precision"  # each group names its own
_OF_ACTIVATIONS = ("input_scale", "input_zero_point", "output_scale", "output_zero_point")


class _Fields(msgspec.Struct):
    config_groups: dict[str, Any] = {}
    format: str = _MIXED
    ignore: list[str] = []
    sparsity_config: dict[str, Any] = {}
    transform_config: dict[str, Any] = {}
    moe_sparsity_config: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class CompressedTensors:
    """See `StoredFormat`.

    Args:
        kept: Modules that are not quantised, by name or expression, whatever group they are in.
    """

    method: ClassVar = "compressed-tensors"

    groups: tuple[ConfigGroup, ...]
    kept: tuple[str, ...] = ()

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> CompressedTensors:
        """By quantization_config. Raises `ModelInvalidError` and `ModelUnsupportedError`."""
        fields = read_fields(raw, _Fields, _HARMLESS)
        if fields.format != _MIXED and any(map(_has_weights, fields.config_groups.values())):
            check_format(fields.format, _PATH)  # the shortest way to say what is not implemented
        groups = read_groups(fields.config_groups)
        if fields.sparsity_config.get("format", "dense") != "dense":
            raise refused("sparsity_config.format", fields.sparsity_config["format"], "dense")
        if fields.transform_config.get("config_groups"):
            raise refused("transform_config", fields.transform_config, "none")
        if fields.moe_sparsity_config:
            raise refused("moe_sparsity_config", fields.moe_sparsity_config, "none")
        for pattern in fields.ignore:
            check_pattern(pattern, f"{_PATH}.ignore")
        return cls(groups, tuple(fields.ignore))

    def layout(self, name: str, depth: int) -> StoredLayout | None:
        settings = None if is_in(name, self.kept) else settings_for(name, self.groups)
        if settings is None:
            return None
        return StoredLayout(
            settings.code,
            settings.spread.inputs,
            settings.has_zeros,
            settings.is_reordered,
            settings.inputs,
        )

    def read(self, name: str, width: int, depth: int, source: WeightSource) -> StoredWeight | None:
        is_packed = source.has(f"{name}.weight_packed")
        is_plain = source.has(f"{name}.weight")
        is_quantised = is_packed or source.has(f"{name}.weight_scale")
        if not is_quantised and (is_plain or self.layout(name, depth) is None):
            return None
        settings = settings_for(name, self.groups)
        if settings is None:
            source.note(f"{name} is quantised, but no target of config_groups matches it")
            return None
        inputs, input_scale = settings.inputs, None
        if inputs is not None and inputs.is_static:
            input_scale = read_input_scale((f"{name}.input_scale",), source)
            inputs = None if input_scale is None else inputs
        pass_over(tuple(f"{name}.{one}" for one in _OF_ACTIVATIONS), source)
        spread = settings.spread
        if settings.code is Code.MXFP4:
            return StoredWeight(Code.MXFP4, _mxfp4_weight(name, width, depth, source))
        scales, _ = read_scales(f"{name}.weight_scale", (spread,), width, depth, source)
        if is_packed or not is_plain:
            codes = _packed_codes(name, width, depth, settings.bits, source)
        else:
            codes = _whole_codes(name, width, depth, settings, source)
        zeros = _zeros(name, width, depth, settings, source)
        order = read_order(
            f"{name}.weight_g_idx",
            depth,
            spread.inputs,
            source,
            is_expected=settings.is_reordered,
        )
        if order is not None:
            codes = codes[:, order]
        weight = quantized_weight(codes, scales, zeros, spread.inputs)
        return StoredWeight(settings.code, weight, order, inputs=inputs, input_scale=input_scale)

    def sizes(self, name: str, source: WeightSource) -> tuple[int, int] | None:
        if not source.has(f"{name}.weight_scale"):
            return None
        if not source.has(f"{name}.weight_packed"):
            return matrix_shape(source, f"{name}.weight")
        settings = settings_for(name, self.groups)
        if settings is not None and settings.code is Code.MXFP4:
            packed = matrix_shape(source, f"{name}.weight_packed")
            return None if packed is None else (packed[0], 2 * packed[1])
        if source.shape(f"{name}.weight_shape") != (2,):
            return None
        (stored,) = source.tensors({f"{name}.weight_shape": (2,)})
        width, depth = stored.tolist()
        return int(width), int(depth)


def _has_weights(group: object) -> bool:
    return isinstance(group, dict) and group.get("weights") is not None


def _packed_codes(
    name: str, width: int, depth: int, bits: int, source: WeightSource
) -> torch.Tensor:
    """Less the middle of the codes' range."""
    full, size = f"{name}.weight_packed", f"{name}.weight_shape"
    (packed,) = tensors_of(source, {full: (width, num_words(depth, bits))}, torch.int32)
    if source.has(size):
        (stored,) = source.tensors({size: (2,)})
        if stored.tolist() != [width, depth]:
            source.note(f"{size} is {stored.tolist()} where config.json says {[width, depth]}")
    return _centred(unpack_words(packed, bits, depth), bits)


def _mxfp4_weight(name: str, width: int, depth: int, source: WeightSource) -> QuantizedWeight:
    scales = f"{name}.weight_scale"
    shapes = {
        f"{name}.weight_packed": (width, depth // 2),
        scales: (width, num_groups(depth, MXFP4_GROUP)),
    }
    packed, exponents = tensors_of(source, shapes, torch.uint8)
    if (exponents == E8M0_NAN).any():
        source.note(f"{scales} holds NaN")
    return quantized_weight(nibbles(packed), powers_of_two(exponents), None, MXFP4_GROUP)


def _whole_codes(
    name: str, width: int, depth: int, settings: WeightSettings, source: WeightSource
) -> torch.Tensor:
    full = f"{name}.weight"
    if settings.code is Code.FLOAT8:
        return read_codes(full, width, depth, torch.float8_e4m3fn, source)
    codes = read_codes(full, width, depth, torch.int8, source)
    half = 1 << (settings.bits - 1)
    if int(codes.min()) < -half or int(codes.max()) >= half:
        source.note(f"{full} holds integers of more than {settings.bits} bits")
    return codes


def _zeros(
    name: str, width: int, depth: int, settings: WeightSettings, source: WeightSource
) -> torch.Tensor | None:
    full, bits = f"{name}.weight_zero_point", settings.bits
    found = source.shape(full)
    if found is None and not settings.has_zeros:
        return None
    groups = settings.spread.shape(width, depth)[1]
    packed_shape = (num_words(width, bits), groups)
    if found == packed_shape != settings.spread.shape(width, depth):
        (packed,) = tensors_of(source, {full: packed_shape}, torch.int32)
        return _centred(unpack_words(packed.T, bits, width), bits).T
    zeros = read_zeros(full, settings.spread, width, depth, source)
    if settings.code is Code.FLOAT8 and zeros.any():
        source.note(f"{full} is not zero, beside a weight of floating-point numbers")
    return zeros


def _centred(codes: torch.Tensor, bits: int) -> torch.Tensor:
    half = 1 << (bits - 1)
    return (codes.to(torch.int16) - half).to(torch.int8)
