"""Waiting states: a model's hidden states that a head has not read, since nobody knows the token behind each
yet, or nobody asks for guesses."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from octavo.worker.batch import ScheduledSequence
from octavo.worker.draft_sampling import known_tokens
from octavo.worker.draft_steps import row_of

R = TypeVar("R")
"""The state at one position, as a device keeps it."""


@dataclass(slots=True)
class Waiting(Generic[R]):
    """Those at the positions before `end` of a sequence, the last of them last.

    Attributes:
        entry: Of the sequence, as the last step had it.
    """

    end: int
    rows: deque[R] = field(default_factory=deque)
    entry: ScheduledSequence | None = None

    @property
    def first(self) -> int:
        return self.end - len(self.rows)

    def read(self) -> tuple[ScheduledSequence, list[R]] | None:
        """Takes the first rows, as many as the head can read by now: tokens, each of which is the one behind
        its row's, and the rows. None: there are none."""
        entry = self.entry
        if entry is None or entry.sampling is None:
            return None
        state, first = entry.sampling, self.first
        num_known = len(state.prompt_token_ids) + len(state.output_token_ids)
        count = min(len(self.rows), num_known - 1 - first)
        if count < 1:
            return None
        tokens = known_tokens(state, first + 1, first + 1 + count)
        return row_of(entry, tokens, first), [self.rows.popleft() for _ in range(count)]

    def cut(self, end: int) -> None:
        """Forgets what lies behind: drafts that did not come true."""
        while self.rows and self.end > end:
            self.rows.pop()
            self.end -= 1


class WaitingStates(Generic[R]):
    """Of all sequences that run.

    Args:
        keeps_ends: Others may find the blocks of a sequence that has ended.
    """

    def __init__(self, *, keeps_ends: bool) -> None:
        self._keeps_ends = keeps_ends
        self._waiting: dict[int, Waiting[R]] = {}

    def __getitem__(self, entry: ScheduledSequence) -> Waiting[R]:
        return self._waiting[entry.sequence_id]

    def release(self, sequence_ids: Iterable[int]) -> Iterator[tuple[ScheduledSequence, list[R]]]:
        """What the head is still to read of sequences that end. Who finds their blocks in the prefix cache
        finds them whole then, whether anybody asked for guesses or not."""
        for sequence_id in sequence_ids:
            waiting = self._waiting.pop(sequence_id, None)
            if waiting is not None and self._keeps_ends and (read := waiting.read()) is not None:
                yield read

    def before(self, entry: ScheduledSequence) -> Waiting[R]:
        """What waits at the positions before the entry's."""
        waiting = self._waiting.get(entry.sequence_id)
        if waiting is None:
            waiting = self._waiting[entry.sequence_id] = Waiting(entry.start)
        waiting.cut(entry.start)
        return waiting
