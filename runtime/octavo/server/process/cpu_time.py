"""CPU time. Whether another process computes, told by the CPU time that it uses.

A step may take longer than anybody waits for an answer (a long prompt on a CPU), and an engine that hangs
or is stopped is as silent as that. The one uses its processor and the other does not.
"""

from __future__ import annotations

import os
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# Of one core; the threads that wait for messages use far less.
_WORKING_SHARE = 0.1
_MIN_SECONDS = 0.5


def read_cpu_seconds(pid: int) -> float | None:
    """User and system time of a process since it started; None where that cannot be told."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND
    except (OSError, IndexError, ValueError):
        return None


class WorkMeter:
    """For how long a process that should work has not."""

    def __init__(self) -> None:
        self._mark: tuple[float, float] | None = None
        self._worked_at = 0.0
        self.seconds_idle = 0.0

    def observe(self, *, cpu_seconds: float | None, is_busy: bool, now: float) -> None:
        """To be called regularly.

        Args:
            cpu_seconds: Used so far; None, unknown, counts as work.
            is_busy: There is something to do; without that it cannot be idle.
            now: Monotonic seconds.
        """
        if cpu_seconds is None or not is_busy or self._mark is None:
            self._worked_at = now
            self._mark = (now, cpu_seconds or 0.0)
        elif (elapsed := now - self._mark[0]) >= _MIN_SECONDS:
            if cpu_seconds - self._mark[1] >= _WORKING_SHARE * elapsed:
                self._worked_at = now
            self._mark = (now, cpu_seconds)
        self.seconds_idle = now - self._worked_at
