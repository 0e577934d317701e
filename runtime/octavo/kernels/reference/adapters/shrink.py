"""Shrink of adapters. The first half of what adapters add to a product: each row down to the ranks of its
own adapter (LoRA, Hu et al., 2021; the grouped form is Punica's, Chen et al., 2023)."""

from __future__ import annotations

import torch

from octavo.kernels.adapter_seats import UNIT, SeatedProduct
from octavo.kernels.adapter_tiles import AdapterTiles


def adapter_shrink(x: torch.Tensor, product: SeatedProduct, tiles: AdapterTiles) -> torch.Tensor:
    """`x @ A.T` of each place that a tile names, by its adapter, part by part.

    Args:
        x: `[rows, depth]`.

    Returns `[splits, places, parts * max_rank]`, to be summed over the first axis: float32 (float64 of
    float64). What lies behind an adapter's rank, or is of a place in no tile, is left unwritten.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    parts = len(product.widths)
    out = torch.empty(1, len(tiles.order), parts * product.max_rank, dtype=wide, device=x.device)
    for seat, first, end, _ in tiles.tiles.tolist():
        if seat < 0:
            continue
        rows = x[tiles.order[first:end].long()].to(wide)
        for part in range(parts):
            entry = product.seats.table[seat, product.first_part + part]
            rank, start = int(entry[0]), int(entry[1]) * UNIT
            stored = product.seats.memory[seat, start : start + rank * product.depth]
            begin = part * product.max_rank
            matrix = stored.view(rank, product.depth).to(wide)
            out[0, first:end, begin : begin + rank] = rows @ matrix.T
    return out
