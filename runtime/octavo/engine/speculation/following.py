"""Following: when who guesses on the worker's side has to see what the model does, and when it need not.

A head reads the model's hidden states, and a draft model its prompts. Where guesses rest for long that is
work for nothing, and they see nothing at all then; so many steps before guesses are tried again they begin to
follow. What they have missed they do without.
"""

from __future__ import annotations

_PATIENCE = 16
"""Steps in a row for which guesses may rest before nobody follows: the next one may be of fewer sequences."""


class Following:
    """Args:
    lead: Steps that must have been followed before a guess.
    """

    __slots__ = ("_lead", "_num_followed", "_num_unwanted")

    def __init__(self, lead: int) -> None:
        self._lead = lead
        self._num_followed = lead  # what comes first is seen from its beginning
        self._num_unwanted = 0

    @property
    def is_on(self) -> bool:
        return self._num_unwanted <= _PATIENCE

    @property
    def is_ready(self) -> bool:
        """Whether the next step may have guesses."""
        return self.is_on and self._num_followed >= self._lead

    def begin(self, rest: int) -> None:
        """Before a step whose guesses rest for so many more."""
        was_on = self.is_on
        self._num_unwanted = 0 if rest <= self._lead else self._num_unwanted + 1
        if not self.is_on:
            self._num_followed = 0
        elif was_on:
            self._num_followed += 1
