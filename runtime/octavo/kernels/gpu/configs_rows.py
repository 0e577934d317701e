"""How products of a few rows are cut. One table for all chips: memory's rate is the bound on every one.

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


@dataclass(frozen=True, slots=True)
class RowsTile:
    """Tile of one program.

    Args:
        rows: Of the input, rounded up to a power of two.
        outputs: Columns of the result, that is, rows of the weight.
        inner: Of the summed axis, a step: what all threads of the program load at once.
        group: Neighbouring elements of the summed axis that one thread loads at once.
        unroll: Steps whose loads are under way together.
    """

    rows: int
    outputs: int
    inner: int
    group: int
    unroll: int
    num_warps: int


def rows_tile(
    num_rows: int, num_outputs: int, width: int, element_bytes: int, num_multiprocessors: int
) -> RowsTile:
    """For `num_rows` rows of `width` elements and a weight of `num_outputs` rows."""
    per_warp = _WARP_BYTES // element_bytes
    warps = _MAX_WARPS
    # A step that ends where the row does needs no mask; a narrow row has no work for four warps.
    while warps > 1 and (per_warp * warps > width or (warps > 2 and width % (per_warp * warps))):
        warps //= 2
    rows = 1 << (num_rows - 1).bit_length()
    is_short = num_outputs < 8 * _PROGRAMS_WANTED * num_multiprocessors
    return RowsTile(
        rows=rows,
        outputs=4 if is_short else 8,
        inner=per_warp * warps,
        group=16 // element_bytes,
        unroll=2 if rows < 4 or is_short else 1,
        num_warps=warps,
    )
