"""Tile of a grouped product. What the grouped products of a mixture of experts share: which tile a program
works on."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def tile_and_columns(program, num_tiles, COLUMN_BLOCKS: tl.constexpr, GROUP: tl.constexpr):
    """Row tile and block of columns of a program: GROUP row tiles go through all columns together.

    Programs that run at one time so read few rows and few columns, which stay in the second-level cache.
    """
    group = program // (GROUP * COLUMN_BLOCKS)
    first = group * GROUP
    size = tl.minimum(num_tiles - first, GROUP)
    within = program % (GROUP * COLUMN_BLOCKS)
    return first + within % size, within // size
