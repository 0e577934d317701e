"""Block sizes of the attention kernels: a table per chip, so that nothing is tuned when a server starts.

Entries are compiled by the tests, without spilling and within the chip's shared memory. None has been
timed on a GPU yet: they follow from the sizes of shared memory and register file, and are where measuring
starts. Float32 runs, but is not cut for speed.

Stages are shared between the block table and the keys it leads to: with three or four, the machine code
waits for the next keys as soon as it has asked for them; with five they arrive while a tile is computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeVar

import torch

from octavo.kernels.gpu.tuning.chips import ChipFamily, family_of


@dataclass(frozen=True, slots=True)
class DecodeConfig:
    """How `paged_decode` is cut.

    Args:
        tile: Keys per iteration; contexts are split at multiples of it.
        programs_per_multiprocessor: Splits are made until this many programs share the tokens.
    """

    tile: int
    num_warps: int
    num_stages: int
    programs_per_multiprocessor: int = 2


@dataclass(frozen=True, slots=True)
class PrefillConfig:
    """How `paged_prefill` is cut: `block_rows` rows (tokens times grouped heads), `tile` keys a step."""

    block_rows: int
    tile: int
    num_warps: int
    num_stages: int


Config = TypeVar("Config", DecodeConfig, PrefillConfig)


class _Operands(Enum):
    """What is multiplied: registers and shared memory follow from it."""

    HALF = auto()
    FP8_CACHE = auto()
    FLOAT32 = auto()


def _operands(dtype: torch.dtype, cache_dtype: torch.dtype) -> _Operands:
    """Keys and values are converted to the queries' dtype, hence the wider one decides."""
    if torch.float32 in (dtype, cache_dtype):
        return _Operands.FLOAT32
    return _Operands.FP8_CACHE if cache_dtype == torch.float8_e4m3fn else _Operands.HALF


# Tables are by the padded size of a head, ascending: a head takes the first entry that it fits.
_DECODE_ANY_CHIP = {
    # Bytes of keys that one iteration reads stay about the same, 16 KiB.
    _Operands.HALF: {
        64: DecodeConfig(128, 4, 5),
        128: DecodeConfig(64, 4, 5),
        256: DecodeConfig(32, 4, 5),
    },
    # Half the bytes a tile, so one more in flight; 128 keys would take 254 registers to convert.
    _Operands.FP8_CACHE: {
        64: DecodeConfig(64, 4, 5),
        128: DecodeConfig(64, 4, 5),
        256: DecodeConfig(32, 4, 5),
    },
    _Operands.FLOAT32: {
        64: DecodeConfig(32, 4, 2),
        128: DecodeConfig(16, 8, 2),
        256: DecodeConfig(16, 8, 1),
    },
}
_DECODE: Mapping[ChipFamily, Mapping[_Operands, Mapping[int, DecodeConfig]]] = {
    ChipFamily.AMPERE: _DECODE_ANY_CHIP,
    ChipFamily.COMPACT: _DECODE_ANY_CHIP,
    ChipFamily.HOPPER: _DECODE_ANY_CHIP,
}

_PREFILL: Mapping[ChipFamily, Mapping[int, PrefillConfig]] = {
    # Before Hopper queries stay in registers, beside the output.
    ChipFamily.AMPERE: {
        32: PrefillConfig(128, 32, 8, 5),
        64: PrefillConfig(128, 64, 8, 5),
        128: PrefillConfig(128, 32, 8, 5),
        256: PrefillConfig(64, 32, 8, 5),
    },
    # At 256 tiles of 32 keys would take more shared memory than there is.
    ChipFamily.COMPACT: {
        32: PrefillConfig(128, 32, 8, 5),
        64: PrefillConfig(128, 64, 8, 5),
        128: PrefillConfig(128, 32, 8, 5),
        256: PrefillConfig(64, 16, 8, 5),
    },
    ChipFamily.HOPPER: {
        64: PrefillConfig(128, 64, 8, 5),
        128: PrefillConfig(128, 64, 8, 5),
        256: PrefillConfig(128, 32, 8, 5),
    },
}

# Chunks of so few rows (tokens times grouped heads) take half the rows; heads of 256 have one form.
_FEW_ROWS = 64
_PREFILL_FEW_ROWS: Mapping[ChipFamily, PrefillConfig] = {
    ChipFamily.AMPERE: PrefillConfig(64, 32, 4, 5),
    ChipFamily.COMPACT: PrefillConfig(64, 32, 4, 5),
    ChipFamily.HOPPER: PrefillConfig(64, 64, 4, 5),
}
# Converting more keys of 64 values than these would spill on an L4.
_PREFILL_FEW_ROWS_FP8 = {(ChipFamily.COMPACT, 64): PrefillConfig(64, 16, 4, 5)}

# Without tensor cores a thread holds the rows and columns that it multiplies: small tiles, many threads.
_PREFILL_FLOAT32 = {
    64: PrefillConfig(16, 32, 8, 1),
    128: PrefillConfig(16, 16, 8, 1),
    256: PrefillConfig(16, 16, 16, 1),
}


def padded_head_dim(head_dim: int) -> int:
    """The power of two, at least 16, in which a kernel holds a head.

    Raises:
        ValueError: No kernel takes a head of this size.
    """
    if not 16 <= head_dim <= 256 or head_dim % 8:
        raise ValueError(
            f"head_dim {head_dim} is not supported: the attention kernels take multiples of 8 "
            "from 16 to 256"
        )
    return 1 << (head_dim - 1).bit_length()


def decode_config(
    capability: int, head_dim: int, dtype: torch.dtype, cache_dtype: torch.dtype
) -> DecodeConfig:
    """For a chip (80, 86, 89, 90, 120), and the dtypes of queries and cache."""
    return _fitting(_DECODE[family_of(capability)][_operands(dtype, cache_dtype)], head_dim)


def prefill_config(
    capability: int, head_dim: int, dtype: torch.dtype, cache_dtype: torch.dtype, max_rows: int
) -> PrefillConfig:
    """For a chip, the dtypes of queries and cache, and chunks of at most `max_rows` rows."""
    family, operands = family_of(capability), _operands(dtype, cache_dtype)
    if operands is _Operands.FLOAT32:
        return _fitting(_PREFILL_FLOAT32, head_dim)
    size = padded_head_dim(head_dim)
    if max_rows > _FEW_ROWS or size == 256:
        return _fitting(_PREFILL[family], head_dim)
    few_rows = _PREFILL_FEW_ROWS[family]
    if operands is _Operands.FP8_CACHE:
        return _PREFILL_FEW_ROWS_FP8.get((family, size), few_rows)
    return few_rows


def _fitting(table: Mapping[int, Config], head_dim: int) -> Config:
    return next(config for size, config in table.items() if padded_head_dim(head_dim) <= size)
