"""Memory for weights, on huge pages where the kernel gives them.

A decode step reads every weight once, and with pages of 4 KiB looking their places up is a fifth to a third
of that: a lookup walks two page tables in a virtual machine.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass

import torch

_ARENA_BYTES = 2**25
_LINE_BYTES = 64  # of the caches


@dataclass(slots=True)
class _Arena:
    """A piece of memory that small weights share; it goes when the last of them does."""

    memory: mmap.mmap
    used: int


_arena: _Arena | None = None


def allocate(num_bytes: int) -> torch.Tensor:
    """`[num_bytes]` uint8 that begins at a cache line, zeros."""
    global _arena
    if num_bytes == 0 or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.zeros(num_bytes, dtype=torch.uint8)
    if num_bytes > _ARENA_BYTES // 2:
        return torch.frombuffer(_map(num_bytes), dtype=torch.uint8)
    if _arena is None or _arena.used + num_bytes > _ARENA_BYTES:
        _arena = _Arena(_map(_ARENA_BYTES), 0)
    place = _arena.used
    _arena.used += -(-num_bytes // _LINE_BYTES) * _LINE_BYTES
    return torch.frombuffer(_arena.memory, dtype=torch.uint8, offset=place, count=num_bytes)


def _map(num_bytes: int) -> mmap.mmap:
    memory = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
