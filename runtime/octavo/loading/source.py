"""The one question that a model asks while it is built: give me this tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch


class WeightSource(Protocol):
    """Gives a model its parameters by name, on the device and in the dtype it was opened with."""

    def take(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """The parameter `name`. A missing one or one of another shape is noted for `finish`, which
        names all of them at once; until then a placeholder of the right shape is returned."""
        ...

    def finish(self, is_ignored: Callable[[str], bool]) -> None:
        """Raises `ModelInvalidError` when a parameter was missing, had another shape or was never taken.

        Args:
            is_ignored: True for names that checkpoints carry though the model does not need them.
        """
        ...
