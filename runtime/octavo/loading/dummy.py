"""Random weights of the real shapes, for measuring speed where the checkpoint cannot be had."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import torch


class DummyWeights:
    """Normal weights of standard deviation 0.02; norms are ones and biases zeros.

    Each tensor depends on its name and the seed alone, not on the order of loading.
    """

    def __init__(self, *, dtype: torch.dtype, device: torch.device, seed: int) -> None:
        self._dtype = dtype
        self._device = device
        self._seed = seed

    def take(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        if name.endswith("norm.weight"):
            return torch.ones(shape, dtype=self._dtype, device=self._device)
        if name.endswith(".bias"):
            return torch.zeros(shape, dtype=self._dtype, device=self._device)
        generator = torch.Generator(device=self._device)
        generator.manual_seed((self._seed << 32 | zlib.crc32(name.encode())) & (2**63 - 1))
        weight = torch.empty(shape, dtype=self._dtype, device=self._device)
        return weight.normal_(0.0, 0.02, generator=generator)

    def finish(self, is_ignored: Callable[[str], bool]) -> None:
        """Nothing can be missing."""
