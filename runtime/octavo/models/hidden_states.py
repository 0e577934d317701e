"""Hidden states of a model between its layers: what a head that guesses for the model reads beside tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octavo.kernels.protocols.layers import StreamKernels
from octavo.models.stream import summed


@dataclass(frozen=True, slots=True)
class FixedStates:
    """Where the states of steps of few rows always lie, so that such a step can be repeated without Python.

    Args:
        memory: `[most rows, count * hidden]`.
    """

    memory: torch.Tensor
    kernels: StreamKernels


class HiddenStates:
    """The residual stream before some of the layers, as the last forward left it.

    Args:
        count: Of the layers.
        scale: What the stream is kept divided by; states are what it stands for.
        fixed: None: every forward makes new tensors.

    Attributes:
        is_kept: Somebody will take the next forward's.
    """

    def __init__(self, count: int, scale: float = 1.0, fixed: FixedStates | None = None) -> None:
        self._scale = scale
        self._kept: list[torch.Tensor | None] = [None] * count
        self._fixed = fixed
        self.is_kept = True

    @property
    def count(self) -> int:
        return len(self._kept)

    def keep(self, place: int, residual: torch.Tensor, pending: torch.Tensor | None) -> None:
        """The stream is about to be overwritten; see `octavo.models.stream` of what is pending."""
        rows, width = residual.shape
        if (fixed := self._fixed_of(rows)) is None:
            self._kept[place] = summed(residual, pending)
        else:
            out = fixed.memory[:rows, place * width : (place + 1) * width]
            fixed.kernels.sum_stream(residual, pending, out)

    def take(self, num_rows: int) -> torch.Tensor:
        """`[num_rows, count * hidden]` of a forward of so many, the layers' side by side; valid until the
        next. Once a forward."""
        if (fixed := self._fixed_of(num_rows)) is not None:
            states = fixed.memory[:num_rows]
            return states if self._scale == 1.0 else states * self._scale
        found = [one for one in self._kept if one is not None]
        self._kept = [None] * len(self._kept)
        states = torch.cat(found, dim=-1)
        return states if self._scale == 1.0 else states.mul_(self._scale)

    def _fixed_of(self, num_rows: int) -> FixedStates | None:
        fixed = self._fixed
        return fixed if fixed is not None and num_rows <= fixed.memory.shape[0] else None
