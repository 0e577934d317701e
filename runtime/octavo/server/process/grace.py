"""Grace of a server that leaves: how long it answers who comes after it was told to end.

Endpoints leave each node when its proxy gets to it: a busy node takes longer than any fixed time. That
nothing leads here any more shows by this alone, that nobody new comes.

Pure: the clock is passed in, so that tests count in numbers.
"""

from __future__ import annotations

from collections.abc import Callable


class Grace:
    """Begins when it is built. Over when nobody has come for `seconds`, or half of the time that running
    requests have is gone besides.

    Args:
        seconds: At least, and without anybody new; with 0 there is none.
        timeout_seconds: For what runs to finish.
        num_arrivals: See `observe`.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        seconds: float,
        timeout_seconds: float,
        num_arrivals: int,
        clock: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._num_arrivals = num_arrivals
        self._began_at = self._quiet_since = clock()
        self._latest_end = self._began_at + seconds + (timeout_seconds / 2 if seconds > 0 else 0.0)
        self.deadline = self._began_at + seconds + timeout_seconds
        """By the clock: what runs is ended then. It does not move with the grace's end."""

    def observe(self, num_arrivals: int, num_awaited: int = 0) -> None:
        """To be called regularly, with how many have come since the server started, and how many have
        connected and not asked yet. Fewer have come than before: a process that counted is gone, and what
        it had seen last is unknown."""
        if num_arrivals != self._num_arrivals or num_awaited:
            self._num_arrivals = num_arrivals
            self._quiet_since = self._clock()

    @property
    def seconds_left(self) -> float:
        """Unless somebody comes; 0 when it is over."""
        end = min(self._quiet_since + self._seconds, self._latest_end)
        return max(0.0, end - self._clock())

    @property
    def seconds_taken(self) -> float:
        return self._clock() - self._began_at

    @property
    def is_quiet(self) -> bool:
        """Nobody has come for so long."""
        return self._clock() >= self._quiet_since + self._seconds
