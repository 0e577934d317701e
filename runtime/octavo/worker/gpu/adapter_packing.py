"""Adapter packing. What a device must be told of a step's adapters: which rows have which seat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from octavo.kernels.adapter_tiles import NO_SEAT, most_tiles, tile_section
from octavo.kernels.packed_step import Packer
from octavo.worker.batch import BASE_MODEL, ScheduledSequence


@dataclass(frozen=True, slots=True)
class SeatedStep:
    """Adapters of a step.

    Args:
        seats: Of each adapter that it has; none: no row has one.
        num_seats: Of the device.
    """

    seats: Mapping[int, int]
    num_seats: int


@dataclass(frozen=True, slots=True)
class PackedTiles:
    """
    Args:
        section: Where it lies; see `tile_section`.
        num_tiles: It has room for.
        num_places: Rows that have an adapter.
        num_adapters: Different ones.
        seats: Where `[num_adapters, 2]` int64 lie: each one's id and seat, for ranks that follow.
    """

    section: int
    num_tiles: int
    num_places: int
    num_adapters: int
    seats: int


NO_TILES = PackedTiles(0, 0, 0, 0, 0)


def pack_tiles(
    ordered: Sequence[ScheduledSequence],
    counts: np.ndarray,
    step: SeatedStep,
    packer: Packer,
    *,
    pad_to: int,
) -> PackedTiles:
    """
    Args:
        ordered: As their rows follow each other, `counts` of each.
        pad_to: Rows of the recorded step that it runs in; 0: it is launched piece by piece.
    """
    if not step.seats:
        return NO_TILES
    own = [
        NO_SEAT if entry.adapter_id == BASE_MODEL else step.seats[entry.adapter_id]
        for entry in ordered
    ]
    seats = np.repeat(np.array(own, dtype=np.int32), counts)
    num_rows = max(pad_to, len(seats))
    room = most_tiles(num_rows, step.num_seats) if pad_to else None
    section, num_tiles = tile_section(seats, num_rows, room)
    return PackedTiles(
        packer.put(section),
        num_tiles,
        int(np.count_nonzero(seats != NO_SEAT)),
        len(step.seats),
        packer.put(np.array(list(step.seats.items()), dtype=np.int64)),
    )


def told_seats(numbers: np.ndarray, first: int, count: int) -> dict[int, int]:
    """By adapter, of a packed array that lies on the host; see `PackedTiles`."""
    pairs = numbers[first : first + 4 * count].copy().view(np.int64).reshape(count, 2)
    return {int(adapter_id): int(seat) for adapter_id, seat in pairs}
