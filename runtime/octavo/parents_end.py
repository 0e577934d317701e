"""End of the parent, noticed by a stopped child too.

Engine and ranks end when their standard input does. A process that is stopped (SIGSTOP, a debugger) reads
none: it would keep the model's memory for ever after its parent was killed.
"""

from __future__ import annotations

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1


def go_on_at_parents_end() -> None:
    """Has Linux continue this process, if it is stopped then, when the thread ends that started it.

    No signal that ends it: it has files to remove first, and a parent may go on without that thread.
    """
    _at_parents_end(signal.SIGCONT)


def end_at_parents_end() -> None:
    """Has Linux end this process with the thread that started it, whatever it does then: for one that leaves
    nothing behind, and holds a port that the parent's successor needs."""
    _at_parents_end(signal.SIGKILL)


def _at_parents_end(told: signal.Signals) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(told), 0, 0, 0)
