"""Acceptance. How often guesses come true, of one sequence and of the load as a whole.

A draft is tried when all before it came true, and comes true with a probability that is taken to be the same
at each position. Both counts fade, so that an answer that begins to copy is noticed, and one that has ended
it too.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from octavo.engine.speculation.proposal import Proposal

_KEPT_OF_SEQUENCE = 0.9
"""Of what a sequence's earlier trials count for, after one more proposal of the same kind."""
_KEPT_OF_LOAD = 0.99
_PRIOR_TRIALS = 2.0
"""Trials that what is known of all sequences counts for in one of them."""
_FIRST_GUESS = 0.5
_TRIALS_IN_DOUBT = 2.0


class _Counts:
    """Faded counts of one kind of proposals."""

    __slots__ = ("num_tried", "num_true")

    def __init__(self) -> None:
        self.num_true = self.num_tried = 0.0

    def add(self, num_true: int, num_tried: int, kept: float) -> None:
        self.num_true = kept * self.num_true + num_true
        self.num_tried = kept * self.num_tried + num_tried

    def doubt(self) -> None:
        if self.num_tried > _TRIALS_IN_DOUBT:
            self.num_true *= _TRIALS_IN_DOUBT / self.num_tried
            self.num_tried = _TRIALS_IN_DOUBT

    def share(self, prior: float) -> float:
        return (self.num_true + _PRIOR_TRIALS * prior) / (self.num_tried + _PRIOR_TRIALS)


class Acceptance:
    """Of proposals of `num_kinds` kinds."""

    def __init__(self, num_kinds: int) -> None:
        self._num_kinds = num_kinds
        self._load = [_Counts() for _ in range(num_kinds)]
        self._sequences: dict[int, list[_Counts]] = {}

    def probability(self, sequence_id: int, kind: int) -> float:
        """That a sequence's draft comes true when all before it did."""
        prior = self._load[kind].share(_FIRST_GUESS)
        own = self._sequences.get(sequence_id)
        return prior if own is None else own[kind].share(prior)

    def learn(self, sequence_id: int, proposal: Proposal, came: Sequence[int]) -> None:
        """Compares a proposal, whether it ran or not, with the tokens that came."""
        num_true = num_tried = 0
        for guess, token in zip(proposal.token_ids, came, strict=False):
            num_tried += 1
            if guess != token:
                break
            num_true += 1
        self.count(sequence_id, proposal.kind, num_true, num_tried)

    def count(self, sequence_id: int, kind: int, num_true: int, num_tried: int) -> None:
        own = self._sequences.get(sequence_id)
        if own is None:
            own = self._sequences[sequence_id] = [_Counts() for _ in range(self._num_kinds)]
        own[kind].add(num_true, num_tried, _KEPT_OF_SEQUENCE)
        self._load[kind].add(num_true, num_tried, _KEPT_OF_LOAD)

    def doubt(self) -> None:
        """What was learnt is old: it counts for a few trials, so that as many new ones outweigh it."""
        for counts in (*self._load, *itertools.chain.from_iterable(self._sequences.values())):
            counts.doubt()

    def forget(self, sequence_id: int) -> None:
        self._sequences.pop(sequence_id, None)
