"""Scheduled batch. One step as the scheduler sees it: who runs how much, beside what the executor is told."""

from __future__ import annotations

from dataclasses import dataclass, field

from octavo.engine.requests.sequence import Sequence
from octavo.sampling.state import SampledToken
from octavo.worker.batch import ScheduledSequence


@dataclass(slots=True)
class ScheduledBatch:
    """`entries[i]` is the share of `sequences[i]`; `admitted` left the waiting queue for this step.
    `block_copies` and `released` are those of `StepBatch`."""

    sequences: list[Sequence] = field(default_factory=list)
    entries: list[ScheduledSequence] = field(default_factory=list)
    admitted: list[Sequence] = field(default_factory=list)
    block_copies: list[tuple[int, int]] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    num_tokens: int = 0

    def add_chunk(self, sequence: Sequence, count: int) -> None:
        """Lets the sequence's next `count` known tokens run; their slots must be allocated."""
        start = sequence.num_scheduled_tokens
        end = sequence.num_scheduled_tokens = start + count
        sequence.is_prefilling = end < sequence.num_tokens
        scores = sequence.prompt_scores if sequence.must_compute_prompt else None
        self.sequences.append(sequence)
        self.entries.append(
            ScheduledSequence(
                sequence.sequence_id,
                sequence.tokens(start, end),
                start,
                sequence.block_table,
                None if sequence.is_prefilling else sequence.sampling,
                None if scores is None else scores.rows_of(start, end),
            )
        )
        self.num_tokens += count

    def take_scores(self, rows: list[SampledToken]) -> None:
        """Hands the scored rows of all entries, in order, to their sequences."""
        first = 0
        for sequence, entry in zip(self.sequences, self.entries, strict=True):
            if entry.scored is None or sequence.prompt_scores is None:
                continue
            last = first + len(entry.scored.targets)
            sequence.prompt_scores.take(entry.start, rows[first:last])
            first = last
