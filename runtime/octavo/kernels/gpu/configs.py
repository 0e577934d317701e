"""Block sizes of the attention kernels: a table per chip, so that nothing is tuned when a server starts.

Every entry for 16-bit and FP8 caches is compiled for its chip by the tests without spilling. None has been
timed on a GPU yet: they follow from the sizes of shared memory and register file, and are where measuring
starts. Float32 runs, but is not cut for speed.

Stages are shared between the block table and the keys it leads to: with three or four, the machine code
waits for the next keys as soon as it has asked for them; with five they arrive while a tile is computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

# Of an H100 or H200 with SXM; what a workspace is made for where no GPU says otherwise.
DEFAULT_MULTIPROCESSORS = 132
_DEFAULT_CAPABILITY = 90


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
    programs_per_multiprocessor: int


@dataclass(frozen=True, slots=True)
class PrefillConfig:
    """How `paged_prefill` is cut: `block_rows` rows (tokens times grouped heads), `tile` keys a step."""

    block_rows: int
    tile: int
    num_warps: int
    num_stages: int


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


def decode_config(capability: int, head_dim: int, cache_dtype: torch.dtype) -> DecodeConfig:
    """For a chip (80, 90) and a cache's dtype."""
    width = padded_head_dim(head_dim) * cache_dtype.itemsize
    if cache_dtype == torch.float32:
        return DecodeConfig(32, num_warps=4, num_stages=2, programs_per_multiprocessor=2)
    if cache_dtype == torch.float8_e4m3fn:
        # Half the bytes a tile, so one more in flight; 128 keys would take 254 registers to convert.
        tile = 64 if padded_head_dim(head_dim) <= 128 else 32
        return DecodeConfig(tile, num_warps=4, num_stages=5, programs_per_multiprocessor=2)
    # Bytes of keys that one iteration reads stay about the same, 16 KiB.
    tile = min(max(16 * 1024 // width, 32), 128)
    return DecodeConfig(tile, num_warps=4, num_stages=5, programs_per_multiprocessor=2)


def prefill_config(
    capability: int, head_dim: int, cache_dtype: torch.dtype, max_rows: int
) -> PrefillConfig:
    """For a chip, a cache's dtype, and chunks of at most `max_rows` tokens times grouped heads."""
    padded = padded_head_dim(head_dim)
    if cache_dtype == torch.float32:
        return PrefillConfig(16, 32, num_warps=4, num_stages=2)
    if capability >= 90:
        if padded > 128:
            return PrefillConfig(128, 32, num_warps=8, num_stages=5)
        if max_rows <= 64:
            return PrefillConfig(64, 64, num_warps=4, num_stages=5)
        return PrefillConfig(128, 64, num_warps=8, num_stages=5)
    # Before Hopper queries stay in registers, beside the output.
    if padded > 128:
        return PrefillConfig(64, 32, num_warps=8, num_stages=5)
    if max_rows <= 64:
        return PrefillConfig(64, 32, num_warps=4, num_stages=5)
    return PrefillConfig(128, 64 if padded <= 64 else 32, num_warps=8, num_stages=5)


def capability_of(device: torch.device) -> int:
    """80 for an A100, 90 for an H100; Hopper's entries serve where there is no GPU (the interpreter)."""
    if device.type != "cuda":
        return _DEFAULT_CAPABILITY
    major, minor = torch.cuda.get_device_capability(device)
    return major * 10 + minor


def multiprocessors_of(device: torch.device) -> int:
    """How many blocks run side by side at the least."""
    if device.type != "cuda":
        return DEFAULT_MULTIPROCESSORS
    count: int = torch.cuda.get_device_properties(device).multi_processor_count
    return count
