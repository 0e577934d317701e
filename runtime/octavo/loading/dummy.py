"""Random weights of the real shapes, for measuring speed where the checkpoint cannot be had."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Collection, Mapping

import torch

from octavo.loading.source import Slice

# Drawing a normal number takes longer than copying one, so one block is drawn and repeated. A prime
# length makes rows of any width differ.
_BLOCK_ELEMENTS = 1_048_583


class DummyWeights:
    """Normal weights of standard deviation 0.02; norms are ones and biases zeros.

    Each tensor depends on its name and the seed alone, not on the order of loading.

    Args:
        dtype: That is needed.
        stored: Whose numbers they are, as a checkpoint's would be; None: of `dtype`.
    """

    def __init__(
        self,
        *,
        dtype: torch.dtype,
        device: torch.device,
        seed: int,
        stored: torch.dtype | None = None,
    ) -> None:
        self._dtype = dtype
        self._device = device
        generator = torch.Generator(device=device).manual_seed(seed)
        block = torch.empty(_BLOCK_ELEMENTS, device=device).normal_(0.0, 0.02, generator=generator)
        self._block = block.to(stored or dtype).to(dtype)

    def names(self) -> Collection[str]:
        return ()

    def has(self, name: str) -> bool:
        """There is no checkpoint: what a model can do without is left out."""
        return False

    def shape(self, name: str) -> tuple[int, ...] | None:
        return None

    def tensors(
        self, shapes: Mapping[str, tuple[int, ...]], part: Slice | None = None
    ) -> list[torch.Tensor]:
        """They are made where they are needed, in the dtype that is needed."""
        whole = [self._make(name, shape) for name, shape in shapes.items()]
        if part is None:
            return whole
        return [tensor[part.of(tuple(tensor.shape))].clone() for tensor in whole]

    def note(self, problem: str) -> None:
        raise RuntimeError(f"Weights that were made to fit do not: {problem}.")

    def finish(self, is_ignored: Callable[[str], bool]) -> None:
        """Nothing can be missing."""

    def _make(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        if len(shape) == 1:
            make = torch.zeros if name.endswith(".bias") else torch.ones
            return make(shape, dtype=self._dtype, device=self._device)
        first = zlib.crc32(name.encode()) % _BLOCK_ELEMENTS
        count = math.prod(shape)
        copies = -(-(first + count) // _BLOCK_ELEMENTS)
        return self._block.repeat(copies)[first : first + count].view(shape).clone()
