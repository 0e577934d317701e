"""Ranks: the devices that share one model (tensor parallelism), as its layers know them.

Every rank runs the same steps on the same rows, with a share of each product's weights
(`octavo.layers.projection`). Results are the same on all of them, to the bit: a router that chose other
experts on one rank than on another would make sums of different things.
"""

from __future__ import annotations

from typing import Final, Protocol

import torch


class Ranks(Protocol):
    """This rank's place among all, and what they do together. All ranks call the same, in the same order."""

    @property
    def rank(self) -> int:
        """From 0; the first samples, and adds the biases of shared sums."""
        ...

    @property
    def size(self) -> int: ...

    def all_reduce(self, partial: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks, on each of them; may overwrite `partial`, which is contiguous."""
        ...

    def gather(self, part: torch.Tensor) -> list[torch.Tensor] | None:
        """On the first rank what each has, in their order; None on the others. All are of one shape."""
        ...

    def from_first(self, values: torch.Tensor) -> None:
        """Overwrites `values`, contiguous, with what the first rank has there."""
        ...


class Alone:
    """One rank, which has the whole model."""

    rank: Final = 0
    size: Final = 1

    def all_reduce(self, partial: torch.Tensor) -> torch.Tensor:
        return partial

    def gather(self, part: torch.Tensor) -> list[torch.Tensor] | None:
        return [part]

    def from_first(self, values: torch.Tensor) -> None:
        pass


ALONE = Alone()
