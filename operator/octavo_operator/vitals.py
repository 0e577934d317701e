"""Vital signs of the operator: what its liveness and readiness probes look at.

Live: its event loops turn and no pass over an object hangs. Ready: it acts and follows all that it should, or
it stands by and sees the Lease, so that it could act at any time.
"""

from __future__ import annotations

from octavo_operator.leader import LeaderElection
from octavo_operator.manifest import ObjectKey
from octavo_operator.watches import Watches
from octavo_operator.workqueue import WorkQueue

TURN_SECONDS = 3.0
"""Within the probes' timeout."""
LONGEST_PASS_SECONDS = 600.0
"""A pass makes some twenty requests, each bounded; this is more than all of them may take."""


class Vitals:
    """Each check says what is wrong, or None. That one of them is answered says that our own loop turns."""

    def __init__(self, watches: Watches, queue: WorkQueue[ObjectKey]) -> None:
        self._watches = watches
        self._queue = queue
        self.election: LeaderElection | None = None
        """None without leader election."""
        self.is_acting = False

    async def watching_turns(self) -> str | None:
        if await self._watches.answers(TURN_SECONDS):
            return None
        return f"the thread that watches has not answered for {TURN_SECONDS:.0f} s"

    async def work_goes_on(self) -> str | None:
        seconds = self._queue.longest_seconds
        if seconds < LONGEST_PASS_SECONDS:
            return None
        return f"a pass over an object has taken {seconds:.0f} s"

    async def lease_is_seen(self) -> str | None:
        return None if self.election is None else self.election.problem()

    async def all_is_followed(self) -> str | None:
        if not self.is_acting:
            return None if self.election is not None else "has not begun to act"
        missing = self._watches.missing()
        return f"not followed: {', '.join(missing)}" if missing else None
