"""GPTQ (Frantar et al., 2023), as AutoGPTQ, GPTQModel and optimum store it: forms gptq and gptq_v2.

- `qweight` int32 `[in * bits / 32, out]`: integers of 2, 3, 4 or 8 bits along the inputs.
- `qzeros` int32 `[groups, out * bits / 32]`: what stands for zero, in gptq less 1.
- `scales` `[groups, out]`: a weight is its integer less its zero, times its scale.
- `g_idx` int32 `[in]`: each input's group. With `desc_act` a group's inputs do not lie side by side.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import msgspec
import torch

from octavo.errors import ModelInvalidError
from octavo.kernels.reference.weight_only import Code
from octavo.loading import WeightSource, floating_tensors
from octavo.quantization.input_order import read_order
from octavo.quantization.packed_words import num_words, unpack_words
from octavo.quantization.stored import (
    StoredLayout,
    StoredWeight,
    is_quantised,
    matrix_shape,
    num_groups,
    quantized_weight,
    tensors_of,
)
from octavo.quantization.stored_fields import HARMLESS, group_of, read_fields, refused

_BITS = (2, 3, 4, 8)
_FORMATS = ("gptq", "gptq_v2")
_HEAD = "lm_head"
# What a rule may override beside these changes how weights were found, not what is stored.
_RULE_HARMLESS = HARMLESS | {"hyb_act", "gptaq", "fallback"}


class _Fields(msgspec.Struct):
    bits: int
    group_size: int = 128
    desc_act: bool = False
    sym: bool = True
    format: str = "gptq"
    checkpoint_format: str = "gptq"
    is_marlin_format: bool = False
    backend: str = "auto"
    pack_dtype: str = "int32"
    lm_head: bool = False
    dynamic: dict[str, dict[str, Any]] = {}
    modules_to_not_convert: list[str] = []
    modules_in_block_to_quantize: list[list[str] | str] = []


class _RuleFields(msgspec.Struct):
    bits: int | None = None
    group_size: int | None = None
    desc_act: bool | None = None
    sym: bool | None = None


@dataclass(frozen=True, slots=True)
class GptqSettings:
    """Of one module.

    Args:
        group: Inputs that share a scale; None: all of them.
        has_zeros: Else zero is in the middle of the codes' range.
        is_reordered: Whether a group's inputs lie apart.
    """

    bits: int
    group: int | None
    has_zeros: bool
    is_reordered: bool


@dataclass(frozen=True, slots=True)
class Gptq:
    """See `StoredFormat`.

    Args:
        zero_offset: What was taken from zeros before they were stored.
        rules: Patterns of names with what holds in place of `settings`; the first that matches counts. None:
            the module is not quantised.
        kept: Parts of names of modules that are not quantised.
        only: Parts of names, one of which a quantised module's has; empty: all are.
    """

    method: ClassVar = "gptq"

    settings: GptqSettings
    zero_offset: int = 1
    rules: tuple[tuple[str, GptqSettings | None], ...] = ()
    kept: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    has_quantised_head: bool = False

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Gptq:
        """By quantization_config. Raises `ModelInvalidError` and `ModelUnsupportedError`."""
        fields = read_fields(raw, _Fields, HARMLESS)
        if fields.is_marlin_format:
            raise refused("is_marlin_format", True, "checkpoint_format gptq or gptq_v2")
        for name in ("format", "checkpoint_format"):
            if getattr(fields, name).lower() not in _FORMATS:
                raise refused(name, getattr(fields, name), "gptq or gptq_v2")
        if fields.pack_dtype != "int32":
            raise refused("pack_dtype", fields.pack_dtype, "int32")
        settings = GptqSettings(
            _checked(fields.bits), group_of(fields.group_size), not fields.sym, fields.desc_act
        )
        is_second = "gptq_v2" in (fields.format.lower(), fields.checkpoint_format.lower())
        only = [
            one if isinstance(one, list) else [one] for one in fields.modules_in_block_to_quantize
        ]
        return cls(
            settings,
            0 if is_second else 1,
            tuple(_rule(pattern, rule, settings) for pattern, rule in fields.dynamic.items()),
            tuple(fields.modules_to_not_convert),
            tuple(part for parts in only for part in parts),
            fields.lm_head,
        )

    def layout(self, name: str, depth: int) -> StoredLayout | None:
        found = self._settings(name)
        is_kept = any(part in name for part in self.kept)
        is_left_out = bool(self.only) and not any(part in name for part in self.only)
        if found is None or is_kept or (name == _HEAD and not self.has_quantised_head):
            return None
        if is_left_out and name != _HEAD:
            return None
        code = Code.of_bits(found.bits)
        return StoredLayout(code, found.group, found.has_zeros, found.is_reordered)

    def read(self, name: str, width: int, depth: int, source: WeightSource) -> StoredWeight | None:
        if not is_quantised(name, "qweight", source, self.layout(name, depth)):
            return None
        settings = self._settings(name) or self.settings
        bits, groups = settings.bits, num_groups(depth, settings.group)
        shape = (num_words(depth, bits), width)
        (qweight,) = tensors_of(source, {f"{name}.qweight": shape}, torch.int32)
        shape = (groups, num_words(width, bits))
        (qzeros,) = tensors_of(source, {f"{name}.qzeros": shape}, torch.int32)
        (scales,) = floating_tensors(source, {f"{name}.scales": (groups, width)})
        codes = unpack_words(qweight.T, bits, depth)
        order = read_order(
            f"{name}.g_idx", depth, settings.group, source, is_expected=settings.is_reordered
        )
        if order is not None:
            codes = codes[:, order]
        half = 1 << (bits - 1)
        centred = (codes.to(torch.int16) - half).to(torch.int8)
        zeros = self._zeros(f"{name}.qzeros", unpack_words(qzeros, bits, width), bits, source)
        weight = quantized_weight(centred, scales.T, zeros.T, settings.group)
        return StoredWeight(Code.of_bits(bits), weight, order)

    def sizes(self, name: str, source: WeightSource) -> tuple[int, int] | None:
        words = matrix_shape(source, f"{name}.qweight")
        scales = matrix_shape(source, f"{name}.scales")
        if words is None or scales is None:
            return None
        bits = (self._settings(name) or self.settings).bits
        return scales[1], words[0] * 32 // bits

    def _settings(self, name: str) -> GptqSettings | None:
        for pattern, settings in self.rules:
            if re.match(pattern, name):
                return settings
        return self.settings

    def _zeros(
        self, name: str, stored: torch.Tensor, bits: int, source: WeightSource
    ) -> torch.Tensor:
        """Less the middle of the codes' range."""
        most, half = (1 << bits) - 1, 1 << (bits - 1)
        if self.zero_offset and source.has(name) and bool((stored == most).any()):
            source.note(
                f"{name} holds {most}, which with checkpoint_format gptq some write for 0 and some read as "
                f"{most + 1} (convert the checkpoint to gptq_v2)"
            )
        zeros = (stored.to(torch.int16) + self.zero_offset).clamp(max=most)
        return (zeros - half).to(torch.int8)


def _checked(bits: int) -> int:
    if bits not in _BITS:
        raise refused("bits", bits, "2, 3, 4 or 8 with quant_method gptq")
    return bits


def _rule(
    pattern: str, raw: Mapping[str, Any], settings: GptqSettings
) -> tuple[str, GptqSettings | None]:
    """`-:` before a pattern leaves its modules out, `+:` or nothing overrides what holds for them."""
    path = f"config.json: quantization_config.dynamic.{pattern}"
    expression = pattern.removeprefix("-:").removeprefix("+:")
    try:
        re.compile(expression)
    except re.error as error:
        raise ModelInvalidError(f"{path} is no regular expression: {error}.") from error
    if pattern.startswith("-:"):
        return expression, None
    fields = read_fields(raw, _RuleFields, _RULE_HARMLESS, path)
    if fields.bits is not None:
        settings = replace(settings, bits=_checked(fields.bits))
    if fields.group_size is not None:
        settings = replace(settings, group=group_of(fields.group_size, path))
    if fields.desc_act is not None:
        settings = replace(settings, is_reordered=fields.desc_act)
    if fields.sym is not None:
        settings = replace(settings, has_zeros=not fields.sym)
    return expression, settings
