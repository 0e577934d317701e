"""Passes over a large vocabulary, segment by segment: what the host's draw has its threads do."""

from __future__ import annotations

from typing import Protocol

import torch


class LongRows(Protocol):
    """A module of this shape; `kernels.cpu.sampling.long_rows` says what the arguments are."""

    @property
    def SEGMENT(self) -> int: ...  # noqa: N802 (a module's constant)

    def segment_maxima(self, logits: torch.Tensor) -> torch.Tensor: ...

    def arrivals(
        self,
        logits: torch.Tensor,
        best: torch.Tensor,
        inverse: torch.Tensor,
        seeds: torch.Tensor,
        positions: torch.Tensor,
        segments: torch.Tensor | None = None,
    ) -> torch.Tensor: ...
