"""Scheduled batch. One step as the scheduler sees it: who runs how much, beside what the executor is told."""

from __future__ import annotations

from collections.abc import Sequence as AbstractSequence
from dataclasses import dataclass, field

from octavo.engine.requests.sequence import Sequence
from octavo.sampling.state import SampledToken
from octavo.worker.batch import ScheduledSequence


@dataclass(slots=True)
class ScheduledBatch:
    """`entries[i]` is the share of `sequences[i]`; `admitted` left the waiting queue for this step.
    `block_copies` and `released` are those of `StepBatch`; `shares[i]` are the tokens that `entries[i]` got,
    once the step is done."""

    sequences: list[Sequence] = field(default_factory=list)
    entries: list[ScheduledSequence] = field(default_factory=list)
    admitted: list[Sequence] = field(default_factory=list)
    block_copies: list[tuple[int, int]] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    num_tokens: int = 0
    shares: list[AbstractSequence[SampledToken]] = field(default_factory=list)

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
                adapter_id=sequence.adapter_id,
            )
        )
        self.num_tokens += count

    def share_out(self, sampled: AbstractSequence[SampledToken]) -> None:
        """Gives each entry its tokens, none to one without `sampling`.

        Raises:
            ValueError: `sampled` does not hold, in order, at least one for each entry with `sampling` and at
                most one more than its drafts.
        """
        found: list[AbstractSequence[SampledToken]] = []
        first = 0
        for entry in self.entries:
            last = first
            if entry.sampling is not None:
                most = min(first + 1 + entry.num_drafts, len(sampled))
                while last < most and sampled[last].sequence_id == entry.sequence_id:
                    last += 1
                if last == first:
                    break
            found.append(sampled[first:last])
            first = last
        if first != len(sampled) or len(found) != len(self.entries):
            wanted = [entry.sequence_id for entry in self.entries if entry.sampling is not None]
            got = [token.sequence_id for token in sampled]
            raise ValueError(
                f"The step sampled {len(got)} tokens for {len(wanted)} sequences: {got}."
            )
        self.shares = found

    def take_scores(self, rows: list[SampledToken]) -> None:
        """Hands the scored rows of all entries, in order, to their sequences."""
        first = 0
        for sequence, entry in zip(self.sequences, self.entries, strict=True):
            if entry.scored is None or sequence.prompt_scores is None:
                continue
            last = first + len(entry.scored.targets)
            sequence.prompt_scores.take(entry.start, rows[first:last])
            first = last
