"""Draft coverage: how far a draft model has read each sequence, and each block of the KV cache.

Blocks outlive sequences: the prefix cache names a block once the model has computed it, also where the draft
never read it (nobody guessed then, or the guesses were wrong). Whoever begins with such a block must not take
what lies in the draft's block of the same number for keys and values of those tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from octavo.worker.batch import ScheduledSequence
from octavo.worker.draft_steps import row_of

_PATIENCE = 64
"""Steps without guesses after which prompts are not read any more: guesses do not pay then, and what is
unread is read when they do."""


class DraftCoverage:
    """Of each block how many of its slots, from the first on, hold the draft's keys and values of the tokens
    that the model's block holds; of each sequence how many positions."""

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._filled: dict[int, int] = {}
        self._covered: dict[int, int] = {}
        self._num_unasked = 0  # steps in a row

    def clear(self) -> None:
        """Steps come of which nothing is heard: what blocks hold is not known any more."""
        self._filled.clear()
        self._covered.clear()
        self._num_unasked = 0

    def begin(self, released: Iterable[int], copies: Sequence[tuple[int, int]]) -> None:
        """Before each step, with what the step's batch says of sequences and blocks."""
        for sequence_id in released:
            self._covered.pop(sequence_id, None)
        for source, target in copies:
            self._filled[target] = self._filled.get(source, 0)

    def before(self, entry: ScheduledSequence) -> int:
        """Positions from 0 on that the draft has read, at most those before the entry's: what it read behind
        them were drafts that did not come true."""
        covered = self._covered.get(entry.sequence_id)
        if covered is None:
            covered = self._covered[entry.sequence_id] = self._shared(entry)
        return min(covered, entry.start)

    def follow(self, entries: Sequence[ScheduledSequence]) -> list[ScheduledSequence]:
        """The chunks of prompts among `entries` that the draft reads now: those where it has all that is
        before them, while guesses are asked for now and then. What else comes it reads when it is asked."""
        chunks = []
        is_asked = any(entry.num_drafts for entry in entries)
        self._num_unasked = 0 if is_asked else self._num_unasked + 1
        for entry in entries:
            if entry.num_drafts:
                continue
            is_chunk = len(entry.token_ids) > 1 or not entry.start
            is_next = is_chunk and self.before(entry) == entry.start
            if is_next and self._num_unasked <= _PATIENCE:
                chunks.append(row_of(entry, entry.token_ids, entry.start))
                self.read(entry, entry.start + len(entry.token_ids))
            else:
                self.skip(entry)
        return chunks

    def read(self, entry: ScheduledSequence, stop: int) -> None:
        """The draft has all positions before `stop` now, the entry's drafts among them."""
        self._note(entry, self.before(entry), stop)

    def skip(self, entry: ScheduledSequence) -> None:
        """The model computes the entry's tokens, and the draft does not read them now."""
        self._note(entry, entry.start, self.before(entry))

    def _shared(self, entry: ScheduledSequence) -> int:
        """Of a sequence that is new, and begins at `entry.start` because others computed what is before."""
        size, covered = self._block_size, 0
        while covered < entry.start:
            needed = min(size, entry.start - covered)
            found = self._filled.get(entry.block_ids[covered // size], 0)
            covered += min(needed, found)
            if found < needed:
                break
        return covered

    def _note(self, entry: ScheduledSequence, first: int, stop: int) -> None:
        """Of the blocks from position `first` on up to the entry's end."""
        size = self._block_size
        self._covered[entry.sequence_id] = stop
        for index in range(first // size, -(-(entry.start + len(entry.token_ids)) // size)):
            self._filled[entry.block_ids[index]] = min(max(stop - index * size, 0), size)
