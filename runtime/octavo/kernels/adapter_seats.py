"""Adapter seats. Where the matrices of a model's adapters lie on a device, at addresses that stay: a recorded
step reads whichever adapter has a seat when it is replayed.

A seat is one run of numbers, in which an adapter's matrices lie one behind the other as its own ranks make
them; a table tells where. An adapter so takes its seat with two copies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

UNIT: Final = 64
"""Numbers; matrices begin at multiples of it, so that loads are wide."""

RANK_STEP: Final = 16
"""A part's ranks are rounded up to it with zeros: what a matrix instruction multiplies at once."""

ENTRY: Final = 4
"""Numbers of a part in the table: its rank, where its first and its second matrix begin in units, and one
that fills 16 bytes."""


@dataclass(frozen=True, slots=True)
class AdapterSeats:
    """
    Args:
        memory: `[seats, numbers]`, in the activations' dtype.
        table: `[seats, parts, ENTRY]` int32. A rank of 0: the adapter does not change this part.
    """

    memory: torch.Tensor
    table: torch.Tensor


@dataclass(frozen=True, slots=True)
class SeatedProduct:
    """A product that adapters change, which may be several side by side: each part has matrices of its own.

    The first matrix of a part is `[rank, depth]` (PEFT's A), the second `[rank, width]` (PEFT's B,
    transposed, times its scale).

    Args:
        first_part: Of its parts among those of the model.
        depth: Inputs.
        widths: Outputs of each part, one to three.
        max_rank: Of a part, a multiple of `RANK_STEP`.
    """

    seats: AdapterSeats
    first_part: int
    depth: int
    widths: tuple[int, ...]
    max_rank: int

    @property
    def width(self) -> int:
        """Outputs."""
        return sum(self.widths)


def padded_rank(rank: int) -> int:
    return -(-rank // RANK_STEP) * RANK_STEP


def in_units(count: int) -> int:
    """Units that hold so many numbers."""
    return -(-count // UNIT)


def part_units(depth: int, width: int, rank: int) -> int:
    """Of both matrices of a part."""
    return in_units(depth * rank) + in_units(width * rank)
