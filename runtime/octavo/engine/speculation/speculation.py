"""Speculation: what the engine asks before a step, and tells after it.

It brings together who proposes, how often that came true and what steps cost, and rests where it does not
pay.
"""

from __future__ import annotations

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
    """Of one engine whose steps do not overlap.

    Args:
        num_tokens: Drafts of a sequence in one step at most.
    """

    def __init__(self, proposer: Proposer, num_tokens: int) -> None:
        self._proposer = proposer
        self._acceptance = Acceptance(proposer.num_kinds)
        self._cost = StepCost()
        self._proposals: dict[int, Proposal] = {}
        self._allowances: dict[int, Allowance] = {}  # by size, as costs are told apart
        self._num_asked = 0
        self._is_resting = False
        self._num_rested = 0
        self._num_idle = 0  # looked at, in a row, and nothing paid
        self.counts = SpeculationCounts(num_accepted=[0] * num_tokens)

    def propose(self, sequences: AbstractSequence[Sequence]) -> Mapping[int, AbstractSequence[int]]:
        """Drafts of the next step, by sequence id.

        Args:
            sequences: Those that may have some; their last token is known.
        """
        self._proposals.clear()
        self._num_asked = len(sequences)
        curve = self._cost.curve(len(sequences)) if sequences else None
        self._is_resting = curve is not None and not self._allowance(len(sequences)).is_open
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
        if self._is_resting:
            self._allowance(self._num_asked).settle(0.0)
            self._num_rested += 1
            if self._num_rested % _MEASURED_AT_REST:
                return
        num_drafts = num_true = 0
        if self._proposals:
            num_drafts, num_true = self._compare(batch, updates)
        size = len(batch.entries)
        if batch.num_tokens == size + num_drafts:  # no prompts
            self._cost.observe(size, num_drafts, seconds - looking_seconds)
        asked = self._num_asked  # prompts that ran beside them are nobody's gain or loss
        curve = self._cost.curve(asked) if asked else None
        if curve is not None and not self._is_resting:
            plain = curve.seconds(0)
            lost = curve.seconds(num_drafts) - plain + looking_seconds
            self._allowance(asked).settle(num_true / asked - lost / plain)

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
        return {name: one.token_ids[:1] for name, one in self._proposals.items()}
