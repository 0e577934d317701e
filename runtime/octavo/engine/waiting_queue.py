"""Waiting queue: sequences that own no blocks, in the order in which they are to run."""

from __future__ import annotations

import heapq

from octavo.engine.requests.sequence import Sequence


class WaitingQueue:
    """A heap for each tenant, by `Sequence.order` as it was when the sequence came in; passes over what ended
    meanwhile."""

    def __init__(self) -> None:
        self._heaps: dict[str, list[tuple[tuple[int, int, int], Sequence]]] = {}

    def push(self, sequence: Sequence) -> None:
        heap = self._heaps.setdefault(sequence.tenant, [])
        heapq.heappush(heap, (sequence.order, sequence))

    def head(self) -> Sequence | None:
        """Whose turn it is; None when nobody waits."""
        return min(self.heads(), key=_order, default=None)

    def heads(self) -> list[Sequence]:
        """The first one of each tenant."""
        found = []
        for tenant, heap in list(self._heaps.items()):
            while heap and heap[0][1].is_finished:
                heapq.heappop(heap)
            if heap:
                found.append(heap[0][1])
            else:
                del self._heaps[tenant]
        return found

    def pop(self, head: Sequence) -> None:
        """Takes out one of `heads`."""
        heapq.heappop(self._heaps[head.tenant])

    def bring_forward(self, head: Sequence, turn: int) -> None:
        """Gives one of `heads` an earlier turn."""
        self.pop(head)
        head.turn = turn
        self.push(head)


def _order(sequence: Sequence) -> tuple[int, int, int]:
    return sequence.order
