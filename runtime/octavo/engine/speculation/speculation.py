"""Speculation: what the engine asks before a step, and tells after it.

It brings together who proposes, how often that came true and what steps cost, and rests where it does not
pay (`allowance`): then a step does nothing for it but to count. What is learnt is of steps of about as many
sequences, and of the load: the next request begins with it.

Where steps overlap (the next one is submitted while one runs) guesses follow from tokens that are not known
yet. So a step that is to have drafts waits until none is under way, and the next one until it is done; at
rest steps overlap. What a step costs is then the time since the one before it was done, so that waiting is
part of what guessing has to make good.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from collections.abc import Sequence as AbstractSequence
from dataclasses import dataclass, field

from octavo.engine.requests.sequence import Sequence
from octavo.engine.scheduled_batch import ScheduledBatch
from octavo.engine.speculation.acceptance import Acceptance
from octavo.engine.speculation.allowance import HOPELESS_REST, Allowance
from octavo.engine.speculation.attempt import Attempt
from octavo.engine.speculation.choice import choose_counts
from octavo.engine.speculation.following import Following
from octavo.engine.speculation.proposal import Proposal, Proposer
from octavo.engine.speculation.step_cost import Curve, StepCost, size_bucket
from octavo.sampling.state import SampledToken

_NOTHING: Mapping[int, AbstractSequence[int]] = {}
_MEASURED_AT_REST = 64
"""Of so many steps at rest one is measured, and the last ones: to learn from all is a few percent of a short
one."""
_LAST_AT_REST = 4
_LEAST_REST = 64
"""Steps before a proposer that is not free is tried again where it did not pay."""
_FEW_TRIED = 4
"""Sequences, then, at least."""
_DISTURBED = 4.0
"""Times as much as others of its kind, that a step is charged with at most."""


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
        lead: Steps that whoever guesses must have followed before.
    """

    def __init__(
        self,
        proposer: Proposer,
        num_tokens: int,
        *,
        max_drafts: int | None = None,
        overlaps: bool = False,
        lead: int = 0,
    ) -> None:
        self._proposer = proposer
        self._max_drafts = max_drafts
        self._overlaps = overlaps
        self._acceptance = Acceptance(proposer.num_kinds)
        self._cost = StepCost()
        self._following = Following(lead)
        self._proposals: dict[int, Proposal] = {}
        self._sizes: dict[int, _Size] = {}  # as costs are told apart
        self._num_asked = 0
        self._curve: Curve | None = None  # of as many, where guesses are allowed in this step
        self._is_waiting = False  # the last step that was proposed for has no other beside it
        self._read: set[int] = set()  # sequences that whoever guesses was asked of, since a rest
        self._unpaid = 0.0  # seconds of steps that nobody was asked about
        self.counts = SpeculationCounts(num_accepted=[0] * num_tokens)

    @property
    def is_followed(self) -> bool:
        """Whether whoever guesses must see what the next step does. Where steps overlap always: that costs a
        launch there."""
        return self._overlaps or self._following.is_on

    @property
    def is_looking(self) -> bool:
        """Whether the last step that was proposed for might have guesses, so that its costs count."""
        return self._curve is not None

    def is_timed(self, num_sequences: int) -> bool:
        """Whether it matters how long the next step takes.

        Args:
            num_sequences: That it is proposed for.
        """
        if self._overlaps or (self._following.is_on and not self._proposer.is_free):
            return True
        return bool(num_sequences) and _is_measured(self._size(num_sequences).allowance.rest)

    def pass_step(self) -> None:
        """After a step that was proposed for, and whose time does not matter."""
        if self._num_asked:
            self._size(self._num_asked).allowance.pass_step()

    def may_overlap(self, num_sequences: int) -> bool:
        """Whether a step may be submitted while one runs.

        Args:
            num_sequences: That will decode in it.
        """
        return not self._is_waiting and not self._wants_tokens(num_sequences)

    def _wants_tokens(self, num_sequences: int) -> bool:
        """Whether guesses of so many sequences may pay."""
        curve = self._cost.curve(num_sequences) if num_sequences else None
        if curve is None or curve.is_plain_due:
            return False
        return self._size(num_sequences).allowance.is_open

    def propose(self, sequences: AbstractSequence[Sequence]) -> Mapping[int, AbstractSequence[int]]:
        """Drafts of the next step, by sequence id.

        Args:
            sequences: Those that may have some; their last token is known.
        """
        self._proposals.clear()
        self._curve = None
        self._is_waiting = False
        count = self._num_asked = len(sequences)
        if not count:
            return _NOTHING
        size = self._size(count)
        self._following.begin(size.allowance.rest)
        if not self._following.is_on:
            self._read.clear()
        if not size.allowance.is_open or not self._following.is_ready:
            return _NOTHING
        curve = self._cost.curve(count)
        if curve is None or curve.is_plain_due:
            return _NOTHING
        self._curve, self._is_waiting = curve, self._overlaps
        if not size.attempt.num_steps and not self._proposer.is_free:
            self._acceptance.doubt()
        for sequence in sequences:
            proposal = self._proposer.propose(sequence)
            if proposal is not None:
                self._proposals[sequence.sequence_id] = proposal
        chosen = self._chosen(curve)
        if chosen or self._proposer.is_free:
            return chosen
        if not size.attempt.is_over:
            return self._trial(sequences, size.attempt.most_sequences)
        size.rest(HOPELESS_REST if self._is_hopeless(curve) else 0)
        self._curve, self._is_waiting = None, False
        return _NOTHING

    def observe(
        self,
        batch: ScheduledBatch,
        updates: AbstractSequence[tuple[Sequence, AbstractSequence[SampledToken]]],
        seconds: float,
        looking_seconds: float = 0.0,
        drafter_seconds: float = 0.0,
    ) -> None:
        """Learns from a step that was proposed for, and its tokens.

        Args:
            seconds: That it took, all in all.
            looking_seconds: Those of them that `propose` took.
            drafter_seconds: That whoever guesses took on the worker's side, as far as it is known.
        """
        self._unpaid += drafter_seconds
        if not self._num_asked:
            return
        size = self._size(self._num_asked)
        if self._curve is not None:
            self._settle(self._curve, size, batch, updates, seconds, looking_seconds)
            return
        self._pass_plain(size, batch, seconds - looking_seconds - drafter_seconds)
        if self._unpaid:
            curve = self._cost.curve(self._num_asked)
            if curve is not None:
                size.allowance.charge(self._take_unpaid() / curve.seconds(0))

    def add_cost(self, seconds: float) -> None:
        """What a step took for guesses beside all that `observe` was told."""
        self._unpaid += seconds

    def observe_overlapped(self, batch: ScheduledBatch, seconds: float) -> None:
        """Learns from a step that was submitted while another ran.

        Args:
            seconds: Since that one was done.
        """
        self._pass_plain(self._size(len(batch.entries)), batch, seconds)

    def forget(self, sequence_id: int) -> None:
        """The sequence has ended."""
        self._proposer.forget(sequence_id)
        self._acceptance.forget(sequence_id)
        self._proposals.pop(sequence_id, None)
        self._read.discard(sequence_id)

    def _pass_plain(self, size: _Size, batch: ScheduledBatch, seconds: float) -> None:
        """After a step without guesses, which took so long."""
        count, rest = len(batch.entries), size.allowance.rest
        if rest:
            size.allowance.pass_step()
        if _is_measured(rest) and batch.num_tokens == count:  # no prompts
            self._cost.observe(count, 0, seconds)

    def _chosen(self, curve: Curve) -> Mapping[int, AbstractSequence[int]]:
        """Those that are worth their time, as far as it is known."""
        if not self._proposals:
            return _NOTHING
        proposals = self._proposals.items()
        counts = choose_counts(
            [self._acceptance.probability(name, one.kind) for name, one in proposals],
            [len(one.token_ids) for _, one in proposals],
            self._num_asked,
            curve,
            self._max_drafts,
        )
        return {
            name: one.token_ids[:count]
            for (name, one), count in zip(proposals, counts, strict=True)
            if count
        }

    def _trial(
        self, sequences: AbstractSequence[Sequence], most: int | None
    ) -> Mapping[int, AbstractSequence[int]]:
        """A single draft each, where only running tells whether it comes true: of those that whoever guesses
        has least to read of."""
        most = min(most or len(sequences), self._max_drafts or len(sequences))
        tried = heapq.nsmallest(most, sequences, key=lambda sequence: sequence.num_tokens)
        names = [one.sequence_id for one in tried if one.sequence_id in self._proposals]
        return {name: self._proposals[name].token_ids[:1] for name in names}

    def _is_hopeless(self, curve: Curve) -> bool:
        """Whether not even guesses that all come true would pay, as far as it was measured."""
        lengths = [len(one.token_ids) for one in self._proposals.values()]
        if not lengths or not curve.has_measured(min(_FEW_TRIED, len(lengths))):
            return False
        sure = [1.0] * len(lengths)
        return not any(choose_counts(sure, lengths, self._num_asked, curve, self._max_drafts))

    def _settle(
        self,
        curve: Curve,
        size: _Size,
        batch: ScheduledBatch,
        updates: AbstractSequence[tuple[Sequence, AbstractSequence[SampledToken]]],
        seconds: float,
        looking_seconds: float,
    ) -> None:
        """After a step that might have drafts."""
        num_drafts = num_true = num_tried = 0
        if self._proposals:
            num_drafts, num_true, num_tried = self._compare(batch, updates)
        count, asked = len(batch.entries), self._num_asked
        has_prompts = batch.num_tokens != count + num_drafts
        plain, of_drafter = curve.seconds(0), self._take_unpaid()
        lost = looking_seconds + of_drafter
        if num_drafts:
            usual = curve.seconds(num_drafts) - plain
            if has_prompts:  # their time is nobody's gain or loss
                lost += max(usual - of_drafter, 0.0)
            else:
                lost = max(seconds - plain, lost)
                if curve.has_measured(num_drafts):
                    lost = min(lost, _DISTURBED * max(usual, plain) + of_drafter)
        elif self._is_waiting and not has_prompts:
            lost = max(seconds - plain, 0.0)  # it waited for nothing
        # What whoever guesses reads first of a sequence is no part of what guesses cost from then on.
        is_first = bool(num_drafts) and self._knows_more(batch)
        if not has_prompts and not is_first and (num_drafts or not self._is_waiting):
            own = 0.0 if num_drafts else of_drafter
            self._cost.observe(count, num_drafts, seconds - looking_seconds - own)
        self._is_waiting = False
        gained = num_true / asked - lost / plain
        if num_drafts:
            size.attempt.count(num_true, num_tried, gained)
        size.settle(gained, is_trial=not (self._proposer.is_free or size.attempt.is_over))

    def _knows_more(self, batch: ScheduledBatch) -> bool:
        """Whether some had drafts for the first time since a rest."""
        asked = {entry.sequence_id for entry in batch.entries if entry.num_drafts}
        is_first = not (self._proposer.is_free or asked <= self._read)
        self._read |= asked
        return is_first

    def _take_unpaid(self) -> float:
        unpaid, self._unpaid = self._unpaid, 0.0
        return unpaid

    def _compare(
        self,
        batch: ScheduledBatch,
        updates: AbstractSequence[tuple[Sequence, AbstractSequence[SampledToken]]],
    ) -> tuple[int, int, int]:
        """Proposals with what came: how many drafts ran, came true, and could have."""
        if self._proposer.is_free:
            for sequence, tokens in updates:
                proposal = self._proposals.get(sequence.sequence_id)
                if proposal is not None:
                    came = [token.token_id for token in tokens]
                    self._acceptance.learn(sequence.sequence_id, proposal, came)
        num_drafts = num_true = num_tried = 0
        for entry, tokens in zip(batch.entries, batch.shares, strict=True):
            if entry.num_drafts:
                num_drafts += entry.num_drafts
                num_true += len(tokens) - 1
                num_tried += self._count(entry.sequence_id, entry.num_drafts, len(tokens) - 1)
        return num_drafts, num_true, num_tried

    def _count(self, sequence_id: int, num_drafts: int, num_true: int) -> int:
        """Counts what ran of a sequence; how many could have come true, since all before them did."""
        counts = self.counts
        counts.num_drafts += 1
        counts.num_draft_tokens += num_drafts
        for place in range(num_true):
            counts.num_accepted[place] += 1
        num_tried = min(num_true + 1, num_drafts)
        if not self._proposer.is_free:
            kind = self._proposals[sequence_id].kind
            self._acceptance.count(sequence_id, kind, num_true, num_tried)
        return num_tried

    def _size(self, num_sequences: int) -> _Size:
        """A new one begins with what is known of the nearest."""
        size = size_bucket(num_sequences)
        found = self._sizes.get(size)
        if found is None:
            nearest = min(self._sizes, key=lambda other: abs(other - size), default=None)
            if nearest is None:
                allowance = Allowance(0 if self._proposer.is_free else _LEAST_REST)
            else:
                allowance = self._sizes[nearest].allowance.of_others()
            found = self._sizes[size] = _Size(allowance)
        return found


class _Size:
    """What is known of steps of about as many sequences, beside their costs."""

    __slots__ = ("allowance", "attempt")

    def __init__(self, allowance: Allowance) -> None:
        self.allowance = allowance
        self.attempt = Attempt()

    def settle(self, gained: float, *, is_trial: bool) -> None:
        self.allowance.settle(gained, is_trial=is_trial)
        if not self.allowance.is_open:
            self.attempt = Attempt()

    def rest(self, least: int) -> None:
        self.allowance.give_up(least)
        self.attempt = Attempt()


def _is_measured(rest: int) -> bool:
    """Whether a step without guesses is, with so many at rest to come."""
    return rest <= _LAST_AT_REST or rest % _MEASURED_AT_REST == 0
