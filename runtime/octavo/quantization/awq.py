"""AWQ (Lin et al., 2023), as AutoAWQ and its successors store it: `version` gemm.

- `qweight` int32 `[in, out / 8]`: integers of 4 bits along the output features, eight to a word, in the order
  in which a GPU's kernel takes them apart.
- `qzeros` int32 `[groups, out / 8]`, in the same order: what stands for zero, as it is.
- `scales` `[groups, out]`: a weight is its integer less its zero, times its scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
import torch

from octavo.kernels.reference.weight_only import Code
from octavo.loading import WeightSource, floating_tensors
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

_BITS = 4
_HALF = 8  # of a code's range: it is held as what it is more than that
# Which of its eight columns each nibble of a word belongs to, lowest nibble first.
_COLUMNS = (0, 2, 4, 6, 1, 3, 5, 7)


class _Fields(msgspec.Struct):
    bits: int = _BITS
    w_bit: int = _BITS
    group_size: int | None = None
    q_group_size: int = 128
    zero_point: bool = True
    version: str = "gemm"
    format: str = "gemm"
    checkpoint_format: str = "gemm"
    backend: str = "autoawq"
    modules_to_not_convert: list[str] = []
    modules_in_block_to_quantize: list[list[str] | str] = []
    desc_act: bool = False
    lm_head: bool = False
    pack_dtype: str = "int32"


@dataclass(frozen=True, slots=True)
class Awq:
    """See `StoredFormat`.

    Args:
        group: Inputs that share a scale; None: all of them.
        has_zeros: Else zero is in the middle of the codes' range.
        kept: Parts of names of modules that are not quantised.
    """

    method: ClassVar = "awq"

    group: int | None
    has_zeros: bool = True
    kept: tuple[str, ...] = ()

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Awq:
        """By quantization_config. Raises `ModelInvalidError` and `ModelUnsupportedError`."""
        fields = read_fields(raw, _Fields, HARMLESS)
        for name, bits in (("bits", fields.bits), ("w_bit", fields.w_bit)):
            if bits != _BITS:
                raise refused(name, bits, "4 with quant_method awq")
        for name in ("version", "format", "checkpoint_format"):
            value = getattr(fields, name)
            if value.lower() != "gemm":
                raise refused(name, value, "gemm with quant_method awq")
        if fields.backend.lower() == "llm-awq":
            raise refused("backend", fields.backend, "AutoAWQ's order of weights")
        if fields.desc_act:
            raise refused("desc_act", True, "false with quant_method awq")
        if fields.pack_dtype != "int32":
            raise refused("pack_dtype", fields.pack_dtype, "int32")
        return cls(
            group_of(fields.q_group_size if fields.group_size is None else fields.group_size),
            fields.zero_point,
            tuple(fields.modules_to_not_convert),
        )

    def layout(self, name: str, depth: int) -> StoredLayout | None:
        if name == "lm_head" or any(part in name for part in self.kept):
            return None
        return StoredLayout(Code.INT4, self.group, self.has_zeros)

    def read(self, name: str, width: int, depth: int, source: WeightSource) -> StoredWeight | None:
        if not is_quantised(name, "qweight", source, self.layout(name, depth)):
            return None
        words, groups = num_words(width, _BITS), num_groups(depth, self.group)
        (qweight,) = tensors_of(source, {f"{name}.qweight": (depth, words)}, torch.int32)
        (scales,) = floating_tensors(source, {f"{name}.scales": (groups, width)})
        zeros, qzeros = None, f"{name}.qzeros"
        if self.has_zeros or source.has(qzeros):
            (stored,) = tensors_of(source, {qzeros: (groups, words)}, torch.int32)
            zeros = _codes(stored, width)
        codes = _codes(qweight, width)
        return StoredWeight(Code.INT4, quantized_weight(codes, scales.T, zeros, self.group))

    def sizes(self, name: str, source: WeightSource) -> tuple[int, int] | None:
        words = matrix_shape(source, f"{name}.qweight")
        scales = matrix_shape(source, f"{name}.scales")
        return None if words is None or scales is None else (scales[1], words[0])


def _codes(words: torch.Tensor, width: int) -> torch.Tensor:
    """`[out, rows of words]`."""
    return unpack_words(words, _BITS, width, _COLUMNS).view(torch.int8).sub_(_HALF).T
