"""Admission. Who may queue: a bounded waiting queue that answers 429 with an honest Retry-After.

Pure. Counts sequences (a request with n = 4 is four).
"""

from __future__ import annotations

import math
from collections import Counter, deque

from octavo.engine.messages import EngineStats
from octavo.errors import QueueFullError
from octavo.sampling_params import MAX_N

_MAX_FINISHES = 64
# What is longer ago says nothing of the pace of now; nobody is asked to wait longer, either.
_MAX_RETRY_SECONDS = 60


class Admission:
    """Bounds the waiting sequences.

    Args:
        max_queued: Sequences that may wait while the engine's places are taken.
        max_running: Sequences that the engine runs at once.
    """

    def __init__(self, max_queued: int, max_running: int) -> None:
        self._max_queued = max_queued
        self._max_running = max_running
        self._finish_times: deque[float] = deque(maxlen=_MAX_FINISHES)
        self._of_tenant: Counter[str] = Counter()
        self._full_since = -math.inf

    def admit(
        self,
        num_sequences: int,
        stats: EngineStats,
        num_under_way: int,
        now: float,
        tenant: str = "",
    ) -> None:
        """Counts a request in. A queue that others have filled still takes a tenant's equal part of it.

        Args:
            num_under_way: Sequences that were sent to the engine and that `stats` does not know of.

        Raises:
            QueueFullError: The queue has no room for it; nothing is counted.
        """
        waiting = stats.num_waiting + num_under_way
        # Sequences that the engine left waiting show that places are not what is short.
        free = 0 if stats.num_waiting else max(0, self._max_running - stats.num_running)
        # A small queue must not refuse for ever what one request may ask for.
        is_alone = waiting == 0 and stats.num_running == 0 and num_sequences <= MAX_N
        is_full = waiting + num_sequences > self._max_queued + free
        if is_full and not is_alone and not self._is_within_part(tenant, num_sequences):
            excess = waiting + num_sequences - self._max_queued - free
            raise QueueFullError(
                f"The queue is full: {waiting} sequences wait and at most {self._max_queued} may "
                "(--max-queued-requests). Try again later.",
                self._retry_after_seconds(excess, now),
            )
        if waiting < free:
            self._full_since = now
        self._of_tenant[tenant] += num_sequences

    def release(self, num_sequences: int, tenant: str = "") -> None:
        """An admitted request is over, however it ended."""
        self._of_tenant[tenant] -= num_sequences
        if not self._of_tenant[tenant]:
            del self._of_tenant[tenant]

    def count_finished(self, now: float) -> None:
        """A sequence ended: what the guess for Retry-After is made of."""
        self._finish_times.append(now)

    def _is_within_part(self, tenant: str, num_sequences: int) -> bool:
        """Of the queue, where other tenants have something under way."""
        num_tenants = len(self._of_tenant) + (tenant not in self._of_tenant)
        part = self._max_queued // num_tenants
        return num_tenants > 1 and self._of_tenant[tenant] + num_sequences <= part

    def _retry_after_seconds(self, excess: int, now: float) -> int:
        """Until `excess` places are free, at the pace of completions since all are taken: before, it was no
        more than what came."""
        if not self._finish_times:
            return 1
        since = max(self._full_since, now - _MAX_RETRY_SECONDS)
        recent = [finished for finished in self._finish_times if finished >= since]
        # Where none has finished since, the next one takes at least as long as it has taken so far.
        seconds_each = (now - recent[0]) / len(recent) if recent else now - since
        return min(_MAX_RETRY_SECONDS, max(1, math.ceil(excess * seconds_each)))
