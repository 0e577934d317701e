"""Tile buffer. Where a step's kernels read which rows have which adapter: one place for all steps, because a
recorded step reads what it was recorded with."""

from __future__ import annotations

import torch

from octavo.kernels.adapter_tiles import (
    NO_SEAT,
    AdapterTiles,
    largest_section,
    most_tiles,
    section_size,
    tiles_of,
)


class TileBuffer:
    """
    Args:
        max_rows: Of a step.
        num_seats: Different adapters of one.
    """

    def __init__(self, max_rows: int, num_seats: int, device: torch.device) -> None:
        self._num_seats = num_seats
        size = largest_section(max_rows, num_seats)
        self._section = torch.full((size,), NO_SEAT, dtype=torch.int32, device=device)

    def empty(self) -> None:
        """No row has an adapter."""
        self._section.fill_(NO_SEAT)

    def take(self, section: torch.Tensor, num_tiles: int, num_rows: int) -> AdapterTiles:
        """Of a step that is launched piece by piece, with so many tiles."""
        own = self._section[: section.shape[0]]
        own.copy_(section)
        return tiles_of(own, num_tiles, num_rows)

    def recorded(self, num_rows: int) -> AdapterTiles:
        """What a recorded step of so many rows reads: `take` fills it."""
        num_tiles = most_tiles(num_rows, self._num_seats)
        return tiles_of(self._section[: section_size(num_tiles, num_rows)], num_tiles, num_rows)
