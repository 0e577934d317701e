"""Row products. The core of products with a few rows: one pass over the weight's rows, each element read
once.

With so few rows a product is a stream of weights: there is nothing for matrix units to reuse. A program
takes some outputs; its threads read neighbouring 16 bytes of each and keep one partial sum an output and
row, so that threads meet once, at the end. Sums are float32, in an order that depends on shapes alone.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from octavo.kernels.gpu.tuning.chips import multiprocessors_of
from octavo.kernels.gpu.tuning.few_rows import RowsTile, rows_tile


def tile_of(x: torch.Tensor, weight: torch.Tensor) -> RowsTile:
    """For products of the rows of `x` `[rows, width]` with those of `weight` `[outputs, width]`."""
    num_rows, width = x.shape
    return rows_tile(
        num_rows, weight.shape[0], width, weight.element_size(), multiprocessors_of(x.device)
    )


def tile_constants(tile: RowsTile) -> dict[str, int]:
    """The compile-time arguments that kernels pass on to `row_products`."""
    return {
        "ROWS": tile.rows,
        "BLOCK_OUT": tile.outputs,
        "BLOCK_IN": tile.inner,
        "GROUP": tile.group,
    }


@triton.jit
def row_products(
    x,
    norm_weight,
    weight,
    outputs,
    num_rows,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    GROUP: tl.constexpr,
):
    """Products of up to four rows of `x` with the rows `outputs` of `weight`.

    Args:
        x: `[num_rows, WIDTH]`, contiguous. Beyond the last row it is read again.
        norm_weight: `[WIDTH]`, multiplied with `x`, or None.
        weight: `[…, WIDTH]`, contiguous.
        outputs: `[outputs]`, all of them rows that `weight` has.

    Returns four sums `[outputs]` and four sums of squares of `x`, float32, one a row; those from ROWS on
    are zero, and the squares where there is no norm.
    """
    BLOCK_OUT: tl.constexpr = outputs.shape[0]
    inner = tl.arange(0, BLOCK_IN)
    weights = weight + outputs.to(tl.int64)[:, None] * WIDTH + inner[None, :]
    last = num_rows - 1
    row0 = x + inner
    row1 = row0 + tl.minimum(1, last) * WIDTH
    row2 = row0 + tl.minimum(2, last) * WIDTH
    row3 = row0 + tl.minimum(3, last) * WIDTH
    sum0 = tl.zeros([BLOCK_OUT, BLOCK_IN // GROUP], tl.float32)
    square0 = tl.zeros([BLOCK_IN // GROUP], tl.float32)
    sum1, sum2, sum3 = sum0, sum0, sum0
    square1, square2, square3 = square0, square0, square0
    for start in range(0, WIDTH, BLOCK_IN):
        inside = start + inner < WIDTH
        # Weights are not read again before the next step: other data should keep its place.
        if WIDTH % BLOCK_IN == 0:
            given = tl.load(weights + start, eviction_policy="evict_first")
        else:
            given = tl.load(
                weights + start, inside[None, :], other=0.0, eviction_policy="evict_first"
            )
        scale = None
        if norm_weight is not None:
            scale = tl.load(norm_weight + start + inner, inside, other=0.0)
        values0 = tl.load(row0 + start, inside, other=0.0)
        values1 = tl.load(row1 + start, inside, other=0.0) if ROWS > 1 else values0
        values2 = tl.load(row2 + start, inside, other=0.0) if ROWS > 2 else values0
        values3 = tl.load(row3 + start, inside, other=0.0) if ROWS > 2 else values0
        given = given.to(tl.float32)
        sum0, square0 = _take_row(sum0, square0, values0, given, scale, GROUP)
        if ROWS > 1:
            sum1, square1 = _take_row(sum1, square1, values1, given, scale, GROUP)
        if ROWS > 2:
            sum2, square2 = _take_row(sum2, square2, values2, given, scale, GROUP)
            sum3, square3 = _take_row(sum3, square3, values3, given, scale, GROUP)
    sums = (tl.sum(sum0, 1), tl.sum(sum1, 1), tl.sum(sum2, 1), tl.sum(sum3, 1))
    squares = (tl.sum(square0), tl.sum(square1), tl.sum(square2), tl.sum(square3))
    return sums, squares


@triton.jit
def _take_row(sums, squares, values, given, scale, GROUP: tl.constexpr):
    """One step of one row: what a thread loaded at once, it sums at once."""
    OUTPUTS: tl.constexpr = sums.shape[0]
    GROUPS: tl.constexpr = sums.shape[1]
    wide = values.to(tl.float32)
    if scale is not None:
        squares += tl.sum(tl.reshape(wide * wide, [GROUPS, GROUP]), 1)
        wide = wide * scale.to(tl.float32)
    sums += tl.sum(tl.reshape(given * wide[None, :], [OUTPUTS, GROUPS, GROUP]), 2)
    return sums, squares
