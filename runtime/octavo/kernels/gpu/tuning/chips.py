"""Chips. The GPUs that kernels are cut for, in families: what fits one chip of a family fits all of it.

Compute capability alone does not order them. A later chip may have less shared memory (an L4 than an A100)
or lack a matrix instruction (an RTX 5090 has none of Hopper's).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

import torch

# Of an H100 or H200 with SXM; what a workspace is made for where no GPU says otherwise.
DEFAULT_MULTIPROCESSORS = 132
_DEFAULT_CAPABILITY = 90


class ChipFamily(Enum):
    """Chips that take the same block sizes."""

    AMPERE = auto()
    """A100, A30, Orin."""
    COMPACT = auto()
    """A10, A40, RTX 30 (86), L4, L40S, RTX 40 (89), RTX 50 and RTX PRO (120): little shared memory."""
    HOPPER = auto()
    """H100, H200, GH200; B200 and B300 run its block sizes, for which nothing is compiled in the tests."""


_FAMILIES: Mapping[int, ChipFamily] = {
    80: ChipFamily.AMPERE,
    86: ChipFamily.COMPACT,
    87: ChipFamily.AMPERE,
    89: ChipFamily.COMPACT,
    90: ChipFamily.HOPPER,
    100: ChipFamily.HOPPER,
    103: ChipFamily.HOPPER,
    120: ChipFamily.COMPACT,
    121: ChipFamily.COMPACT,
}

COMPACT_CHIPS = (86, 89, 120)

# CUDA C++ programming guide, "Technical specifications per compute capability".
_MAX_SHARED_BYTES: Mapping[ChipFamily, int] = {
    ChipFamily.AMPERE: 163 * 1024,
    ChipFamily.COMPACT: 99 * 1024,
    ChipFamily.HOPPER: 227 * 1024,
}


def family_of(capability: int) -> ChipFamily:
    """Of a compute capability such as 80 or 120; what fits the compact family fits chips unknown here."""
    return _FAMILIES.get(capability, ChipFamily.COMPACT)


def max_shared_bytes(capability: int) -> int:
    """Of shared memory that one block may have."""
    return _MAX_SHARED_BYTES[family_of(capability)]


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
