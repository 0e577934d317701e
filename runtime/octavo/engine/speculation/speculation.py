"""Speculation: what the engine asks before a step, and tells after it.

It brings together who proposes, how often that came true and what steps cost, and sleeps where it does not
pay.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as AbstractSequence
from dataclasses import dataclass, field

from octavo.engine.requests.sequence import Sequence
from octavo.engine.scheduled_batch import ScheduledBatch
from octavo.engine.speculation.acceptance import Acceptance
from octavo.engine.speculation.choice import choose_counts
from octavo.engine.speculation.proposal import Proposal, Proposer
from octavo.engine.speculation.step_cost import StepCost
from octavo.sampling.state import SampledToken

_NOTHING: Mapping[int, AbstractSequence[int]] = {}
_SLEEPS_AFTER = 16
"""Steps in a row, of those that were looked at, in which no draft paid."""
_LONGEST_SLEEP = 8
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
        self._num_idle = 0  # looked at, in a row, and nothing paid
        self._num_asleep = 0  # steps that are not looked at any more
        self.counts = SpeculationCounts(num_accepted=[0] * num_tokens)

    def propose(self, sequences: AbstractSequence[Sequence]) -> Mapping[int, AbstractSequence[int]]:
        """Drafts of the next step, by sequence id.

        Args:
            sequences: Those that may have some; their last token is known.
        """
        self._proposals.clear()
        if not sequences or self._sleeps():
            return _NOTHING
        curve = self._cost.curve(len(sequences))
        if curve is None:
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
    ) -> None:
        """Learns from a step that was proposed for, its tokens, and how long it took."""
        is_free = self._proposer.is_free
        for sequence, tokens in updates:
            proposal = self._proposals.get(sequence.sequence_id)
            if proposal is not None and is_free:
                came = [token.token_id for token in tokens]
                self._acceptance.learn(sequence.sequence_id, proposal, came)
        num_drafts = 0
        for entry, tokens in zip(batch.entries, batch.shares, strict=True):
            if entry.num_drafts:
                num_drafts += entry.num_drafts
                self._count(entry.sequence_id, entry.num_drafts, len(tokens) - 1)
        if all(
            entry.sampling is not None and len(entry.token_ids) == 1 + entry.num_drafts
            for entry in batch.entries
        ):
            self._cost.observe(len(batch.entries), num_drafts, seconds)

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

    def _sleeps(self) -> bool:
        if self._num_asleep:
            self._num_asleep -= 1
            return True
        if self._num_idle >= _SLEEPS_AFTER:
            self._num_asleep = min(self._num_idle // _SLEEPS_AFTER, _LONGEST_SLEEP)
        return False

    def _trial(self) -> Mapping[int, AbstractSequence[int]]:
        """A single draft each, once in a while, where only running tells whether it comes true."""
        if self._proposer.is_free or self._num_idle % _TRIAL_INTERVAL:
            return _NOTHING
        return {name: one.token_ids[:1] for name, one in self._proposals.items()}
