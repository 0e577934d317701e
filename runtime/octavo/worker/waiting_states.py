"""Waiting states: a model's hidden states that a head has not read, since nobody knows the token behind each
yet, or nobody asks for guesses."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec

from octavo.sampling.state import SamplingState
from octavo.worker.batch import ScheduledSequence
from octavo.worker.draft_sampling import known_tokens
from octavo.worker.draft_steps import row_of
from octavo.worker.seen_blocks import SeenBlocks

R = TypeVar("R")
"""The state at one position, as a device keeps it."""


@dataclass(slots=True)
class Waiting(Generic[R]):
    """Those at the positions before `end` of a sequence, the last of them last.

    Attributes:
        entry: Of the sequence, as the last step had it.
        base: The first position that the head reads. Where it has not seen those before, they are not there
            for it: the sequence begins at `base`, in the block of that position, its `base_block`th.
    """

    end: int
    rows: deque[R] = field(default_factory=deque)
    entry: ScheduledSequence | None = None
    base: int = 0
    base_block: int = 0

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
        return self.row(entry, tokens, first), [self.rows.popleft() for _ in range(count)]

    def row(
        self,
        entry: ScheduledSequence,
        token_ids: Sequence[int],
        start: int,
        sampling: SamplingState | None = None,
    ) -> ScheduledSequence:
        """As `row_of`, where the head has them."""
        row = row_of(entry, token_ids, start - self.base, sampling)
        if not self.base_block:
            return row
        return msgspec.structs.replace(row, block_ids=entry.block_ids[self.base_block :])

    def cut(self, end: int) -> None:
        """Forgets what lies behind: drafts that did not come true."""
        while self.rows and self.end > end:
            self.rows.pop()
            self.end -= 1


class WaitingStates(Generic[R]):
    """Of all sequences that run.

    Args:
        keeps_ends: Others may find the blocks of a sequence that has ended.
        seen: Blocks that the head knows; None: it sees every step, and knows all.
    """

    def __init__(self, *, keeps_ends: bool, seen: SeenBlocks | None = None) -> None:
        self._keeps_ends = keeps_ends
        self._seen = seen
        self._waiting: dict[int, Waiting[R]] = {}

    def __getitem__(self, entry: ScheduledSequence) -> Waiting[R]:
        return self._waiting[entry.sequence_id]

    def release(self, sequence_ids: Iterable[int]) -> Iterator[tuple[ScheduledSequence, list[R]]]:
        """What the head is still to read of sequences that end. Who finds their blocks in the prefix cache
        finds them whole then, whether anybody asked for guesses or not."""
        for sequence_id in sequence_ids:
            waiting = self._waiting.pop(sequence_id, None)
            is_found = self._keeps_ends and waiting is not None and not waiting.base
            if waiting is not None and is_found and (read := waiting.read()) is not None:
                yield read

    def clear(self) -> None:
        """Steps come of which nothing is heard."""
        self._waiting.clear()
        if self._seen is not None:
            self._seen.clear()

    def before(self, entry: ScheduledSequence) -> Waiting[R]:
        """What waits at the positions before the entry's."""
        waiting = self._waiting.get(entry.sequence_id)
        if waiting is None:
            waiting = self._waiting[entry.sequence_id] = self._begin(entry)
        waiting.cut(entry.start)
        if self._seen is not None:
            self._seen.note(entry, is_whole=not waiting.base)
        return waiting

    def _begin(self, entry: ScheduledSequence) -> Waiting[R]:
        waiting = Waiting[R](entry.start)
        if self._seen is not None:
            waiting.base = self._seen.base(entry)
            waiting.base_block = waiting.base // self._seen.block_size
        return waiting
