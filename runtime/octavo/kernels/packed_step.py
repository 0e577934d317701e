"""Packed step: one int32 array that tells a device everything of a step, and the sections that it has.

Whoever puts a section in gets the place where it starts, and takes it out of the uploaded array by that.
"""

from __future__ import annotations

import numpy as np
import torch

_ALIGNMENT = 4
"""Elements, so 16 bytes: what a kernel may assume of a tensor's address."""


class Packer:
    """Collects sections of one int32 array; 8-byte numbers take two elements."""

    def __init__(self) -> None:
        self._sections: list[tuple[int, np.ndarray]] = []
        self.size = 0

    def put(self, values: np.ndarray) -> int:
        """Adds int32, float32, int64 values as their bytes; returns where they will start."""
        first = self.size
        section = np.ascontiguousarray(values).reshape(-1).view(np.int32)
        self._sections.append((first, section))
        self.size = -(-(first + section.size) // _ALIGNMENT) * _ALIGNMENT
        return first

    def write(self, target: np.ndarray) -> None:
        """Fills `target`, int32 and at least `size` long."""
        for first, section in self._sections:
            target[first : first + section.size] = section


class PackedView:
    """Sections of a packed step as tensors of their type; views, no copies."""

    def __init__(self, packed: torch.Tensor) -> None:
        self._packed = packed

    def int32(self, first: int, count: int) -> torch.Tensor:
        return self._packed[first : first + count]

    def float32(self, first: int, count: int) -> torch.Tensor:
        return self.int32(first, count).view(torch.float32)

    def int64(self, first: int, count: int) -> torch.Tensor:
        return self.int32(first, 2 * count).view(torch.int64)
