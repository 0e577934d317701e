"""Matrix product: the contract that every form of a weight keeps, packed, rounded or as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from octavo.layers.step import Step

Lookup = Callable[[torch.Tensor], torch.Tensor]
"""Of indices `[count]` int64, rows of a table `[count, width]`, in memory of their own."""


@dataclass(frozen=True, slots=True)
class PlainWeight:
    """`weight` is `[out_features, in_features]` and contiguous, `bias` `[out_features]` or None."""

    weight: torch.Tensor
    bias: torch.Tensor | None


class Linear(Protocol):
    """`[rows, in_features] -> [rows, out_features]`."""

    def __call__(self, x: torch.Tensor, step: Step | None = None) -> torch.Tensor:
        """`step` says whose rows these are; None where they are no step's, such as those sampled."""
        ...

    @property
    def plain(self) -> PlainWeight | None:
        """The weight for kernels that do more than the product with it; None in any other form."""
        ...

    @property
    def lookup(self) -> Lookup | None:
        """Gives rows of the weight by output feature, which a tied embedding is; None where this form
        cannot give them back."""
        ...


@dataclass(frozen=True, slots=True)
class Clipped:
    """A product whose outputs stay within `[-limit, limit]` (MPT's clip_qkv). It is in no plain form."""

    product: Linear
    limit: float

    def __call__(self, x: torch.Tensor, step: Step | None = None) -> torch.Tensor:
        return self.product(x, step).clamp_(-self.limit, self.limit)

    @property
    def plain(self) -> None:
        return None

    @property
    def lookup(self) -> None:
        return None
