"""Speculation: what the engine asks before a step, and tells after it.

It brings together who proposes, how often that came true and what steps cost, and rests where it does not
pay.

Where steps overlap (the next one is submitted while one runs) guesses follow from tokens that are not known
yet. So a step that is to have drafts waits until none is under way, and the next one until it is done; at
rest steps overlap. What a step costs is then the time since the one before it was done, so that waiting is
part of what guessing has to make good.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from collections.abc import Sequence as AbstractSequence
from dataclasses import dataclass, field

from octavo.engine.requests.sequence import Sequence
from octavo.engine.scheduled_batch import ScheduledBatch
from octavo.engine.speculation.acceptance import Acceptance
from octavo.engine.speculation.allowance import Allowance
from octavo.engine.speculation.choice import choose_counts
from octavo.engine.speculation.proposal import Proposal, Proposer
from octavo.engine.speculation.step_cost import StepCost, size_bucket
from octavo.sampling.state import SampledToken

_NOTHING: Mapping[int, AbstractSequence[int]] = {}
_MEASURED_AT_REST = 8
"""Of so many steps at rest one is measured: to learn from all is a few percent of a short one."""
_TRIAL_INTERVAL = 256
"""Steps after which a proposer that is not free is tried again though it did not pay."""
_MOST_TRIED = 4
"""Sequences, then: whoever guesses may have to read all of them first."""


@dataclass(slots=True)
class SpeculationCounts:
    """Since the engine's start.

    Args:
        num_drafts: Steps of a sequence that had draft tokens.
        num_draft_tokens: Those that ran.
        num_accepted: Those that came true, by their place behind the known token.
    """

    num_drafts: int = 0
    num_draft_tokens: int = 0
    num_accepted: list[int] = field(default_factory=list)


class Speculation:
    """Of one engine.

    Args:
        num_tokens: Drafts of a sequence in one step at most.
        max_drafts: Of all sequences together; None: as many as they may have.
        overlaps: Steps do, while nobody guesses.
    """

    def __init__(
        self,
        proposer: Proposer,
        num_tokens: int,
        *,
        max_drafts: int | None = None,
        overlaps: bool = False,
    ) -> None:
        self._proposer = proposer
        self._max_drafts = max_drafts
        self._overlaps = overlaps
        self._acceptance = Acceptance(proposer.num_kinds)
        self._cost = StepCost()
        self._proposals: dict[int, Proposal] = {}
        self._allowances: dict[int, Allowance] = {}  # by size, as costs are told apart
        self._num_asked = 0
        self._is_resting = False
        self._is_waiting = False  # the last step that was proposed for has no other beside it
        self._num_rested = 0
        self._num_idle = 0  # looked at, in a row, and nothing paid
        self.counts = SpeculationCounts(num_accepted=[0] * num_tokens)

    def may_overlap(self, num_sequences: int) -> bool:
        """Whether a step may be submitted while one runs.

        Args:
            num_sequences: That will decode in it.
        """
        return not self._is_waiting and not self._wants_tokens(num_sequences)

    def _wants_tokens(self, num_sequences: int) -> bool:
        """Whether guesses of so many sequences may pay."""
        if not num_sequences or self._cost.curve(num_sequences) is None:
            return False
        return self._allowance(num_sequences).is_open

    def propose(self, sequences: AbstractSequence[Sequence]) -> Mapping[int, AbstractSequence[int]]:
        """Drafts of the next step, by sequence id.

        Args:
            sequences: Those that may have some; their last token is known.
        """
        self._proposals.clear()
        self._num_asked = len(sequences)
        curve = self._cost.curve(len(sequences)) if sequences else None
        self._is_resting = curve is not None and not self._allowance(len(sequences)).is_open
        self._is_waiting = self._overlaps and curve is not None and not self._is_resting
        if curve is None or self._is_resting:
            return _NOTHING
        for sequence in sequences:
            proposal = self._proposer.propose(sequence)
            if proposal is not None:
                self._proposals[sequence.sequence_id] = proposal
        chosen: dict[int, AbstractSequence[int]] = {}
        if self._proposals:
            proposals = self._proposals.items()
            counts = choose_counts(
                [self._acceptance.probability(name, one.kind) for name, one in proposals],
                [len(one.token_ids) for _, one in proposals],
                len(sequences),
                curve,
                self._max_drafts,
            )
            for (name, one), count in zip(proposals, counts, strict=True):
                if count:
                    chosen[name] = one.token_ids[:count]
        self._num_idle = 0 if chosen else self._num_idle + 1
        return chosen or self._trial()

    def observe(
        self,
        batch: ScheduledBatch,
        updates: AbstractSequence[tuple[Sequence, AbstractSequence[SampledToken]]],
        seconds: float,
        looking_seconds: float,
    ) -> None:
        """Learns from a step that was proposed for, and its tokens.

        Args:
            seconds: That it took, with `propose`, which took `looking_seconds` of them.
        """
        is_waiting, self._is_waiting = self._is_waiting, False
        if self._is_resting:
            self._allowance(self._num_asked).settle(0.0)
            self._num_rested += 1
            if self._num_rested % _MEASURED_AT_REST:
                return
        num_drafts = num_true = 0
        if self._proposals:
            num_drafts, num_true = self._compare(batch, updates)
        size = len(batch.entries)
        has_prompts = batch.num_tokens != size + num_drafts
        if not has_prompts and (num_drafts or not is_waiting):
            self._cost.observe(size, num_drafts, seconds - looking_seconds)
        asked = self._num_asked  # prompts that ran beside them are nobody's gain or loss
        curve = self._cost.curve(asked) if asked else None
        if curve is not None and not self._is_resting:
            plain = curve.seconds(0)
            lost = curve.seconds(num_drafts) - plain + looking_seconds
            if is_waiting and not num_drafts and not has_prompts:
                lost = max(seconds - plain, 0.0)  # it waited for nothing
            self._allowance(asked).settle(num_true / asked - lost / plain)

    def observe_overlapped(self, batch: ScheduledBatch, seconds: float) -> None:
        """Learns from a step that was submitted while another ran.

        Args:
            seconds: Since that one was done.
        """
        size = len(batch.entries)
        self._allowance(size).settle(0.0)
        self._num_rested += 1
        is_due = self._num_rested % _MEASURED_AT_REST == 0 or self._cost.curve(size) is None
        if is_due and batch.num_tokens == size:  # no prompts
            self._cost.observe(size, 0, seconds)

    def _compare(
        self,
        batch: ScheduledBatch,
        updates: AbstractSequence[tuple[Sequence, AbstractSequence[SampledToken]]],
    ) -> tuple[int, int]:
        """Proposals with what came: how many drafts ran, and came true."""
        if self._proposer.is_free:
            for sequence, tokens in updates:
                proposal = self._proposals.get(sequence.sequence_id)
                if proposal is not None:
                    came = [token.token_id for token in tokens]
                    self._acceptance.learn(sequence.sequence_id, proposal, came)
        num_drafts = num_true = 0
        for entry, tokens in zip(batch.entries, batch.shares, strict=True):
            if entry.num_drafts:
                num_drafts += entry.num_drafts
                num_true += len(tokens) - 1
                self._count(entry.sequence_id, entry.num_drafts, len(tokens) - 1)
        return num_drafts, num_true

    def forget(self, sequence_id: int) -> None:
        """The sequence has ended."""
        self._proposer.forget(sequence_id)
        self._acceptance.forget(sequence_id)
        self._proposals.pop(sequence_id, None)

    def _count(self, sequence_id: int, num_drafts: int, num_true: int) -> None:
        counts = self.counts
        counts.num_drafts += 1
        counts.num_draft_tokens += num_drafts
        for place in range(num_true):
            counts.num_accepted[place] += 1
        if not self._proposer.is_free:
            kind = self._proposals[sequence_id].kind
            num_tried = min(num_true + 1, num_drafts)
            self._acceptance.count(sequence_id, kind, num_true, num_tried)

    def _allowance(self, num_sequences: int) -> Allowance:
        size = size_bucket(num_sequences)
        found = self._allowances.get(size)
        if found is None:
            found = self._allowances[size] = Allowance()
        return found

    def _trial(self) -> Mapping[int, AbstractSequence[int]]:
        """A single draft each, once in a while, where only running tells whether it comes true."""
        if self._proposer.is_free or self._num_idle % _TRIAL_INTERVAL:
            return _NOTHING
        most = min(_MOST_TRIED, self._max_drafts or _MOST_TRIED)
        tried = itertools.islice(self._proposals.items(), most)
        return {name: one.token_ids[:1] for name, one in tried}
