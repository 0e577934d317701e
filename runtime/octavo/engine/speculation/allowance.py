"""Allowance: what guessing may lose, as a share of the time that steps take without it.

The choice of drafts rests on estimates, which are wrong now and then, and to look for guesses costs time
where none is found. So there is an account: each step earns a little, what guessing gained and lost is added,
and nobody guesses while it is overdrawn. Then text that does not copy costs no more than what steps earn,
whatever the machine and however wrong the estimates. Counted in steps without drafts. Pure.
"""

from __future__ import annotations

_SHARE = 0.01
"""Of a step, that each one earns."""
_MOST_OWED = 0.5
_MOST_LOST = 1.0
"""By one step: what takes longer was disturbed, or is known for it now and not chosen again."""
_MOST_SAVED = 4.0
"""So that a few bad steps do not end what gained for long."""


class Allowance:
    """Of steps of about as many sequences."""

    __slots__ = ("_balance",)

    def __init__(self) -> None:
        self._balance = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the next step may guess."""
        return self._balance > -_MOST_OWED

    def settle(self, gained: float) -> None:
        """After a step.

        Args:
            gained: What it brought beside one that neither guessed nor looked, in such steps; negative where
                it took longer for as many tokens.
        """
        change = max(gained, -_MOST_LOST) + _SHARE
        self._balance = min(self._balance + change, _MOST_SAVED)
