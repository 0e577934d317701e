"""Draft model on a GPU: a smaller model that guesses what the model draws next (speculative decoding,
Leviathan et al., 2023).

It has a runner of its own, with the state, the block tables and the recorded steps of one, and follows every
chunk of a prompt. When it is asked for guesses it catches up with the answer and decodes, each step with the
token that the one before it sampled: the device knows it, and nobody waits between them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from octavo.sampling.state import SamplingState
from octavo.worker.batch import PENDING_TOKEN, ScheduledSequence, StepBatch
from octavo.worker.draft_coverage import DraftCoverage
from octavo.worker.draft_sampling import draft_params, known_tokens, with_drafts
from octavo.worker.draft_steps import in_steps, readable, row_of
from octavo.worker.gpu.cuda_graphs import Capture
from octavo.worker.gpu.drafter import cut, drawn_tokens
from octavo.worker.gpu.readback import PendingSamples
from octavo.worker.gpu.runner import GpuRunner


class GpuDraftModel:
    """See `GpuDrafter`.

    Args:
        runner: Of the draft model, with as many blocks as the model's.
        seed_of: The seed that the model draws a sequence's tokens with.
        is_recorded: Its steps run in CUDA graphs where the model's do.
    """

    def __init__(
        self,
        runner: GpuRunner,
        seed_of: Callable[[int], int | None],
        *,
        is_recorded: bool = True,
    ) -> None:
        self._is_recorded = is_recorded
        self._runner = runner
        self._seed_of = seed_of
        self._coverage = DraftCoverage(runner.limits.block_size)

    def begin(self, released: Sequence[int], copies: Sequence[tuple[int, int]]) -> None:
        self._coverage.begin(released, copies)
        if released or copies:
            self._runner.submit(StepBatch((), copies, released))

    def capture(self, capture: Capture) -> None:
        if self._is_recorded:
            self._runner.capture(capture)

    def follow(self, entries: Sequence[ScheduledSequence], states: torch.Tensor | None) -> None:
        del states
        if chunks := self._coverage.follow(entries):
            self._step(chunks)

    def propose(self, entries: Sequence[ScheduledSequence]) -> list[ScheduledSequence]:
        asked = [entry for entry in entries if entry.num_drafts]
        steps = self._catch_up(asked)
        for place in range(1, max(entry.num_drafts for entry in asked)):
            going = [entry for entry in asked if place < entry.num_drafts]
            steps.append(self._step([self._guess(entry, place) for entry in going]))
        # The last guess is read too, so that all that came true is known when all of them did.
        self._step([self._last(entry) for entry in asked])
        for entry in asked:
            self._coverage.read(entry, entry.start + 1 + entry.num_drafts)
            # What lies behind may be other blocks in the next step.
            known = len(cut(entry.block_ids, entry.start + 1, self._runner.limits.block_size))
            self._runner.rows.cut_table(entry.sequence_id, known)
        return with_drafts(entries, drawn_tokens(steps))

    def _step(self, rows: Sequence[ScheduledSequence]) -> PendingSamples:
        num_tokens = self._runner.model.spec.vocab_size
        return self._runner.submit(StepBatch(readable(rows, num_tokens)))

    def _catch_up(self, asked: Sequence[ScheduledSequence]) -> list[PendingSamples]:
        """Reads what it has not read of the sequences, and guesses the first token of each: in one step as a
        rule, of much that is unread in as many as it takes."""
        most = self._runner.limits.max_num_batched_tokens
        rows: list[ScheduledSequence] = []
        for entry in asked:
            first = self._coverage.before(entry)
            while entry.start + 1 - first > most:
                self._step([row_of(entry, self._tokens(entry, first, first + most), first)])
                first += most
            tokens = self._tokens(entry, first, entry.start + 1)
            rows.append(row_of(entry, tokens, first, self._sampling(entry)))
        return [self._step(part) for part in in_steps(rows, lambda row: len(row.token_ids), most)]

    def _tokens(self, entry: ScheduledSequence, start: int, stop: int) -> list[int]:
        state = entry.sampling
        assert state is not None  # noqa: S101 - drafts are for what is sampled
        known = known_tokens(state, start, min(stop, entry.start))
        return [*known, entry.token_ids[0]] if stop > entry.start else known

    def _sampling(self, entry: ScheduledSequence) -> SamplingState:
        state = entry.sampling
        assert state is not None  # noqa: S101 - drafts are for what is sampled
        return SamplingState(
            draft_params(state.params),
            self._seed_of(entry.sequence_id),
            state.prompt_token_ids,  # its length tells which of the random numbers come next
            (),
        )

    def _guess(self, entry: ScheduledSequence, place: int) -> ScheduledSequence:
        return row_of(entry, (PENDING_TOKEN,), entry.start + place, self._sampling(entry))

    def _last(self, entry: ScheduledSequence) -> ScheduledSequence:
        return row_of(entry, (PENDING_TOKEN,), entry.start + entry.num_drafts)
