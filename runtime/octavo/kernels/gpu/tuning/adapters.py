"""Cuts of the products of adapters: by dtype, places of a tile, and ranks. One table serves all chips.

Every entry is compiled for its chip by the tests without spilling; none has been timed on a GPU yet. With
low tiles an adapter's matrices are all there is to read, and one tile is often all there is to do: the inner
axis of the first product is split, so that more than one multiprocessor reads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

# Parts of the first product's inner axis are summed by every program of the second.
_MAX_SPLITS = 8


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """Tiles of both products.

    Args:
        ranks: Of a program of the first product, and of a step of the second.
        inner: Of the first product's summed axis, a step.
        columns: Of the second product.
        splits: Of the first product's summed axis.
    """

    ranks: int
    inner: int
    columns: int
    splits: int
    shrink_warps: int
    shrink_stages: int
    expand_warps: int
    expand_stages: int


def adapter_config(dtype: torch.dtype, block_rows: int, depth: int, max_rank: int) -> AdapterConfig:
    """For tiles of `block_rows` places (16 or 64), a product with `depth` inputs, and adapters of at most
    `max_rank` ranks, a multiple of 16."""
    is_low = block_rows == 16
    ranks = 16
    while ranks < max_rank and ranks < (32 if is_low else 64):
        ranks *= 2
    if dtype == torch.float32:  # runs, but is not cut for speed
        return AdapterConfig(16, 32, 32, _splits(depth, 32) if is_low else 1, 4, 1, 4, 1)
    if is_low:
        return AdapterConfig(ranks, 128, 128, _splits(depth, 128), 2, 4, 4, 2)
    return AdapterConfig(ranks, 64, 128, 1, 4, 4, 4, 2)


def _splits(depth: int, inner: int) -> int:
    """A power of two, so that each has two steps at least."""
    splits = 1
    while splits < _MAX_SPLITS and depth >= 4 * splits * inner:
        splits *= 2
    return splits
