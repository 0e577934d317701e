"""Seats of adapters: how many different ones run at once.

A device holds so many in the memory that its products read; whoever has another one waits until one of them
has no running sequence left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from octavo.worker.batch import BASE_MODEL


class AdapterSeats:
    """Counts running sequences by their adapter; those of the base model take no seat.

    Args:
        num_seats: Different adapters at once, at least 1.
    """

    def __init__(self, num_seats: int) -> None:
        self._num_seats = num_seats
        self._running: Counter[int] = Counter()

    def has_one_for(self, adapter_id: int, *, is_behind: bool = False) -> bool:
        """Whether a sequence may start now.

        Args:
            is_behind: An older sequence waits for a seat. No adapter's may pass it: while some of a running
                adapter kept coming, that one would never leave.
        """
        if adapter_id == BASE_MODEL:
            return True
        if is_behind:
            return False
        return adapter_id in self._running or len(self._running) < self._num_seats

    def enter(self, adapter_id: int) -> None:
        if adapter_id != BASE_MODEL:
            self._running[adapter_id] += 1

    def leave(self, adapter_id: int) -> None:
        if adapter_id == BASE_MODEL:
            return
        self._running[adapter_id] -= 1
        if not self._running[adapter_id]:
            del self._running[adapter_id]

    @property
    def running(self) -> Mapping[int, int]:
        """How many running sequences have each adapter, by its id."""
        return self._running

    def check_integrity(self, running: Iterable[int]) -> None:
        """Raises `RuntimeError` unless these are the adapters of the running sequences."""
        found = Counter(running)
        del found[BASE_MODEL]
        if found != self._running:
            raise RuntimeError(f"Running are the adapters {found}; counted were {self._running}.")
