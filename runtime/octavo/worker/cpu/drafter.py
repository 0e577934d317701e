"""Drafter: who guesses on the worker's side, because it takes a model to do it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from octavo.worker.batch import ScheduledSequence
from octavo.worker.cpu.step_inputs import StepInputs


class Drafter(Protocol):
    """Its caches hold of each block what belongs to the tokens that the model's block of the same number
    holds: sequences share, copy and lose blocks of both at once. What it does not know of a block makes its
    guesses worse, and no answer wrong."""

    def rest(self) -> None:
        """In place of all else, of a step that need not be followed. What it misses it does without."""
        ...

    def begin(self, released: Iterable[int], copies: Sequence[tuple[int, int]]) -> None:
        """Before each step, with what the step's batch says of sequences and blocks."""
        ...

    def propose(self, entries: Sequence[ScheduledSequence]) -> list[ScheduledSequence]:
        """The entries with guesses in the places of drafts."""
        ...

    def follow(self, entries: Sequence[ScheduledSequence], inputs: StepInputs) -> None:
        """After the model has run the entries that `propose` gave, laid out as `inputs`."""
        ...


MakeDrafter = Callable[[], Drafter]
"""Of weights that were read, with an empty KV cache."""
