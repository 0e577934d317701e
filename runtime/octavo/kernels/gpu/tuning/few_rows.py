"""Cuts of products of few rows. How products of a few rows are cut. One table for all chips: memory's rate is
the bound on every one.

Every entry is compiled by the tests without spilling and with loads of 16 bytes; none has been timed on a
GPU yet. A program should keep some kilobytes of weights under way, and a multiprocessor should have several
programs, also where a product has only a thousand outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

# Beyond that arithmetic takes as long as the weights, and matrix units are better at it.
MAX_ROWS = 4

# Bytes that the 32 threads of a warp load at once, 16 each.
_WARP_BYTES = 512
_MAX_WARPS = 4
# Programs for each multiprocessor, below which a program takes fewer outputs.
_PROGRAMS_WANTED = 4
# Of so many steps it does not matter that the last is partly empty.
_MANY_STEPS = 4


@dataclass(frozen=True, slots=True)
class RowsTile:
    """Tile of one program.

    Args:
        rows: Of the input, rounded up to a power of two.
        outputs: Columns of the result, that is, rows of the weight.
        inner: Of the summed axis, a step, whose loads are under way together.
        group: Neighbouring elements of the summed axis that one thread loads at once.
    """

    rows: int
    outputs: int
    inner: int
    group: int
    num_warps: int


def rows_tile(
    num_rows: int, num_outputs: int, width: int, element_bytes: int, num_multiprocessors: int
) -> RowsTile:
    """For `num_rows` rows of `width` elements and a weight of `num_outputs` rows."""
    rows = 1 << (num_rows - 1).bit_length()
    outputs = 8 if num_outputs >= 8 * _PROGRAMS_WANTED * num_multiprocessors else 4
    per_warp = _WARP_BYTES // element_bytes
    warps = _MAX_WARPS
    while warps > 1 and per_warp * warps > width:
        warps //= 2
    inner = per_warp * warps
    # More rows need the registers that the loads of a second step would.
    has_registers = rows == 1 or (rows == 2 and outputs == 8)
    if has_registers and (width % (2 * inner) == 0 or width >= 2 * inner * _MANY_STEPS):
        inner *= 2
    return RowsTile(rows, outputs, inner, 16 // element_bytes, warps)
