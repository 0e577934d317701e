"""Choice of drafts: how many of each sequence's guesses a step should run.

The one number that counts is expected tokens per second (goodput; SmartSpec, Liu et al. 2024): a draft that
comes true with probability p brings p tokens and the time that its row takes. Guesses of all sequences are
taken in the order of their probabilities, and the best number of them is the one that the measured times
say. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

_MARGIN = 1.02
"""Drafts have to promise so much more than none: what they promise is an estimate."""


class Curve(Protocol):
    """Seconds of a step by its drafts; rises. `reach`: no step should have more."""

    @property
    def reach(self) -> int: ...

    def seconds(self, num_drafts: int) -> float: ...


def choose_counts(
    probabilities: Sequence[float],
    lengths: Sequence[int],
    num_sequences: int,
    curve: Curve,
    max_drafts: int | None = None,
) -> list[int]:
    """How many drafts of each proposal to run.

    Args:
        probabilities: Of each proposal, that a draft comes true when all before it did.
        lengths: Of each proposal, its drafts.
        num_sequences: Of the step; those without a proposal count too.
        max_drafts: Of all proposals together; None: no bound.
    """
    nothing = [0] * len(lengths)
    plain, most = curve.seconds(0), min(sum(lengths), curve.reach)
    if max_drafts is not None:
        most = min(most, max_drafts)
    if not most or _is_hopeless(max(probabilities), most, num_sequences, curve):
        return nothing
    ranked = sorted(
        (-(p**place), index)
        for index, (p, length) in enumerate(zip(probabilities, lengths, strict=True))
        for place in range(1, length + 1)
    )
    expected = float(num_sequences)
    best, best_rate = 0, _MARGIN * expected / plain
    for count, (negative, _) in enumerate(ranked[:most], 1):
        expected -= negative
        rate = expected / curve.seconds(count)
        if rate > best_rate:
            best, best_rate = count, rate
    counts = nothing
    for _, index in ranked[:best]:
        counts[index] += 1
    return counts


def _is_hopeless(best: float, most: int, num_sequences: int, curve: Curve) -> bool:
    """Whether not even drafts that all come true with the best probability would pay: the line from none to
    all of them, and a single one, which looks at nothing else."""
    plain = curve.seconds(0)
    return all(
        (num_sequences + count * best) * plain < num_sequences * curve.seconds(count)
        for count in {1, 2, most // 2, most}
        if count
    )
