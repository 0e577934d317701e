"""Adapter tiles. Which rows of a step have which adapter, laid out for a grouped product: rows of one adapter
side by side, cut into tiles that a program takes whole.

The host knows every sequence's adapter, so it sorts; the device reads the result. Rows without an adapter are
in no tile, and cost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

NO_SEAT: Final = -1
"""Of a row without an adapter, and of a tile that holds nothing."""

TILE_FIELDS: Final = 4
"""Seat, first place, the place behind the last, and one that fills 16 bytes."""

# Steps of more rows take higher tiles: their sequences' chunks are long.
_FEW_ROWS = 128
_LOW, _HIGH = 16, 64


@dataclass(frozen=True, slots=True)
class AdapterTiles:
    """On the device.

    Args:
        tiles: `[tiles, TILE_FIELDS]` int32; a seat of `NO_SEAT`: nothing.
        order: `[places]` int32: the row at each place that a tile names. Others mean nothing.
        block_rows: Places of a tile at the most.
    """

    tiles: torch.Tensor
    order: torch.Tensor
    block_rows: int


def block_rows_for(num_rows: int) -> int:
    """Places of a tile in a step of so many rows."""
    return _LOW if num_rows <= _FEW_ROWS else _HIGH


def most_tiles(num_rows: int, num_seats: int) -> int:
    """That a step of so many rows can have: a last one of each adapter may hold a single row."""
    block_rows = block_rows_for(num_rows)
    adapters = min(num_seats, num_rows)
    return (num_rows + adapters * (block_rows - 1)) // block_rows


def section_size(num_tiles: int, num_places: int) -> int:
    """Of `tile_section`."""
    return TILE_FIELDS * num_tiles + num_places


def largest_section(max_rows: int, num_seats: int) -> int:
    """Of the steps of up to so many rows."""
    heights = (min(max_rows, _FEW_ROWS), max_rows)
    return max(section_size(most_tiles(rows, num_seats), rows) for rows in heights)


def tile_section(
    seats: np.ndarray, num_rows: int, room: int | None = None
) -> tuple[np.ndarray, int]:
    """Tiles, and behind them the rows in their order, as one array of int32; and how many tiles these are.

    Args:
        seats: `[rows]`: of each row the seat of its adapter, or `NO_SEAT`.
        num_rows: Of the step, padding included.
        room: So many tiles, of which the last hold nothing; None: as many as it takes.

    Raises `ValueError` where there is too little room.
    """
    block_rows = block_rows_for(num_rows)
    order = np.argsort(seats, kind="stable")
    order = order[np.count_nonzero(seats == NO_SEAT) :]
    found, firsts, counts = np.unique(seats[order], return_index=True, return_counts=True)
    owners = zip(found.tolist(), firsts.tolist(), counts.tolist(), strict=True)
    tiles = [
        (seat, place, min(place + block_rows, first + count), 0)
        for seat, first, count in owners
        for place in range(first, first + count, block_rows)
    ]
    room = len(tiles) if room is None else room
    if len(tiles) > room:
        raise ValueError(f"The step has {len(tiles)} tiles of adapters, and room for {room}.")
    section = np.full(section_size(room, len(order)), NO_SEAT, dtype=np.int32)
    section[: TILE_FIELDS * len(tiles)] = np.array(tiles, dtype=np.int32).reshape(-1)
    section[TILE_FIELDS * room :] = order
    return section, room


def tiles_of(section: torch.Tensor, num_tiles: int, num_rows: int) -> AdapterTiles:
    """Of a section on the device that has room for so many tiles; a view."""
    end = TILE_FIELDS * num_tiles
    tiles = section[:end].view(num_tiles, TILE_FIELDS)
    return AdapterTiles(tiles, section[end:], block_rows_for(num_rows))
