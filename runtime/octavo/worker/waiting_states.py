"""Waiting states: a model's hidden states that a head has not read, since nobody knows the token behind each
yet, or nobody asks for guesses."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from octavo.worker.batch import ScheduledSequence

R = TypeVar("R")
"""The state at one position, as a device keeps it."""


@dataclass(slots=True)
class Waiting(Generic[R]):
    """Those at the positions before `end` of a sequence, the last of them last."""

    end: int
    rows: deque[R] = field(default_factory=deque)

    @property
    def first(self) -> int:
        return self.end - len(self.rows)

    def cut(self, end: int) -> None:
        """Forgets what lies behind: drafts that did not come true."""
        while self.rows and self.end > end:
            self.rows.pop()
            self.end -= 1


class WaitingStates(Generic[R]):
    """Of all sequences that run."""

    def __init__(self) -> None:
        self._waiting: dict[int, Waiting[R]] = {}

    def __getitem__(self, entry: ScheduledSequence) -> Waiting[R]:
        return self._waiting[entry.sequence_id]

    def release(self, sequence_ids: Iterable[int]) -> None:
        for sequence_id in sequence_ids:
            self._waiting.pop(sequence_id, None)

    def before(self, entry: ScheduledSequence) -> Waiting[R]:
        """What waits at the positions before the entry's."""
        waiting = self._waiting.get(entry.sequence_id)
        if waiting is None:
            waiting = self._waiting[entry.sequence_id] = Waiting(entry.start)
        waiting.cut(entry.start)
        return waiting
