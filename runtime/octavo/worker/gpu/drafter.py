"""Drafter on a GPU: who guesses there, and the runner whose steps it fills with guesses.

Guesses are made on the device one after another, without the host in between; it waits for them once, before
the step that verifies them is packed, because what shapes scores must know them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from octavo.models.hidden_states import HiddenStates
from octavo.worker.batch import ScheduledSequence, StepBatch
from octavo.worker.gpu.cuda_graphs import Capture
from octavo.worker.gpu.readback import PendingSamples
from octavo.worker.gpu.runner import GpuRunner


class GpuDrafter(Protocol):
    """As the CPU's (`octavo.worker.cpu.drafter`): its caches hold of each block what belongs to the tokens
    that the model's block of the same number holds."""

    def begin(self, released: Sequence[int], copies: Sequence[tuple[int, int]]) -> None:
        """Before each step, with what the step's batch says of sequences and blocks."""
        ...

    def propose(self, entries: Sequence[ScheduledSequence]) -> list[ScheduledSequence]:
        """The entries with guesses in the places of drafts."""
        ...

    def follow(self, entries: Sequence[ScheduledSequence], states: torch.Tensor | None) -> None:
        """After the model's step of the entries that `propose` gave is queued.

        Args:
            states: Its hidden states, `[tokens, watched * hidden]`, until the next step, where they are kept.
        """
        ...

    def capture(self, capture: Capture) -> None:
        """Records what it repeats."""
        ...


@dataclass(frozen=True, slots=True)
class GpuDrafting:
    """What a start knows of who guesses.

    Args:
        make: Of a model's runner, with as many blocks. Raises `InvalidConfigurationError` where it does not
            know so many positions.
        block_bytes: Of a block of its KV cache.
        watch: The model's hidden states that it reads.
        kept_bytes: Of these, what it keeps from step to step.
    """

    make: Callable[[GpuRunner], GpuDrafter]
    block_bytes: int
    watch: HiddenStates | None = None
    kept_bytes: int = 0


class DraftingRunner(GpuRunner):
    """A model's runner with somebody who guesses for it, for profile, warm-up and serving alike.

    Attributes:
        drafter: Set once, before the first step: it is made of this runner.
    """

    drafter: GpuDrafter

    @torch.inference_mode()
    def capture(self, capture: Capture) -> None:
        super().capture(capture)
        self.drafter.capture(capture)

    @torch.inference_mode()
    def submit(self, batch: StepBatch) -> PendingSamples:
        self.drafter.begin(batch.released, batch.block_copies)
        entries = batch.entries
        if any(entry.num_drafts and entry.sampling is not None for entry in entries):
            entries = self.drafter.propose(entries)
        pending = super().submit(StepBatch(entries, batch.block_copies, batch.released))
        self.drafter.follow(entries, self.take_states())
        return pending


def cut(block_ids: Sequence[int], num_tokens: int, block_size: int) -> Sequence[int]:
    """The blocks of the first so many tokens."""
    return block_ids[: -(-num_tokens // block_size)]


def drawn_tokens(steps: Iterable[PendingSamples]) -> dict[int, list[int]]:
    """Waits for them; the tokens of each sequence, in the order of the steps."""
    found: dict[int, list[int]] = {}
    for step in steps:
        for token in step.result():
            found.setdefault(token.sequence_id, []).append(token.token_id)
    return found
