"""Expand of adapters. The second half of what adapters add to a product: from the ranks of each row's own
adapter up to its outputs, added where these lie."""

from __future__ import annotations

import torch

from octavo.kernels.adapter_seats import UNIT, SeatedProduct
from octavo.kernels.adapter_tiles import AdapterTiles


def adapter_expand(
    inner: torch.Tensor, product: SeatedProduct, tiles: AdapterTiles, out: torch.Tensor
) -> None:
    """`out += inner @ B`, of each row that a tile names by its adapter, part by part; others stay.

    Sums of `inner` are rounded to the dtype of `out`, float32 ones of the products are rounded once.

    Args:
        inner: Of `adapter_shrink`, with the same product and tiles.
        out: `[rows, width]`, contiguous.
    """
    sums = inner.sum(0).to(out.dtype).to(inner.dtype)
    for seat, first, end, _ in tiles.tiles.tolist():
        if seat < 0:
            continue
        rows = tiles.order[first:end].long()
        column = 0
        for part, width in enumerate(product.widths):
            entry = product.seats.table[seat, product.first_part + part]
            rank, start = int(entry[0]), int(entry[2]) * UNIT
            stored = product.seats.memory[seat, start : start + rank * width]
            begin = part * product.max_rank
            added = sums[first:end, begin : begin + rank] @ stored.view(rank, width).to(sums.dtype)
            columns = slice(column, column + width)
            out[rows, columns] = (out[rows, columns].to(sums.dtype) + added).to(out.dtype)
            column += width
