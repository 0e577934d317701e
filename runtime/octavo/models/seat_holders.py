"""Seat holders: which adapter has which of a device's seats, the least recently used one's being taken
first."""

from __future__ import annotations

from collections.abc import Collection


class SeatHolders:
    """Adapters by their ids.

    Args:
        num_seats: At least as many as a step has different adapters.
    """

    def __init__(self, num_seats: int) -> None:
        self._seat_of: dict[int, int] = {}  # the least recently used first
        self._free = list(range(num_seats - 1, -1, -1))

    def seat(self, adapter_ids: Collection[int]) -> dict[int, int]:
        """The seat of each adapter of a step.

        Raises:
            ValueError: There are more than seats.
        """
        wanted = set(adapter_ids)
        if len(wanted) > len(self._free) + len(self._seat_of):
            raise ValueError(
                f"A step has {len(wanted)} adapters, and there are {len(self._free) + len(self._seat_of)} "
                "seats for them."
            )
        for adapter_id in sorted(wanted - self._seat_of.keys()):
            self._seat_of[adapter_id] = self._free_one(wanted)
        seats = {}
        for adapter_id in sorted(wanted):
            seats[adapter_id] = self._seat_of.pop(adapter_id)
        self._seat_of |= seats
        return seats

    def leave(self, adapter_id: int) -> None:
        """It is forgotten; one without a seat is ignored."""
        seat = self._seat_of.pop(adapter_id, None)
        if seat is not None:
            self._free.append(seat)

    def _free_one(self, wanted: Collection[int]) -> int:
        if self._free:
            return self._free.pop()
        oldest = next(adapter_id for adapter_id in self._seat_of if adapter_id not in wanted)
        return self._seat_of.pop(oldest)
