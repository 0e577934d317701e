"""Step in flight: one that was submitted and whose tokens were not taken yet."""

from __future__ import annotations

from dataclasses import dataclass

from octavo.engine.scheduled_batch import ScheduledBatch
from octavo.worker.batch import PendingStep


@dataclass(frozen=True, slots=True)
class StepInFlight:
    """
    Args:
        started: When it was begun, in seconds; None: how long it takes is nobody's concern.
        proposed: When its guesses were known.
        is_overlapped: Another was under way then.
    """

    batch: ScheduledBatch
    pending: PendingStep
    started: float | None
    proposed: float
    is_overlapped: bool
