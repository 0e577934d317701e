"""Masks ahead: what a step's grammars let through is worked out beside the model's step, in a thread that
takes the interpreter's lock for moments alone.

Where the model computes on all cores there is none for it, and masks that are worked out sooner than a thread
wakes need none: the sampler works them out behind the step then, all rows together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

from octavo.sampling.processors.grammar import prepare_masks
from octavo.sampling.state import SamplingState
from octavo.token_mask import WORTH_A_THREAD
from octavo.worker import machine
from octavo.worker.batch import ScheduledSequence


class MasksAhead:
    """
    Args:
        vocab_size: Of the model.
        has_core: One is left beside those that the model computes on.
    """

    def __init__(self, vocab_size: int, *, has_core: bool) -> None:
        self._vocab_size = vocab_size
        self._has_core = has_core
        self._thread: ThreadPoolExecutor | None = None

    @classmethod
    def of(cls, vocab_size: int, num_ranks: int) -> MasksAhead:
        """Where so many ranks of a model compute on this machine, each with as many threads as this one."""
        num_threads = num_ranks * torch.get_num_threads()
        return cls(vocab_size, has_core=machine.available_cpus() > num_threads)

    @contextmanager
    def beside(self, entries: Sequence[ScheduledSequence]) -> Iterator[None]:
        """Around the model's step of these: their masks are there at its end, those behind guesses too."""
        states = _following(entries) if self._has_core else []
        num_masks = sum(1 + len(state.guesses) for state in states)
        if num_masks * self._vocab_size < WORTH_A_THREAD:
            yield
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="masks")
        future = self._thread.submit(prepare_masks, states)
        try:
            yield
        finally:
            future.result()


def _following(entries: Sequence[ScheduledSequence]) -> list[SamplingState]:
    """What is sampled by a grammar, with the entry's guesses."""
    found = list[SamplingState]()
    for entry in entries:
        state = entry.sampling
        if state is None or state.grammar is None:
            continue
        if entry.num_drafts:
            guesses = tuple(entry.token_ids[-entry.num_drafts :])
            state = dataclasses.replace(state, guesses=guesses)
        found.append(state)
    return found
