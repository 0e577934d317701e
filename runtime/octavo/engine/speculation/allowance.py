"""Allowance: what guessing may lose, as a share of the time that steps take without it.

The choice of drafts rests on estimates, which are wrong now and then, and to look for guesses costs time
where none is found. So there is an account: each step earns a little, what guessing gained and lost is added,
and when it is overdrawn all guessing rests for as many steps as earn the debt back. A rest is one number that
is counted down: it costs nothing. Then text that does not copy costs no more than what steps earn, whatever
the machine and however wrong the estimates. Counted in steps without drafts. Pure.

Who has to run guesses to learn whether they come true tries a few after each rest; the longer these have
failed, the longer it rests, up to a bound within which a text that can be guessed is found again.
"""

from __future__ import annotations

import math

_SHARE = 0.01
"""Of a step, that each one earns."""
_MOST_OWED = 0.5
_MOST_OWED_MORE = 2.0
"""Beside what an attempt cost, until what it found has gained that back."""
_MOST_LOST = 40.0
"""By one step: what took longer was disturbed. 4000 steps of rest pay for it."""
_MOST_SAVED = 4.0
"""Of what was gained, so that a few bad steps do not end what gained for long."""
_MOST_EARNED = 1.0
"""Of what is saved, by steps that gained nothing."""
_MOST_FAILED = 3
HOPELESS_REST = 2048
"""Steps, where not even guesses that all come true would pay, as far as it was measured."""


class Allowance:
    """Of steps of about as many sequences.

    Args:
        least_rest: Steps after a first failure; each further one doubles it, three times at most.
    """

    __slots__ = ("_balance", "_floor", "_least_rest", "_num_failed", "rest")

    def __init__(self, least_rest: int = 0) -> None:
        self._least_rest = least_rest
        self._balance = 0.0
        self._floor = -_MOST_OWED
        self._num_failed = 0
        self.rest = 0
        """Steps that are still to be without guesses."""

    def of_others(self) -> Allowance:
        """One of steps of which nothing is known but this: what was gained is not theirs."""
        other = Allowance(self._least_rest)
        other._balance = min(self._balance, 0.0)
        other._num_failed, other.rest = self._num_failed, self.rest
        return other

    @property
    def is_open(self) -> bool:
        """Whether the next step may guess."""
        return not self.rest

    def pass_step(self) -> None:
        """After a step at rest: what it earns was counted when the rest began."""
        self.rest -= 1

    def charge(self, cost: float) -> None:
        """For what a step at rest spent on guesses to come."""
        self._balance -= min(cost, _MOST_LOST)

    def settle(self, gained: float, *, is_trial: bool = False) -> None:
        """After a step that might guess.

        Args:
            is_trial: An attempt goes on, which has an end of its own.
            gained: What it brought beside one that neither guessed nor looked, in such steps; negative where
                it took longer for as many tokens.
        """
        self._balance = min(self._balance + max(gained, -_MOST_LOST), _MOST_SAVED)
        self._earn(1)
        if self._balance > _MOST_EARNED:
            self._num_failed = 0
        if is_trial:
            self._floor = min(self._balance - _MOST_OWED_MORE, -_MOST_OWED)
            return
        self._floor = max(self._floor, min(self._balance - _MOST_OWED_MORE, -_MOST_OWED))
        if self._balance <= self._floor:
            self.give_up()

    def give_up(self, least: int = 0) -> None:
        """Guesses rest: until what is owed is earned, and at least so many steps."""
        least = max(least, self._least_rest << min(self._num_failed, _MOST_FAILED))
        self._num_failed += 1
        self._floor = -_MOST_OWED
        self.rest = max(math.ceil(-self._balance / _SHARE), least, 1)
        self._earn(self.rest)

    def _earn(self, num_steps: int) -> None:
        earned = min(self._balance + num_steps * _SHARE, _MOST_EARNED)
        self._balance = max(self._balance, earned)
