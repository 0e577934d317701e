"""Register blocks. Which of a tile's sums are computed at once: as many as the CPU has registers for.

AVX-512 has 32 registers of sixteen floats, where the sums of eight rows and a whole panel stay. AVX2 has 16
of eight, NEON 32 of four: there a tile is half panels of four rows, one after another. Weights are unpacked
twice then, which mostly costs less than to move a sum to memory and back with each product.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba

_NARROW_ROWS = 4
"""Of half a panel: eight registers of AVX2, beside weights and inputs."""


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of a tile, and halves of its panel."""

    rows: range
    halves: range


def blocks_of(rows: int, *, unpacks_once: bool) -> list[Block]:
    """Of a tile of so many rows, which they cover without overlap.

    Args:
        unpacks_once: Each weight, whatever there is room for.
    """
    if has_wide_registers() or unpacks_once or 2 * rows <= _NARROW_ROWS:
        return [Block(range(rows), range(2))]
    return [
        Block(range(first, min(first + _NARROW_ROWS, rows)), range(half, half + 1))
        for first in range(0, rows, _NARROW_ROWS)
        for half in range(2)
    ]


def has_wide_registers() -> bool:
    """Whether kernels are compiled for AVX-512."""
    return (numba.config.CPU_NAME or "").endswith("v4")
