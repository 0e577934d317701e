"""Attempt: the trials behind a rest, where only running guesses tells whether they come true by now.

A few sequences try first. Where half of their guesses come true all of them do, since what a guess costs is
known of as many alone: whoever guesses does so for all of them at once.
"""

from __future__ import annotations

_FEW = 4
"""Sequences, and guesses that are enough to tell."""
_FEWEST_STEPS = 2
"""In the first, whoever guesses may have to read all of the sequences, and a step of a new size is slow."""
_DEAREST = 2.0
"""Steps without drafts; beyond, no further trial is made."""


class Attempt:
    """Of steps of about as many sequences."""

    __slots__ = ("_lost", "_num_tried", "_num_true", "num_steps")

    def __init__(self) -> None:
        self.num_steps = self._num_tried = self._num_true = 0
        self._lost = 0.0

    @property
    def most_sequences(self) -> int | None:
        """Of the next trial; None: all."""
        return None if self._is_promising else _FEW

    @property
    def is_over(self) -> bool:
        is_enough = self._num_tried >= _FEW or self._lost > _DEAREST
        return is_enough and self.num_steps >= _FEWEST_STEPS + self._is_promising

    def count(self, num_true: int, num_tried: int, gained: float) -> None:
        """A step with drafts, of which so many came true, and could have; see `Allowance.settle` of what it
        gained."""
        self.num_steps += 1
        self._num_true += num_true
        self._num_tried += num_tried
        self._lost -= gained

    @property
    def _is_promising(self) -> bool:
        return self.num_steps > 0 and 2 * self._num_true >= self._num_tried
