"""Hidden states of a model between its layers: what a head that guesses for the model reads beside tokens."""

from __future__ import annotations

import torch

from octavo.models.stream import summed


class HiddenStates:
    """The residual stream before some of the layers, as the last forward left it.

    Args:
        count: Of the layers.
        scale: What the stream is kept divided by; states are what it stands for.
    """

    def __init__(self, count: int, scale: float = 1.0) -> None:
        self._scale = scale
        self._kept: list[torch.Tensor | None] = [None] * count

    @property
    def count(self) -> int:
        return len(self._kept)

    def keep(self, place: int, residual: torch.Tensor, pending: torch.Tensor | None) -> None:
        """The stream is about to be overwritten; see `octavo.models.stream` of what is pending."""
        kept = summed(residual, pending)
        self._kept[place] = kept if self._scale == 1.0 else kept.mul_(self._scale)

    def take(self) -> torch.Tensor:
        """`[tokens, count * hidden]`, the layers' side by side. Once a forward."""
        found = [one for one in self._kept if one is not None]
        self._kept = [None] * len(self._kept)
        return torch.cat(found, dim=-1)
