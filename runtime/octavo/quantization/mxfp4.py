"""MXFP4 (Open Compute Project, Microscaling Formats 1.0), as gpt-oss stores the experts of a layer.

A parameter `[experts, in, out]` lies in two tensors, outputs before inputs:

- `NAME_blocks` uint8 `[experts, out, in / 32, 16]`: numbers of four bits (E2M1), two to a byte, the lower
  half first.
- `NAME_scales` uint8 `[experts, out, in / 32]`: of each block of 32 inputs, the power of two (E8M0: the byte
  less 127) that its numbers are multiplied with.

Of an expert the same without the first axis is a product's weight. Nothing else of such a checkpoint is
quantised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
import torch

from octavo.kernels.fp4 import E2M1_MAX, EXPONENT_BIAS, MXFP4_GROUP, nibbles, powers_of_two
from octavo.kernels.reference.weight_only import Code, QuantizedWeight
from octavo.loading import WeightSource
from octavo.quantization.stored import (
    StoredLayout,
    StoredParameter,
    StoredWeight,
    tensors_of,
)
from octavo.quantization.stored_fields import read_fields

_BLOCKS, _SCALES = "_blocks", "_scales"
_BYTES = MXFP4_GROUP // 2  # of a block
_OF_EXPERTS = ".experts."  # in names of what is quantised
_HARMLESS = frozenset({"quant_method", "dequantize"})


class _Fields(msgspec.Struct):
    """What is stored counts, whatever is listed as kept."""

    modules_to_not_convert: list[str] = []


@dataclass(frozen=True, slots=True)
class Mxfp4:
    """See `StoredFormat` and `HoldsParameters`."""

    method: ClassVar = "mxfp4"

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Mxfp4:
        """By quantization_config. Raises `ModelInvalidError` and `ModelUnsupportedError`."""
        read_fields(raw, _Fields, _HARMLESS)
        return cls()

    def layout(self, name: str, depth: int) -> StoredLayout | None:
        if _OF_EXPERTS not in name or depth % MXFP4_GROUP:
            return None
        return StoredLayout(Code.MXFP4, MXFP4_GROUP)

    def read(self, name: str, width: int, depth: int, source: WeightSource) -> StoredWeight | None:
        if not source.has(f"{name}{_BLOCKS}"):
            return None
        whole = (width, depth // MXFP4_GROUP, _BYTES)
        return StoredWeight(Code.MXFP4, _read(name, whole, source))

    def sizes(self, name: str, source: WeightSource) -> tuple[int, int] | None:
        return None

    def parameters(self, source: WeightSource) -> dict[str, StoredParameter]:
        found = {}
        for stored in source.names():
            name = stored.removesuffix(_BLOCKS)
            shape = source.shape(stored)
            if name == stored or shape is None or len(shape) != 4 or shape[3] != _BYTES:
                continue
            experts, width, blocks, _ = shape
            whole = (experts, blocks * MXFP4_GROUP, width)
            found[name] = StoredParameter(whole, (stored, f"{name}{_SCALES}"))
        return found

    def parameter(self, name: str, source: WeightSource, dtype: torch.dtype) -> torch.Tensor:
        shape = source.shape(f"{name}{_BLOCKS}")
        assert shape is not None  # noqa: S101 - one of `parameters`
        stored = _read(name, shape, source)
        experts, width, count, _ = shape
        whole = torch.empty(experts, count * MXFP4_GROUP, width, dtype=dtype)
        for place, codes, scales in zip(whole, stored.codes, stored.scales, strict=True):
            # One by one: float32 takes twice the room.
            place.copy_(QuantizedWeight(codes, scales).dequantize().T)
        return whole


def _read(name: str, shape: tuple[int, ...], source: WeightSource) -> QuantizedWeight:
    """
    Args:
        shape: Of the blocks, `[..., out, in / 32, 16]`.

    Returns codes `[..., out, in]`, and scales alike.
    """
    blocks_name, scales_name = f"{name}{_BLOCKS}", f"{name}{_SCALES}"
    blocks, exponents = tensors_of(
        source, {blocks_name: shape, scales_name: shape[:-1]}, torch.uint8
    )
    most = int(exponents.max()) if exponents.numel() else 0
    if E2M1_MAX * 2.0 ** (most - EXPONENT_BIAS) > torch.finfo(torch.bfloat16).max:
        source.note(f"{scales_name} holds {most}, a power of two that bfloat16 does not hold")
        exponents = torch.zeros_like(exponents)
    return QuantizedWeight(nibbles(blocks).flatten(-2), powers_of_two(exponents))
