"""Step clock: when a null model makes its tokens, and which, so that whoever reads them knows their age.

A file that the null model's process and the load generator map: the generator sets the pace, the model stamps
each step. A token's text says which step made it, so what passed between is the servers' own. The standard
library alone, because vLLM's interpreter imports it too.
"""

from __future__ import annotations

import mmap
import time
from pathlib import Path

SYMBOLS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
"""The texts of the tokens that a null model makes in turn, one for each step; each is one token."""
VARIABLE = "OCTAVO_BENCHMARK_CLOCK"
"""Of the environment, by which servers find the file."""
_PERIOD, _NUM_STEPS, _TIMES = 0, 1, 2
_NUM_TIMES = 8192
_DOUBLE = 8


class StepClock:
    """Times are `time.monotonic()`, which processes of one machine share.

    Args:
        path: Made when it is not there.
    """

    def __init__(self, path: Path) -> None:
        size = _DOUBLE * (_TIMES + _NUM_TIMES)
        if not path.exists():
            path.write_bytes(bytes(size))
        with path.open("r+b") as file:
            self._cells = memoryview(mmap.mmap(file.fileno(), size)).cast("d")

    @property
    def period(self) -> float:
        """Seconds between two steps; 0: as fast as they can be made."""
        return self._cells[_PERIOD]

    @period.setter
    def period(self, seconds: float) -> None:
        self._cells[_PERIOD] = seconds

    @property
    def num_steps(self) -> int:
        """So far."""
        return int(self._cells[_NUM_STEPS])

    def seconds_to_next(self) -> float:
        """Until a step is due, one period after the one before."""
        period = self.period
        if not period:
            return 0.0
        return max(0.0, self.time_of(self.num_steps - 1) + period - time.monotonic())

    def stamp(self) -> str:
        """A step makes its tokens now; returns their text."""
        step = self.num_steps
        self._cells[_TIMES + step % _NUM_TIMES] = time.monotonic()
        self._cells[_NUM_STEPS] = step + 1
        return SYMBOLS[step % len(SYMBOLS)]

    def wait(self) -> str:
        """Sleeps until a step is due, and stamps it."""
        if (seconds := self.seconds_to_next()) > 0:
            time.sleep(seconds)
        return self.stamp()

    def time_of(self, step: int) -> float:
        """When it was made; right for the last 8,192."""
        return self._cells[_TIMES + step % _NUM_TIMES]

    def latest_with(self, symbol: str) -> int:
        """The last step that made it. Of a token that came after less than 62 steps its own."""
        last = self.num_steps - 1
        return last - (last - SYMBOLS.index(symbol)) % len(SYMBOLS)
