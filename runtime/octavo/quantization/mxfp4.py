"""MXFP4 (Open Compute Project, Microscaling Formats 1.0), as gpt-oss stores the experts of a layer.

A parameter `[experts, in, out]` lies in two tensors, outputs before inputs:

- `NAME_blocks` uint8 `[experts, out, in / 32, 16]`: numbers of four bits (E2M1), two to a byte, the lower
  half first.
- `NAME_scales` uint8 `[experts, out, in / 32]`: of each block of 32 inputs, the power of two (E8M0: the byte
  less 127) that its numbers are multiplied with.

No product of ours multiplies experts that have biases, so they are dequantised as they are read. Nothing else
of such a checkpoint is quantised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
import torch

from octavo.loading import WeightSource
from octavo.quantization.stored import (
    StoredLayout,
    StoredParameter,
    StoredWeight,
    tensors_of,
)
from octavo.quantization.stored_fields import read_fields

_BLOCKS, _SCALES = "_blocks", "_scales"
_BYTES = 16  # of a block
_BIAS = 127  # of a scale's exponent
_MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_VALUES = (*_MAGNITUDES, *(-one for one in _MAGNITUDES))
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
        return None

    def read(self, name: str, width: int, depth: int, source: WeightSource) -> StoredWeight | None:
        return None

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
            whole = (experts, blocks * 2 * _BYTES, width)
            found[name] = StoredParameter(whole, (stored, f"{name}{_SCALES}"))
        return found

    def parameter(self, name: str, source: WeightSource, dtype: torch.dtype) -> torch.Tensor:
        blocks_name, scales_name = f"{name}{_BLOCKS}", f"{name}{_SCALES}"
        shape = source.shape(blocks_name)
        assert shape is not None  # noqa: S101 - one of `parameters`
        blocks, scales = tensors_of(
            source, {blocks_name: shape, scales_name: shape[:-1]}, torch.uint8
        )
        experts, width, count, _ = shape
        if not _are_held(scales_name, scales, dtype, source):
            return torch.zeros(experts, count * 2 * _BYTES, width, dtype=dtype)
        whole = torch.empty(experts, count * 2 * _BYTES, width, dtype=dtype)
        for place, one, its_scales in zip(whole, blocks, scales, strict=True):
            place.copy_(_dequantised(one, its_scales).T)  # one by one: float32 takes twice the room
        return whole


def _dequantised(blocks: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """`[out, in]` float32, of `[out, in / 32, 16]` and `[out, in / 32]`."""
    values = torch.tensor(_VALUES)
    halves = torch.stack((blocks & 0x0F, blocks >> 4), dim=-1).flatten(-2)
    exponents = scales.int().sub_(_BIAS).unsqueeze(-1)
    return torch.ldexp(values[halves.int()], exponents).flatten(1)


def _are_held(name: str, scales: torch.Tensor, dtype: torch.dtype, source: WeightSource) -> bool:
    """Whether all scales make numbers, and such as the dtype holds; else that is noted."""
    most = int(scales.max()) if scales.numel() else 0
    if max(_MAGNITUDES) * 2.0 ** (most - _BIAS) <= torch.finfo(dtype).max:
        return True
    source.note(f"{name} holds {most}, a power of two that {dtype} does not hold")
    return False
